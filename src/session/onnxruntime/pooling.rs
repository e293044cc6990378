//! MaxPool that tells places as well, which the runtime computes element by element.

use super::operators::{DOMAIN, missing};
use crate::graph::{Graph, Node, attribute};
use crate::kernels::pool::{MOST, Maxima, Windows, find};
use crate::session::Kinds;
use crate::tensor::DType;
use ort::Result;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::{SymbolicDimensions, TensorElementType, ValueType};
use pulp::Arch;
use std::sync::{Arc, Mutex};

/// Name of the operator, and the attribute that tells the layer.
const OPERATOR: &str = "MaxPoolPlaces";
const LAYER: &str = "layer";

/// Windows over so many images of so many channels.
#[derive(Clone, Copy)]
struct Layer {
    images: usize,
    channels: usize,
    windows: Windows,
}

impl Layer {
    fn output(&self) -> [i64; 4] {
        let [height, width] = self.windows.output;
        [self.images, self.channels, height, width].map(|d| d as i64)
    }
}

/// The layers of a graph.
pub(super) struct Pooling {
    layers: Arc<Vec<Layer>>,
}

/// Puts nodes of our operator in the place of those whose second output is read; none where there are none.
pub(super) fn replace(graph: &mut Graph, kinds: &Kinds) -> Option<Pooling> {
    let mut layers = vec![];
    for node in &mut graph.nodes {
        let Some(layer) = layer(node, kinds) else { continue };
        (node.domain, node.op) = (DOMAIN.into(), OPERATOR.into());
        node.attributes = vec![attribute(LAYER, layers.len() as i64)];
        layers.push(layer);
    }
    (!layers.is_empty()).then(|| Pooling { layers: Arc::new(layers) })
}

fn layer(node: &Node, kinds: &Kinds) -> Option<Layer> {
    let padded = node.string("auto_pad").is_some_and(|pad| pad != "NOTSET");
    let by_column = node.int("storage_order").unwrap_or(0) != 0;
    if node.op != "MaxPool" || !node.domain.is_empty() || node.outputs.get(1)?.is_none() || padded || by_column {
        return None;
    }
    let ((DType::F32, x), (DType::F32, y)) = (kinds.get(node.input(0)?)?, kinds.get(node.output().ok()?)?) else {
        return None;
    };
    let (&[images, channels, h, w], &[_, _, height, width]) = (&x[..], &y[..]) else { return None };
    let two = |name: &str, default: i64| -> Option<[usize; 2]> {
        let values = match node.ints(name) {
            None => [default; 2],
            Some(&[a, b, ..]) => [a, b],
            Some(_) => return None,
        };
        let [a, b] = values.map(|value| usize::try_from(value).ok());
        Some([a?, b?])
    };
    let windows = Windows {
        kernel: two("kernel_shape", 1)?,
        strides: two("strides", 1)?,
        dilations: two("dilations", 1)?,
        pads: two("pads", 0)?,
        input: [h, w],
        output: [height, width],
    };
    let sizes = [windows.kernel, windows.strides, windows.dilations];
    let counted = sizes.as_flattened().iter().all(|&size| size > 0) && h * w > 0 && height * width > 0 && h * w < MOST;
    counted.then_some(Layer { images, channels, windows })
}

impl Operator for Pooling {
    type Kernel<'attr> = Pool;

    fn name(&self) -> &str {
        OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [TensorElementType::Float32, TensorElementType::Int64].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<Pool> {
        let index = context.get::<i64>(LAYER).and_then(|index| usize::try_from(index).ok());
        let layer = index.and_then(|index| self.layers.get(index)).ok_or_else(missing)?;
        Ok(Pool { layer: *layer, arch: Arch::new() })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let index = usize::try_from(context.attr::<i64>(LAYER)?).unwrap_or(usize::MAX);
        let shape = self.layers.get(index).ok_or_else(missing)?.output();
        for (output, ty) in [TensorElementType::Float32, TensorElementType::Int64].into_iter().enumerate() {
            let dimension_symbols = SymbolicDimensions::empty(shape.len());
            context.set_output(output, &ValueType::Tensor { ty, shape: shape.into(), dimension_symbols })?;
        }
        Ok(())
    }
}

/// One of them, ready to run.
pub(super) struct Pool {
    layer: Layer,
    arch: Arch,
}

impl Kernel for Pool {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let windows = self.layer.windows;
        let x = context.input(0)?.ok_or_else(missing)?;
        let (_, x) = x.try_extract_tensor::<f32>()?;
        let mut y = context.output(0, self.layer.output())?.ok_or_else(missing)?;
        let mut places = context.output(1, self.layer.output())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        let (_, places) = places.try_extract_tensor_mut::<i64>()?;
        if x.len() != self.layer.images * self.layer.channels * windows.input[0] * windows.input[1] {
            return Err(missing());
        }
        let [from, to] = [windows.input, windows.output].map(|[height, width]| height * width);
        let planes = x.chunks_exact(from).zip(y.chunks_exact_mut(to)).zip(places.chunks_exact_mut(to));
        let tasks: Vec<_> = planes.map(|task| Mutex::new(Some(task))).collect();
        context.par_for(tasks.len(), 0, |index| {
            let Some(((plane, largest), places)) = tasks[index].lock().ok().and_then(|mut task| task.take()) else {
                return;
            };
            find(self.arch, Maxima { windows, plane, largest, places, base: (index * from) as i64 });
        })
    }
}
