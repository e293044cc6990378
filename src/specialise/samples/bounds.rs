//! The least and the largest integer that each element of a value may be: it tells whose entries data picks.

use super::{Facts, Layout, SampleAxis, locate};
use crate::graph::{Name, Node};
use crate::tensor::DType;
use ndarray::{Array, ArrayD, IxDyn, Zip};

/// The most elements of a value whose bounds are noted.
const NOTED: usize = 1 << 16;

/// Both in the value's shape.
#[derive(Clone, Debug)]
pub struct Bounds {
    low: ArrayD<i64>,
    high: ArrayD<i64>,
}

impl Facts {
    /// Notes the bounds of what a node gives: the place of an extreme lies on its axis, a sum between the sums of its
    /// terms' bounds; moving elements or casting integers keeps them.
    pub fn note_bounds(&mut self, node: &Node) {
        let Ok(output) = node.output() else { return };
        let Some((dtype, shape)) = self.kinds.get(output) else { return };
        // What is no larger has not wrapped around.
        let largest = match dtype {
            DType::I64 => u64::MAX / 4,
            DType::I32 => i32::MAX as u64,
            _ => return,
        };
        if shape.iter().product::<usize>() > NOTED {
            return;
        }
        let shape = shape.clone();
        let bounds = match (node.domain.as_str(), node.op.as_str()) {
            ("", "ArgMax" | "ArgMin") => self.of_places(node, &shape),
            ("", "Add") => self.of_sum(node, &shape),
            ("", "Cast" | "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze") => self.moved(node, &shape),
            _ => None,
        };
        let fits = |bounds: &Bounds| bounds.low.iter().chain(&bounds.high).all(|bound| bound.unsigned_abs() <= largest);
        if let Some(bounds) = bounds.filter(fits) {
            self.bounds.insert(output.clone(), bounds);
        }
    }

    fn of_places(&self, node: &Node, shape: &[usize]) -> Option<Bounds> {
        let from = self.shape(node.input(0)?);
        let last = from[node.axis("axis", 0, from.len()).ok()?] as i64 - 1;
        Some(Bounds { low: Array::zeros(shape), high: Array::from_elem(shape, last) })
    }

    fn of_sum(&self, node: &Node, shape: &[usize]) -> Option<Bounds> {
        let [a, b] = [0, 1].map(|i| self.bounds_of(node.input(i)?));
        let (a, b) = (a?, b?);
        let sum = |a: &ArrayD<i64>, b: &ArrayD<i64>| {
            let (a, b) = (a.broadcast(shape)?, b.broadcast(shape)?);
            Some(Zip::from(a).and(b).map_collect(|&a, &b| a.saturating_add(b)))
        };
        Some(Bounds { low: sum(&a.low, &b.low)?, high: sum(&a.high, &b.high)? })
    }

    fn moved(&self, node: &Node, shape: &[usize]) -> Option<Bounds> {
        let Bounds { low, high } = self.bounds_of(node.input(0)?)?;
        let moved = |bound: ArrayD<i64>| bound.into_shape_with_order(IxDyn(shape)).ok();
        Some(Bounds { low: moved(low)?, high: moved(high)? })
    }

    fn bounds_of(&self, value: &Name) -> Option<Bounds> {
        let known = || {
            let exact = ArrayD::from_shape_vec(IxDyn(self.shape(value)), self.integers(value)?).ok()?;
            Some(Bounds { low: exact.clone(), high: exact })
        };
        self.bounds.get(value).cloned().or_else(known)
    }

    /// The samples' axis of indices into the first axis of `data`, where both hold the samples one after the other and each
    /// index is proven to stay within its own sample; with the entries of a sample in `data`.
    pub fn own_entries(&self, data: &Name, indices: &Name) -> Option<(SampleAxis, usize)> {
        let SampleAxis { axis: 0, outer: 1, inner: entries } = self.sample_axis(data)? else { return None };
        let Layout::Samples { stride } = self.layout(indices) else { return None };
        let Bounds { low, high } = self.bounds.get(indices)?;
        if stride * self.batch != low.len() {
            return None;
        }
        let own = |(place, (&low, &high)): (usize, (&i64, &i64))| {
            let first = (place / stride * entries) as i64;
            first <= low && high < first + entries as i64
        };
        let all = low.iter().zip(high).enumerate().all(own);
        Some((all.then(|| locate(self.shape(indices), stride, self.batch)).flatten()?, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attribute;
    use crate::tensor::Tensor;
    use ndarray::arr1;
    use std::sync::Arc;

    fn node(op: &str, inputs: &[&str], output: &str) -> Node {
        Node {
            name: String::new(),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(|&input| Some(input.into())).collect(),
            outputs: vec![Some(output.into())],
            attributes: if op == "ArgMax" { vec![attribute("axis", 1)] } else { vec![] },
        }
    }

    /// Bounds of a place among five for each of two samples, plus what is given.
    fn moved_by(firsts: Tensor) -> Option<Bounds> {
        let mut facts = Facts { batch: 2, ..Facts::default() };
        let mut kind = |name: &str, dtype, shape: &[usize]| facts.kinds.insert(name.into(), (dtype, shape.to_vec()));
        kind("x", DType::F32, &[2, 5]);
        kind("place", firsts.dtype(), &[2]);
        kind("firsts", firsts.dtype(), &[2]);
        kind("sum", firsts.dtype(), &[2]);
        facts.constants.insert("firsts".into(), Arc::new(firsts));
        facts.note_bounds(&node("ArgMax", &["x"], "place"));
        facts.note_bounds(&node("Add", &["place", "firsts"], "sum"));
        facts.bounds.remove("sum")
    }

    #[test]
    fn a_place_counts_on_from_where_its_axis_begins() {
        let Bounds { low, high } = moved_by(Tensor::I64(arr1(&[0, 5]).into_dyn())).unwrap();
        assert_eq!((low, high), (arr1(&[0, 5]).into_dyn(), arr1(&[4, 9]).into_dyn()));
    }

    #[test]
    fn a_sum_that_may_wrap_around_has_no_bounds() {
        assert!(moved_by(Tensor::I32(arr1(&[0, i32::MAX - 4]).into_dyn())).is_some());
        assert!(moved_by(Tensor::I32(arr1(&[0, i32::MAX - 3]).into_dyn())).is_none());
        assert!(moved_by(Tensor::I64(arr1(&[0, i64::MAX]).into_dyn())).is_none());
    }
}
