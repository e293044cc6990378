//! Operators of our own in a session for gradients.

use super::elementwise::{self, Elementwise};
use super::made::Made;
use super::normal::{self, LayerGradient};
use super::{convolutions, pooling, scatter, sums};
use crate::graph::{Graph, Name, Node, attribute};
use crate::session::{Kinds, Rough};
use crate::tensor::DType;
use ort::operator::{ComputeContext, KernelContext, Operator, OperatorDomain, ShapeInferenceContext};
use ort::value::{SymbolicDimensions, TensorElementType, ValueType};
use ort::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub(super) const DOMAIN: &str = "onnx_unlearn";
/// The attribute of a node that tells its layer.
const LAYER: &str = "layer";
/// The attribute of a node that tells the shape of its output.
const SHAPE: &str = "shape";

/// The graph with our operators where they are faster, and these; the graph as it is where there are none.
pub(super) fn replaced(
    graph: &Graph,
    kinds: &Kinds,
    rough: Rough,
    threads: usize,
) -> Result<(Graph, Option<OperatorDomain>)> {
    let mut graph = graph.clone();
    let mut domain = OperatorDomain::new(DOMAIN)?;
    for operator in Elementwise::ALL {
        domain = domain.add(operator)?;
    }
    domain = domain.add(LayerGradient)?;
    let mut any = elementwise::replace(&mut graph, kinds) | normal::replace(&mut graph, kinds);
    domain = with(domain, convolutions::replace(&mut graph, kinds, rough, threads), &mut any)?;
    domain = with(domain, pooling::replace(&mut graph, kinds), &mut any)?;
    domain = with(domain, scatter::replace(&mut graph, kinds), &mut any)?;
    domain = with(domain, sums::replace(&mut graph, kinds), &mut any)?;
    if !any {
        return Ok((graph, None));
    }
    graph.opsets.insert(DOMAIN.into(), 1);
    Ok((graph, Some(domain)))
}

/// The domain with an operator, where nodes of it are there.
fn with<O: Operator + 'static>(domain: OperatorDomain, operator: Option<O>, any: &mut bool) -> Result<OperatorDomain> {
    *any |= operator.is_some();
    match operator {
        Some(operator) => domain.add(operator),
        None => Ok(domain),
    }
}

/// What a node of ours reads, writes or is made of is not there, or of another shape.
pub(super) fn missing() -> Error {
    Error::new("an operand is missing, or has another shape than when the session was made")
}

/// What the nodes of one operator stand for, apart from the images that they read.
pub(super) struct Layers<T>(Vec<Arc<T>>);

impl<T> Layers<T> {
    pub fn new() -> Layers<T> {
        Layers(vec![])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a node one of operator `op` that stands for a layer and reads these of its inputs alone.
    pub fn take(&mut self, node: &mut Node, op: &str, inputs: Range<usize>, layer: T) {
        (node.domain, node.op) = (DOMAIN.into(), op.into());
        node.attributes = vec![attribute(LAYER, self.0.len() as i64)];
        node.inputs = node.inputs.drain(inputs).collect();
        self.0.push(Arc::new(layer));
    }

    /// The layer of the node that a kernel is made for.
    pub fn of_kernel(&self, context: &KernelContext) -> Result<Arc<T>> {
        self.get(context.get::<i64>(LAYER).ok_or_else(missing)?).cloned()
    }

    /// The layer of the node whose shapes are asked for.
    pub fn of_shapes(&self, context: &ShapeInferenceContext) -> Result<&Arc<T>> {
        self.get(context.attr::<i64>(LAYER)?)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|layer| &**layer)
    }

    fn get(&self, index: i64) -> Result<&Arc<T>> {
        usize::try_from(index).ok().and_then(|index| self.0.get(index)).ok_or_else(missing)
    }
}

/// What takes the place of what a rule of differentiation wrote: an operator of ours whose only output is of float32.
pub(super) struct Found {
    pub op: &'static str,
    pub inputs: Vec<Name>,
    pub shape: Vec<usize>,
}

/// Puts what is found for nodes in their place; says whether there is any.
pub(super) fn put(graph: &mut Graph, find: impl for<'a> Fn(&'a Node, &Made<'a>) -> Option<Found>) -> bool {
    let made = Made::new(graph);
    let found: Vec<_> = graph.nodes.iter().map(|node| find(node, &made)).collect();
    let any = found.iter().any(Option::is_some);
    for (node, found) in graph.nodes.iter_mut().zip(found) {
        if let Some(Found { op, inputs, shape }) = found {
            (node.domain, node.op) = (DOMAIN.into(), op.into());
            node.inputs = inputs.into_iter().map(Some).collect();
            node.attributes = vec![attribute(SHAPE, dims(&shape))];
        }
    }
    if any {
        // What led to them.
        graph.prune();
    }
    any
}

/// Tells the runtime the output of a node that [`put`] made: it does not know the shapes of all inputs.
pub(super) fn declare_own(context: &mut ShapeInferenceContext) -> Result<()> {
    let shape: Vec<i64> = context.attr(SHAPE)?;
    let shape: Vec<usize> = shape.into_iter().map(|d| d as usize).collect();
    declare(context, 0, TensorElementType::Float32, &shape)
}

/// Shapes of the first input and output of a node, `[images, channels, height, width]` in float32, where padding is told.
pub(super) fn images(node: &Node, kinds: &Kinds) -> Option<[[usize; 4]; 2]> {
    let shape = |name| match kinds.get(name)? {
        (DType::F32, shape) => <[usize; 4]>::try_from(&shape[..]).ok(),
        _ => None,
    };
    let told = node.domain.is_empty() && node.string("auto_pad").is_none_or(|pad| pad == "NOTSET");
    let shapes = [shape(node.input(0)?)?, shape(node.output().ok()?)?];
    told.then_some(shapes)
}

/// Tells the runtime type and shape of an output.
pub(super) fn declare(
    context: &mut ShapeInferenceContext,
    output: usize,
    ty: TensorElementType,
    shape: &[usize],
) -> Result<()> {
    let dimension_symbols = SymbolicDimensions::empty(shape.len());
    context.set_output(output, &ValueType::Tensor { ty, shape: dims(shape).into(), dimension_symbols })
}

/// A shape as the runtime counts.
pub(super) fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&d| d as i64).collect()
}

/// Does all tasks on the threads of the session.
pub(super) fn in_parallel<T: Send>(
    context: &ComputeContext,
    tasks: impl Iterator<Item = T>,
    work: impl Fn(usize, T) + Sync + Send,
) -> Result<()> {
    let tasks: Vec<Mutex<Option<T>>> = tasks.map(|task| Mutex::new(Some(task))).collect();
    context.par_for(tasks.len(), 0, |index| {
        if let Some(task) = tasks[index].lock().ok().and_then(|mut task| task.take()) {
            work(index, task);
        }
    })
}
