//! MaxPool that tells places as well, which the runtime computes element by element.

use super::operators::{Layers, declare, dims, images, in_parallel, missing};
use crate::graph::{Graph, Node};
use crate::kernels::pool::{MOST, Maxima, Windows};
use crate::session::Kinds;
use ort::Result;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::TensorElementType;
use pulp::Arch;
use std::sync::Arc;

/// Name of the operator.
const OPERATOR: &str = "MaxPoolPlaces";

/// Windows over so many images of so many channels.
struct Layer {
    images: usize,
    channels: usize,
    windows: Windows,
}

impl Layer {
    fn output(&self) -> [usize; 4] {
        let [height, width] = self.windows.output;
        [self.images, self.channels, height, width]
    }
}

/// The layers of a graph.
pub(super) struct Pooling {
    layers: Layers<Layer>,
}

/// Puts nodes of our operator in the place of those whose second output is read; none where there are none.
pub(super) fn replace(graph: &mut Graph, kinds: &Kinds) -> Option<Pooling> {
    let mut layers = Layers::new();
    for node in &mut graph.nodes {
        if let Some(layer) = layer(node, kinds) {
            layers.take(node, OPERATOR, 0..1, layer);
        }
    }
    (!layers.is_empty()).then_some(Pooling { layers })
}

fn layer(node: &Node, kinds: &Kinds) -> Option<Layer> {
    let by_column = node.int("storage_order").unwrap_or(0) != 0;
    if node.op != "MaxPool" || node.outputs.get(1)?.is_none() || by_column {
        return None;
    }
    let [[images, channels, h, w], [_, _, height, width]] = images(node, kinds)?;
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
        Ok(Pool { layer: self.layers.of_kernel(context)?, arch: Arch::new() })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let output = self.layers.of_shapes(context)?.output();
        declare(context, 0, TensorElementType::Float32, &output)?;
        declare(context, 1, TensorElementType::Int64, &output)
    }
}

/// One of them, ready to run.
pub(super) struct Pool {
    layer: Arc<Layer>,
    arch: Arch,
}

impl Kernel for Pool {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let windows = self.layer.windows;
        let x = context.input(0)?.ok_or_else(missing)?;
        let (_, x) = x.try_extract_tensor::<f32>()?;
        let output = dims(&self.layer.output());
        let mut y = context.output(0, output.clone())?.ok_or_else(missing)?;
        let mut places = context.output(1, output)?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        let (_, places) = places.try_extract_tensor_mut::<i64>()?;
        if x.len() != self.layer.images * self.layer.channels * windows.input[0] * windows.input[1] {
            return Err(missing());
        }
        let [from, to] = [windows.input, windows.output].map(|[height, width]| height * width);
        let planes = x.chunks_exact(from).zip(y.chunks_exact_mut(to)).zip(places.chunks_exact_mut(to));
        in_parallel(context, planes, |index, ((plane, largest), places)| {
            self.arch.dispatch(Maxima { windows, plane, largest, places, base: (index * from) as i64 });
        })
    }
}
