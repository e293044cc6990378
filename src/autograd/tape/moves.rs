//! Operators that move elements and change none.

use super::Tape;
use crate::autograd::GradError;
use crate::graph::{Name, Node, Taken, attribute, taken};
use onnx_protobuf::AttributeProto;

/// Every `step`-th element of `start..end` along an axis.
#[derive(Clone, Copy)]
pub struct Cut {
    pub axis: usize,
    pub start: usize,
    pub end: usize,
    pub step: usize,
}

impl Tape {
    /// What a Slice takes of an operand of the given shape, along each axis that it names.
    ///
    /// # Errors
    /// It is not told by constants; an axis is out of range.
    pub fn taken(&self, node: &Node, from: &[usize]) -> Result<Vec<Taken>, GradError> {
        taken(node, from, &self.shape(node.output()?), |list| self.integers(node, list))
    }

    pub fn reshape(&mut self, x: &Name, shape: &[usize]) -> Name {
        let x = &self.reshaped.get(x).unwrap_or(x).clone();
        if self.shape(x) == shape {
            return x.clone();
        }
        let (target, attributes) = self.target(shape);
        let kind = (self.dtype(x), shape.to_vec());
        let value = self.node("Reshape", &[x, &target], attributes, kind);
        self.reshaped.insert(value.clone(), x.clone());
        value
    }

    /// The second operand and the attributes of a Reshape to the given shape.
    pub fn target(&mut self, shape: &[usize]) -> (Name, Vec<AttributeProto>) {
        let target = self.constant_integers(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        // A zero would otherwise stand for the length that the axis has.
        let attributes = if shape.contains(&0) { vec![attribute("allowzero", 1)] } else { vec![] };
        (target, attributes)
    }

    /// Zeros of the given shape, to which `values` are added at places along an axis: `places` has the shape of `values`,
    /// or ones in it, and as many axes as the result; `values` are reshaped.
    pub fn scattered(&mut self, shape: &[usize], axis: usize, places: &Name, values: &Name) -> Name {
        let mut picked = shape.to_vec();
        picked[axis] = self.shape(places)[axis];
        let (places, values) = (self.expand(places, &picked), self.reshape(values, &picked));
        let zero = self.scalar(&values, 0.0);
        let zeros = self.expand(&zero, shape);
        let kind = (self.dtype(&values), shape.to_vec());
        let attributes = vec![attribute("axis", axis as i64), attribute("reduction", "add")];
        self.node("ScatterElements", &[&zeros, &places, &values], attributes, kind)
    }

    /// `x` repeated along axes of length 1 to the given shape.
    pub fn expand(&mut self, x: &Name, shape: &[usize]) -> Name {
        if self.shape(x) == shape {
            return x.clone();
        }
        let target = self.constant_integers(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), shape.to_vec());
        self.node("Expand", &[x, &target], vec![], kind)
    }

    pub fn transpose(&mut self, x: &Name, perm: &[usize]) -> Name {
        let (x, perm) = match self.transposed.get(x) {
            Some((source, first)) => (source.clone(), perm.iter().map(|&p| first[p]).collect()),
            None => (x.clone(), perm.to_vec()),
        };
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return x;
        }
        let from = self.shape(&x);
        let kind = (self.dtype(&x), perm.iter().map(|&p| from[p]).collect());
        let order: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        let value = self.node("Transpose", &[&x], vec![attribute("perm", order)], kind);
        self.transposed.insert(value.clone(), (x, perm));
        value
    }

    /// The last two axes swapped.
    pub fn swap_last(&mut self, x: &Name) -> Name {
        let mut perm: Vec<usize> = (0..self.rank(x)).collect();
        let rank = perm.len();
        perm.swap(rank - 1, rank - 2);
        self.transpose(x, &perm)
    }

    /// Elements `start..end` along an axis, step 1.
    pub fn slice(&mut self, x: &Name, axis: usize, start: usize, end: usize) -> Name {
        self.slices(x, &[Cut { axis, start, end, step: 1 }])
    }

    /// The elements of each cut along its axis.
    pub fn slices(&mut self, x: &Name, cuts: &[Cut]) -> Name {
        let mut shape = self.shape(x);
        let whole = |cut: &Cut| (cut.start, cut.end, cut.step) == (0, shape[cut.axis], 1);
        let cuts: Vec<Cut> = cuts.iter().filter(|cut| !whole(cut)).copied().collect();
        if cuts.is_empty() {
            return x.clone();
        }
        for cut in &cuts {
            shape[cut.axis] = (cut.end - cut.start).div_ceil(cut.step);
        }
        let bounds = self.bounds(&cuts);
        let inputs: Vec<&Name> = std::iter::once(x).chain(&bounds).collect();
        let kind = (self.dtype(x), shape);
        self.node("Slice", &inputs, vec![], kind)
    }

    /// The operands of a Slice after the first, for these cuts.
    pub fn bounds(&mut self, cuts: &[Cut]) -> Vec<Name> {
        let mut list = |of: fn(&Cut) -> usize| {
            let values: Vec<i64> = cuts.iter().map(|cut| of(cut) as i64).collect();
            self.constant_integers(&values)
        };
        let bounds = [list(|c| c.start), list(|c| c.end), list(|c| c.axis)];
        let steps = cuts.iter().any(|cut| cut.step != 1).then(|| list(|c| c.step));
        bounds.into_iter().chain(steps).collect()
    }

    /// The order along an axis reversed.
    pub fn reverse(&mut self, x: &Name, axis: usize) -> Name {
        let kind = (self.dtype(x), self.shape(x));
        let backwards = self.constant_integers(&(0..kind.1[axis] as i64).rev().collect::<Vec<_>>());
        self.node("Gather", &[x, &backwards], vec![attribute("axis", axis as i64)], kind)
    }

    pub fn concat(&mut self, parts: &[&Name], axis: usize) -> Name {
        if let [only] = parts {
            return (*only).clone();
        }
        let mut shape = self.shape(parts[0]);
        shape[axis] = parts.iter().map(|p| self.shape(p)[axis]).sum();
        let kind = (self.dtype(parts[0]), shape);
        self.node("Concat", parts, vec![attribute("axis", axis as i64)], kind)
    }

    /// Parts of the given lengths along an axis.
    pub fn split(&mut self, x: &Name, axis: usize, lengths: &[usize]) -> Vec<Name> {
        let (dtype, shape) = (self.dtype(x), self.shape(x));
        let part = |&length: &usize| {
            let mut part = shape.clone();
            part[axis] = length;
            Some((dtype, part))
        };
        let sizes = self.constant_integers(&lengths.iter().map(|&l| l as i64).collect::<Vec<_>>());
        let attributes = vec![attribute("axis", axis as i64)];
        self.nodes("Split", &[Some(x), Some(&sizes)], attributes, lengths.iter().map(part).collect())
    }

    /// Zeros put before and after along one axis.
    pub fn pad(&mut self, x: &Name, axis: usize, before: usize, after: usize) -> Name {
        if (before, after) == (0, 0) {
            return x.clone();
        }
        let mut shape = self.shape(x);
        let mut pads = vec![0; 2 * shape.len()];
        pads[axis] = before as i64;
        pads[shape.len() + axis] = after as i64;
        shape[axis] += before + after;
        let pads = self.constant_integers(&pads);
        let kind = (self.dtype(x), shape);
        self.node("Pad", &[x, &pads], vec![], kind)
    }
}
