//! MaxPool that tells places as well, which the runtime computes element by element.

use super::operators::{Layer, Layers, elements, images, in_parallel, inputs, missing, pair, put};
use crate::graph::{Graph, Node};
use crate::kernels::pool::{MOST, Maxima, Windows};
use crate::session::Kinds;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;

/// Windows over planes.
pub(super) struct MaxPoolPlaces {
    windows: Windows,
    /// Images times channels.
    planes: usize,
}

/// Puts nodes of our operator in the place of those whose second output is read.
pub(super) fn with_places(graph: &mut Graph, kinds: &Kinds) -> Layers<MaxPoolPlaces> {
    put(graph, kinds, |node, _| Some((vec![node.input(0)?], layer(node, kinds)?)))
}

fn layer(node: &Node, kinds: &Kinds) -> Option<MaxPoolPlaces> {
    let by_column = node.int("storage_order").unwrap_or(0) != 0;
    if node.op != "MaxPool" || node.outputs.get(1)?.is_none() || by_column {
        return None;
    }
    let [[images, channels, h, w], [_, _, height, width]] = images(node, kinds)?;
    let two = |name: &str, default| {
        let [a, b] = pair(node, name, default)?.map(|value| usize::try_from(value).ok());
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
    counted.then_some(MaxPoolPlaces { windows, planes: images * channels })
}

impl Layer for MaxPoolPlaces {
    const OPERATOR: &'static str = "MaxPoolPlaces";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];
    const OUTPUTS: &'static [TensorElementType] = &[TensorElementType::Float32, TensorElementType::Int64];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let MaxPoolPlaces { windows, planes } = *self;
        let values = inputs(context)?;
        let [x] = elements(&values)?[..] else { return Err(missing()) };
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let mut places = context.output(1, output.to_vec())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        let (_, places) = places.try_extract_tensor_mut::<i64>()?;
        if x.len() != planes * windows.input[0] * windows.input[1] {
            return Err(missing());
        }
        let [from, to] = [windows.input, windows.output].map(|[height, width]| height * width);
        let tasks = x.chunks_exact(from).zip(y.chunks_exact_mut(to)).zip(places.chunks_exact_mut(to));
        in_parallel(context, tasks, |index, ((plane, largest), places)| {
            arch.dispatch(Maxima { windows, plane, largest, places, base: (index * from) as i64 });
        })
    }
}
