//! The only builder of new nodes and names. It knows type, shape and sample layout of every value, and makes no node
//! twice.

mod elementwise;
mod moves;
mod sums;

pub use moves::Cut;

use super::GradError;
use super::narrow::narrow;
use super::rules::{self, Gradient, Rewrite};
use crate::graph::{Graph, Input, Name, Node, attribute};
use crate::session::Kinds;
use crate::specialise::Specialised;
use crate::specialise::samples::{self, Facts, Layout};
use crate::tensor::{DType, Tensor};
use ndarray::{ArrayD, IxDyn};
use onnx_protobuf::{AttributeProto, Message};
use std::collections::{BTreeMap, BTreeSet};
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
    /// What nodes gave, by everything that tells them apart.
    known: BTreeMap<Vec<u8>, Vec<Name>>,
    /// Values that are another one in another shape.
    reshaped: BTreeMap<Name, Name>,
    /// Values that are another one with its axes in this order.
    transposed: BTreeMap<Name, (Name, Vec<usize>)>,
    /// The name of the node that is being rewritten.
    within: Option<String>,
    /// Gradients of parameters are values of the graph: no constant is computed from the value of a parameter, and
    /// sums over samples are taken in the graph.
    parameters_kept: bool,
}

impl Tape {
    /// Starts from a specialised graph, rewrites what has a rewriting, leaves out what is not read of an axis, and notes the
    /// sample layout of its values.
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
        let mut tape = Tape::empty(graph, facts, weights);
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
                _ => tape.push(node),
            }
        }
        narrow(&mut tape);
        Ok(tape)
    }

    /// Goes on with a graph that another tape has made; layouts of its values are not known.
    pub(super) fn on(graph: Graph, kinds: Kinds, batch: usize) -> Tape {
        let number = |name: &Name| name.strip_prefix(PREFIX)?.split('_').next()?.parse().ok();
        let made = kinds.keys().chain(graph.constants.keys()).filter_map(number).max().unwrap_or(0);
        let facts = Facts { batch, kinds, constants: graph.constants.clone(), ..Facts::default() };
        Tape { made, ..Tape::empty(graph, facts, BTreeSet::new()) }
    }

    fn empty(graph: Graph, facts: Facts, weights: BTreeSet<Name>) -> Tape {
        let (known, reshaped, transposed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (made, within, parameters_kept) = (0, None, false);
        Tape { graph, facts, weights, made, known, reshaped, transposed, within, parameters_kept }
    }

    pub(super) fn into_graph(self) -> (Graph, Kinds) {
        (self.graph, self.facts.kinds)
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
            self.push(identity);
        }
        Ok(())
    }

    /// Appends a node whose outputs' types and shapes are known.
    pub(super) fn push(&mut self, node: Node) {
        self.note_layout(&node);
        self.graph.nodes.push(node);
    }

    /// From here on nodes are not told to be there already: those made so far may change.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.reshaped.clear();
        self.transposed.clear();
    }

    fn note_layout(&mut self, node: &Node) {
        let rule = rules::find(node, self.graph.opset()).map(|row| row.samples);
        for output in node.outputs.iter().flatten() {
            let layout = self.facts.propagate(node, output, rule);
            self.facts.layouts.insert(output.clone(), layout);
        }
        self.facts.note_bounds(node);
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

    /// Whether values of different samples must not meet on an axis, for gradients to be told apart later.
    pub fn keeps_samples_apart(&self) -> bool {
        self.batch() > 1 && !self.parameters_kept
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
        let layout = match shape.first() {
            Some(&first) if first == self.batch() && first > 1 => Layout::Samples { stride: samples::stride(shape, 0) },
            _ => Layout::Shared,
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
        let inputs: Vec<Option<&Name>> = inputs.iter().copied().map(Some).collect();
        self.nodes(op, &inputs, attributes, vec![Some(kind)]).swap_remove(0)
    }

    /// A node of the default domain with outputs of the given types and shapes; one that is not asked for has an empty
    /// name. Where there is such a node already, its outputs.
    fn nodes(
        &mut self,
        op: &str,
        inputs: &[Option<&Name>],
        attributes: Vec<AttributeProto>,
        kinds: Vec<Option<(DType, Vec<usize>)>>,
    ) -> Vec<Name> {
        let key = self.key(op, inputs, &attributes);
        if let Some(known) = key.as_ref().and_then(|key| self.known.get(key)) {
            return known.clone();
        }
        let outputs: Vec<Option<Name>> = kinds.iter().map(|kind| kind.as_ref().map(|_| self.fresh(op))).collect();
        let name = outputs.iter().flatten().next().map(|o| o.to_string()).unwrap_or_default();
        let node = Node {
            name: self.within.as_ref().map_or_else(|| name.clone(), |within| format!("{within}/{name}")),
            domain: String::new(),
            op: op.to_string(),
            inputs: inputs.iter().map(|i| i.cloned()).collect(),
            outputs: outputs.clone(),
            attributes,
        };
        let made = outputs.iter().zip(kinds).filter_map(|(name, kind)| Some((name.clone()?, kind?)));
        self.facts.kinds.extend(made);
        self.push(node);
        let names: Vec<Name> = outputs.into_iter().map(|o| o.unwrap_or_else(|| "".into())).collect();
        if let Some(key) = key {
            self.known.insert(key, names.clone());
        }
        names
    }

    /// Everything that tells a node from others; small constants by what they hold.
    fn key(&self, op: &str, inputs: &[Option<&Name>], attributes: &[AttributeProto]) -> Option<Vec<u8>> {
        const SMALL: usize = 64;
        let mut key = op.as_bytes().to_vec();
        for input in inputs {
            key.push(0);
            let Some(input) = input else { continue };
            match self.constant_value(input).filter(|t| t.len() <= SMALL && input.starts_with(PREFIX)) {
                Some(tensor) => {
                    key.extend(format!("\0{}{:?}", tensor.dtype(), tensor.shape()).into_bytes());
                    key.extend(tensor.to_le_bytes());
                }
                None => key.extend(input.as_bytes()),
            }
        }
        for attribute in attributes {
            key.push(0);
            key.extend(attribute.write_to_bytes().ok()?);
        }
        Some(key)
    }

    /// `(x - mean) / √(var + ε)` over the last axes, and `1 / √(var + ε)`, those axes of length 1.
    pub fn standardised(&mut self, x: &Name, axes: &[usize], epsilon: f32) -> [Name; 2] {
        let (dtype, shape) = (self.dtype(x), self.shape(x));
        let mut reduced = shape.clone();
        axes.iter().for_each(|&axis| reduced[axis] = 1);
        let first = axes.first().copied().unwrap_or(shape.len());
        let one = self.scalar(x, 1.0);
        let ones = self.expand(&one, &shape[first..]);
        let attributes = vec![attribute("axis", first as i64), attribute("epsilon", epsilon)];
        // Statistics are float32 whatever the type of x.
        let kinds = vec![Some((dtype, shape)), None, Some((DType::F32, reduced))];
        let made = self.nodes("LayerNormalization", &[Some(x), Some(&ones)], attributes, kinds);
        [made[0].clone(), self.cast(&made[2], dtype)]
    }

    /// The second output of a node of the forward graph, which is asked for where it was not.
    pub fn second_output(&mut self, node: &Node, dtype: DType, shape: &[usize]) -> Name {
        // The node as it is now: a rule may be asked for one node several times.
        let at = self.graph.nodes.iter().position(|n| n.outputs.first() == node.outputs.first());
        if let Some(Some(name)) = at.map_or(node, |at| &self.graph.nodes[at]).outputs.get(1) {
            return name.clone();
        }
        let name = self.fresh("second");
        if let Some(at) = at {
            let outputs = &mut self.graph.nodes[at].outputs;
            outputs.resize(1, None);
            outputs.push(Some(name.clone()));
        }
        let layout = node.outputs.iter().flatten().next().map(|o| self.facts.layout(o));
        self.facts.layouts.insert(name.clone(), layout.unwrap_or(Layout::Mixed));
        self.facts.kinds.insert(name.clone(), (dtype, shape.to_vec()));
        name
    }
}

/// The shape of two operands broadcast against each other, by NumPy's rules. The runtime has
/// already accepted the operands.
pub fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
    (0..rank).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}
