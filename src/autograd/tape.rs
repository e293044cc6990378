//! The only builder of new nodes and names. It knows type, shape and sample layout of every value.

use super::GradError;
use super::rules::{self, Gradient, Rewrite};
use crate::graph::{Graph, Input, Name, Node, attribute};
use crate::specialise::Specialised;
use crate::specialise::samples::{self, Facts, Layout};
use crate::tensor::{DType, Tensor};
use ndarray::{ArrayD, IxDyn};
use onnx_protobuf::AttributeProto;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names that the tape makes start with this; a model's own names never do.
pub const PREFIX: &str = "onnx_unlearn/";

/// A graph that grows at its end.
pub struct Tape {
    pub(super) graph: Graph,
    pub(super) facts: Facts,
    /// Values that are a parameter, with its elements perhaps moved or picked.
    pub(super) weights: BTreeSet<Name>,
    made: usize,
    /// The name of the node that is being rewritten.
    within: Option<String>,
    /// No constant is computed from the value of a parameter: the graph is that of the parameters' names.
    parameters_kept: bool,
}

impl Tape {
    /// Starts from a specialised graph, rewrites what has a rewriting, and notes the sample layout of its values.
    ///
    /// # Errors
    /// A name of the model starts with the reserved prefix; a node between the parameters and the outputs
    /// cannot be rewritten.
    pub(super) fn new(specialised: Specialised, parameters: &BTreeSet<Name>) -> Result<Tape, GradError> {
        let Specialised { mut graph, facts } = specialised;
        let taken = facts.kinds.keys().find(|name| name.starts_with(PREFIX));
        if let Some(name) = taken {
            return Err(GradError::ReservedName { name: crate::error::printable(name) });
        }
        let nodes = std::mem::take(&mut graph.nodes);
        let mut read: BTreeSet<Name> = graph.outputs.iter().cloned().collect();
        read.extend(nodes.iter().flat_map(|n| n.inputs.iter().flatten().cloned().chain(n.captured())));
        let mut reached = parameters.clone();
        let weights = parameters.clone();
        let mut tape = Tape { graph, facts, weights, made: 0, within: None, parameters_kept: false };
        for node in nodes {
            let depends = node.inputs.iter().flatten().any(|i| reached.contains(i));
            if depends {
                reached.extend(node.outputs.iter().flatten().cloned());
            }
            let rewritten = match rules::find(&node, tape.graph.opset()).map(|row| &row.gradient) {
                Some(Gradient::Rewrite(rewrite)) => Some(tape.rewrite(&node, *rewrite, &read)),
                _ => None,
            };
            match rewritten {
                Some(Ok(())) => {}
                Some(Err(error)) if depends => return Err(error),
                _ => {
                    tape.note_layout(&node);
                    tape.graph.nodes.push(node);
                }
            }
        }
        Ok(tape)
    }

    /// From here on no constant is computed from the value of a parameter.
    pub(super) fn with_parameters_kept(self) -> Tape {
        Tape { parameters_kept: true, ..self }
    }

    /// Writes a node of the model as nodes that have rules. Outputs keep their names.
    fn rewrite(&mut self, node: &Node, rewrite: Rewrite, read: &BTreeSet<Name>) -> Result<(), GradError> {
        let named = || node.outputs.iter().flatten().next().map(|o| o.to_string()).unwrap_or_default();
        self.within = Some(if node.name.is_empty() { named() } else { node.name.clone() });
        let values = rewrite(node, self);
        self.within = None;
        let mut values = values?;
        values.resize(node.outputs.len(), None);
        let wanted = node.outputs.iter().zip(values).filter_map(|(o, v)| o.as_ref().map(|o| (o, v)));
        let wanted: Vec<(&Name, Option<Name>)> = wanted.filter(|(o, _)| read.contains(*o)).collect();
        if let Some((output, _)) = wanted.iter().find(|(_, value)| value.is_none()) {
            let reason = format!("its output '{}' is used", crate::error::printable(output));
            return Err(GradError::unsupported(node, reason));
        }
        for (output, value) in wanted {
            let identity = Node {
                name: format!("{PREFIX}{output}"),
                domain: String::new(),
                op: "Identity".into(),
                inputs: vec![value],
                outputs: vec![Some(output.clone())],
                attributes: vec![],
            };
            self.note_layout(&identity);
            self.graph.nodes.push(identity);
        }
        Ok(())
    }

    fn note_layout(&mut self, node: &Node) {
        let rule = rules::find(node, self.graph.opset()).map(|row| row.samples);
        for output in node.outputs.iter().flatten() {
            let layout = self.facts.propagate(node, output, rule);
            self.facts.layouts.insert(output.clone(), layout);
        }
    }

    pub fn shape(&self, value: &Name) -> Vec<usize> {
        self.facts.shape(value).to_vec()
    }

    pub fn rank(&self, value: &Name) -> usize {
        self.facts.shape(value).len()
    }

    pub fn dtype(&self, value: &Name) -> DType {
        self.facts.kinds.get(value).map_or(DType::F32, |(dtype, _)| *dtype)
    }

    /// Number of samples in the batch.
    pub fn batch(&self) -> usize {
        self.facts.batch
    }

    /// Whether another constant may be computed from a constant that may be a parameter.
    pub fn may_precompute(&self) -> bool {
        !self.parameters_kept
    }

    /// Whether a value is a parameter, with its elements perhaps moved or picked.
    pub fn is_weight(&self, value: &Name) -> bool {
        self.weights.contains(value)
    }

    /// The value of a constant, parameters included.
    pub fn constant_value(&self, value: &Name) -> Option<&Arc<Tensor>> {
        self.graph.constants.get(value)
    }

    /// Whether a value is computed from an input of the graph.
    pub fn depends_on_input(&self, value: &Name) -> bool {
        let mut read: BTreeSet<&Name> = BTreeSet::from([value]);
        for node in self.graph.nodes.iter().rev() {
            if node.outputs.iter().flatten().any(|o| read.contains(o)) {
                read.extend(node.inputs.iter().flatten());
            }
        }
        self.graph.inputs.iter().any(|input| read.contains(&input.name))
    }

    /// The elements of an integer constant.
    ///
    /// # Errors
    /// The operand depends on data.
    pub fn integers(&self, node: &Node, value: &Name) -> Result<Vec<i64>, GradError> {
        self.constant_value(value)
            .and_then(|t| t.to_i64())
            .ok_or_else(|| GradError::unsupported(node, format!("operand '{value}' is not a constant")))
    }

    fn fresh(&mut self, op: &str) -> Name {
        self.made += 1;
        format!("{PREFIX}{}_{op}", self.made).into()
    }

    /// An input of the graph.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Name {
        let name: Name = format!("{PREFIX}{name}").into();
        let input = Input { name: name.clone(), dtype, shape: shape.iter().map(|&d| Some(d)).collect() };
        self.graph.inputs.push(input);
        self.facts.kinds.insert(name.clone(), (dtype, shape.to_vec()));
        let stride = samples::stride(shape, 0);
        let layout = match self.batch() {
            1 => Layout::Shared,
            _ => Layout::Samples { stride },
        };
        self.facts.layouts.insert(name.clone(), layout);
        name
    }

    /// A constant of the graph.
    pub fn constant(&mut self, tensor: Tensor) -> Name {
        let name = self.fresh("constant");
        self.facts.kinds.insert(name.clone(), (tensor.dtype(), tensor.shape().to_vec()));
        self.facts.layouts.insert(name.clone(), Layout::Shared);
        let tensor = Arc::new(tensor);
        self.graph.constants.insert(name.clone(), tensor.clone());
        self.facts.constants.insert(name.clone(), tensor);
        name
    }

    /// A one-dimensional integer constant.
    pub fn constant_integers(&mut self, values: &[i64]) -> Name {
        self.constant(Tensor::I64(ndarray::arr1(values).into_dyn()))
    }

    /// A constant of a floating-point type from numbers in f64.
    pub fn constant_floats(&mut self, dtype: DType, values: ArrayD<f64>) -> Name {
        self.constant(Tensor::from_f64(dtype, values))
    }

    /// A scalar constant of the type of `like`.
    pub fn scalar(&mut self, like: &Name, value: f64) -> Name {
        let dtype = self.dtype(like);
        self.constant_floats(dtype, ndarray::arr0(value).into_dyn())
    }

    /// Zeros of the type of `like`.
    pub fn zeros(&mut self, like: &Name, shape: &[usize]) -> Name {
        let dtype = self.dtype(like);
        self.constant_floats(dtype, ArrayD::zeros(IxDyn(shape)))
    }

    /// A node of the default domain with one output of the given type and shape.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&Name],
        attributes: Vec<AttributeProto>,
        kind: (DType, Vec<usize>),
    ) -> Name {
        let output = self.fresh(op);
        self.push(op, inputs, attributes, vec![(output.clone(), kind)]);
        output
    }

    fn push(
        &mut self,
        op: &str,
        inputs: &[&Name],
        attributes: Vec<AttributeProto>,
        outputs: Vec<(Name, (DType, Vec<usize>))>,
    ) {
        let name = outputs.first().map(|(o, _)| o.to_string()).unwrap_or_default();
        let node = Node {
            name: self.within.as_ref().map_or_else(|| name.clone(), |within| format!("{within}/{name}")),
            domain: String::new(),
            op: op.to_string(),
            inputs: inputs.iter().map(|&i| Some(i.clone())).collect(),
            outputs: outputs.iter().map(|(o, _)| Some(o.clone())).collect(),
            attributes,
        };
        self.facts.kinds.extend(outputs);
        self.note_layout(&node);
        self.graph.nodes.push(node);
    }

    /// The second output of a node of the forward graph, which is asked for where it was not.
    pub fn second_output(&mut self, node: &Node, dtype: DType, shape: &[usize]) -> Name {
        if let Some(Some(name)) = node.outputs.get(1) {
            return name.clone();
        }
        let name = self.fresh("second");
        let owner = self.graph.nodes.iter_mut().find(|n| n.outputs.first() == node.outputs.first());
        if let Some(owner) = owner {
            owner.outputs.resize(1, None);
            owner.outputs.push(Some(name.clone()));
        }
        let layout = node.outputs.iter().flatten().next().map(|o| self.facts.layout(o));
        self.facts.layouts.insert(name.clone(), layout.unwrap_or(Layout::Mixed));
        self.facts.kinds.insert(name.clone(), (dtype, shape.to_vec()));
        name
    }

    /// An element-wise operator on one operand.
    pub fn unary(&mut self, op: &str, x: &Name) -> Name {
        let kind = (self.dtype(x), self.shape(x));
        self.node(op, &[x], vec![], kind)
    }

    fn binary(&mut self, op: &str, a: &Name, b: &Name) -> Name {
        let kind = (self.dtype(a), broadcast(&self.shape(a), &self.shape(b)));
        self.node(op, &[a, b], vec![], kind)
    }

    pub fn add(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Add", a, b)
    }

    pub fn sub(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Sub", a, b)
    }

    pub fn mul(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Mul", a, b)
    }

    pub fn div(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Div", a, b)
    }

    pub fn pow(&mut self, a: &Name, b: &Name) -> Name {
        self.binary("Pow", a, b)
    }

    /// `x` times a number.
    pub fn scale(&mut self, x: &Name, by: f64) -> Name {
        if by == 1.0 {
            return x.clone();
        }
        let by = self.scalar(x, by);
        self.mul(x, &by)
    }

    /// `x` plus a number.
    pub fn shift(&mut self, x: &Name, by: f64) -> Name {
        let by = self.scalar(x, by);
        self.add(x, &by)
    }

    /// A comparison (`Greater`, `Less`, `Equal`, …) of two operands.
    pub fn compare(&mut self, op: &str, a: &Name, b: &Name) -> Name {
        let kind = (DType::Bool, broadcast(&self.shape(a), &self.shape(b)));
        self.node(op, &[a, b], vec![], kind)
    }

    /// A comparison of an operand with a number.
    pub fn compare_with(&mut self, op: &str, a: &Name, b: f64) -> Name {
        let b = self.scalar(a, b);
        self.compare(op, a, &b)
    }

    /// `a` where `condition` holds, else `b`.
    pub fn select(&mut self, condition: &Name, a: &Name, b: &Name) -> Name {
        let shape = broadcast(&self.shape(condition), &broadcast(&self.shape(a), &self.shape(b)));
        let kind = (self.dtype(a), shape);
        self.node("Where", &[condition, a, b], vec![], kind)
    }

    /// `a` where `condition` holds, else zero.
    pub fn keep_where(&mut self, condition: &Name, a: &Name) -> Name {
        let zero = self.scalar(a, 0.0);
        self.select(condition, a, &zero)
    }

    pub fn cast(&mut self, x: &Name, to: DType) -> Name {
        if self.dtype(x) == to {
            return x.clone();
        }
        let kind = (to, self.shape(x));
        self.node("Cast", &[x], vec![attribute("to", to.to_onnx() as i64)], kind)
    }

    pub fn reshape(&mut self, x: &Name, shape: &[usize]) -> Name {
        if self.shape(x) == shape {
            return x.clone();
        }
        let target = self.constant_integers(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), shape.to_vec());
        // A zero would otherwise stand for the length that the axis has.
        let attributes = if shape.contains(&0) { vec![attribute("allowzero", 1)] } else { vec![] };
        self.node("Reshape", &[x, &target], attributes, kind)
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
        let from = self.shape(x);
        let kind = (self.dtype(x), perm.iter().map(|&p| from[p]).collect());
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        self.node("Transpose", &[x], vec![attribute("perm", perm)], kind)
    }

    /// The last two axes swapped.
    pub fn swap_last(&mut self, x: &Name) -> Name {
        let mut perm: Vec<usize> = (0..self.rank(x)).collect();
        let rank = perm.len();
        perm.swap(rank - 1, rank - 2);
        self.transpose(x, &perm)
    }

    /// The sum over axes, which stay with length 1.
    pub fn sum(&mut self, x: &Name, axes: &[usize]) -> Name {
        if axes.is_empty() {
            return x.clone();
        }
        let mut shape = self.shape(x);
        for &axis in axes {
            shape[axis] = 1;
        }
        let axes = self.constant_integers(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), shape);
        self.node("ReduceSum", &[x, &axes], vec![attribute("keepdims", 1)], kind)
    }

    /// The sum over axes as a value of the given shape, which has the other axes in their order.
    pub fn sum_to(&mut self, x: &Name, axes: &[usize], shape: &[usize]) -> Name {
        let from = self.shape(x);
        let left: Vec<usize> = (0..from.len()).filter(|i| !axes.contains(i)).map(|i| from[i]).collect();
        if axes.is_empty() || left != shape {
            let sum = self.sum(x, axes);
            return self.reshape(&sum, shape);
        }
        let axes = self.constant_integers(&axes.iter().map(|&a| a as i64).collect::<Vec<_>>());
        let kind = (self.dtype(x), left);
        self.node("ReduceSum", &[x, &axes], vec![attribute("keepdims", 0)], kind)
    }

    /// The mean over axes, which stay with length 1.
    pub fn mean(&mut self, x: &Name, axes: &[usize]) -> Name {
        let count: usize = axes.iter().map(|&a| self.shape(x)[a]).product();
        let total = self.sum(x, axes);
        self.scale(&total, 1.0 / count as f64)
    }

    /// The matrix product over the last two axes, leading axes broadcast. Both operands have at least two axes.
    pub fn matmul(&mut self, a: &Name, b: &Name) -> Name {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let (la, lb) = (sa.len(), sb.len());
        let mut shape = broadcast(&sa[..la - 2], &sb[..lb - 2]);
        shape.extend([sa[la - 2], sb[lb - 1]]);
        let kind = (self.dtype(a), shape);
        self.node("MatMul", &[a, b], vec![], kind)
    }

    /// Elements `start..end` along an axis, step 1.
    pub fn slice(&mut self, x: &Name, axis: usize, start: usize, end: usize) -> Name {
        let mut shape = self.shape(x);
        if (start, end) == (0, shape[axis]) {
            return x.clone();
        }
        shape[axis] = end - start;
        let bounds = [start as i64, end as i64, axis as i64].map(|v| self.constant_integers(&[v]));
        let kind = (self.dtype(x), shape);
        self.node("Slice", &[x, &bounds[0], &bounds[1], &bounds[2]], vec![], kind)
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
        let mut outputs = Vec::new();
        for &length in lengths {
            let mut part = shape.clone();
            part[axis] = length;
            outputs.push((self.fresh("Split"), (dtype, part)));
        }
        let names = outputs.iter().map(|(name, _)| name.clone()).collect();
        let sizes = self.constant_integers(&lengths.iter().map(|&l| l as i64).collect::<Vec<_>>());
        self.push("Split", &[x, &sizes], vec![attribute("axis", axis as i64)], outputs);
        names
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

/// The shape of two operands broadcast against each other, by NumPy's rules. The runtime has
/// already accepted the operands.
pub fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}
