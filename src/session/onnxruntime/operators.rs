//! Operators of our own in a session for gradients.

use super::made::Made;
use super::{convolutions, elementwise, normal, pooling, scatter, sums};
use crate::graph::{Graph, Name, Node, attribute};
use crate::session::{Kinds, Rough};
use crate::tensor::DType;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::{SymbolicDimensions, TensorElementType, ValueType};
use ort::{Error, Result};
use pulp::Arch;
use std::sync::{Arc, Mutex};

pub(super) const DOMAIN: &str = "onnx_unlearn";
/// The attribute of a node that tells its layer.
const LAYER: &str = "layer";

/// What a node of ours stands for, apart from the values that it reads.
pub(super) trait Layer: Send + Sync + Sized + 'static {
    /// Name of the operator.
    const OPERATOR: &'static str;
    const INPUTS: &'static [TensorElementType];
    const OUTPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];

    /// The shape of every output.
    fn output(&self) -> &[usize];

    /// # Errors
    /// An operand is missing, or of another shape than when the session was made.
    fn compute(&self, context: &ComputeContext, arch: Arch) -> Result<()>;
}

/// The graph with our operators where they are faster, and these; the graph as it is where there are none.
pub(super) fn replaced(
    graph: &Graph,
    kinds: &Kinds,
    rough: Rough,
    threads: usize,
) -> Result<(Graph, Option<OperatorDomain>)> {
    let mut graph = graph.clone();
    let mut domain = OperatorDomain::new(DOMAIN)?;
    let mut any = false;
    domain = with(domain, elementwise::gelus(&mut graph, kinds), &mut any)?;
    domain = with(domain, elementwise::gelu_gradients(&mut graph, kinds), &mut any)?;
    domain = with(domain, elementwise::relu_gradients(&mut graph, kinds), &mut any)?;
    domain = with(domain, normal::gradients(&mut graph, kinds), &mut any)?;
    domain = with(domain, convolutions::by_tiles(&mut graph, kinds, rough, threads), &mut any)?;
    domain = with(domain, pooling::with_places(&mut graph, kinds), &mut any)?;
    domain = with(domain, scatter::of_rows(&mut graph, kinds), &mut any)?;
    domain = with(domain, sums::of_rows(&mut graph, kinds), &mut any)?;
    if !any {
        return Ok((graph, None));
    }
    graph.opsets.insert(DOMAIN.into(), 1);
    Ok((graph, Some(domain)))
}

/// The domain with an operator, where nodes of it are there.
fn with<T: Layer>(domain: OperatorDomain, layers: Layers<T>, any: &mut bool) -> Result<OperatorDomain> {
    if layers.0.is_empty() {
        return Ok(domain);
    }
    *any = true;
    domain.add(layers)
}

/// What a node of ours reads, writes or is made of is not there, or of another shape.
pub(super) fn missing() -> Error {
    Error::new("an operand is missing, or has another shape than when the session was made")
}

/// The nodes of one operator.
pub(super) struct Layers<T>(Vec<Arc<T>>);

/// Puts nodes of our operator in the place of those for which a layer is found, and the values that it reads.
pub(super) fn put<T: Layer>(
    graph: &mut Graph,
    find: impl for<'a> Fn(&'a Node, &Made<'a>) -> Option<(Vec<&'a Name>, T)>,
) -> Layers<T> {
    let made = Made::new(graph);
    let own = |(inputs, layer): (Vec<&Name>, T)| (inputs.into_iter().cloned().map(Some).collect(), layer);
    let found: Vec<Option<(Vec<_>, T)>> = graph.nodes.iter().map(|node| find(node, &made).map(own)).collect();
    let mut layers = vec![];
    for (node, found) in graph.nodes.iter_mut().zip(found) {
        if let Some((inputs, layer)) = found {
            (node.domain, node.op, node.inputs) = (DOMAIN.into(), T::OPERATOR.into(), inputs);
            node.attributes = vec![attribute(LAYER, layers.len() as i64)];
            layers.push(Arc::new(layer));
        }
    }
    if !layers.is_empty() {
        // What led to them, and what went into the layers.
        graph.prune();
    }
    Layers(layers)
}

impl<T> Layers<T> {
    fn get(&self, index: i64) -> Result<&Arc<T>> {
        usize::try_from(index).ok().and_then(|index| self.0.get(index)).ok_or_else(missing)
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|layer| &**layer)
    }
}

impl<T: Layer> Operator for Layers<T> {
    type Kernel<'attr> = Ready<T>;

    fn name(&self) -> &str {
        T::OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        T::INPUTS.iter().map(|&ty| OperatorInput::required(ty))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        T::OUTPUTS.iter().map(|&ty| OperatorOutput::required(ty))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<Ready<T>> {
        let layer = self.get(context.get::<i64>(LAYER).ok_or_else(missing)?)?;
        Ok(Ready { layer: layer.clone(), arch: Arch::new() })
    }

    /// The layer knows the shapes: the runtime does not know those of all inputs.
    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let shape = dims(self.get(context.attr::<i64>(LAYER)?)?.output());
        for (output, &ty) in T::OUTPUTS.iter().enumerate() {
            let dimension_symbols = SymbolicDimensions::empty(shape.len());
            let shape = shape.clone().into();
            context.set_output(output, &ValueType::Tensor { ty, shape, dimension_symbols })?;
        }
        Ok(())
    }
}

/// A layer with what it is computed by.
pub(super) struct Ready<T> {
    layer: Arc<T>,
    arch: Arch,
}

impl<T: Layer> Kernel for Ready<T> {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        self.layer.compute(context, self.arch)
    }
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
