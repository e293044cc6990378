//! Convolutions of a session in which each channel has a kernel of its own, on images with their channels last.

use super::last;
use super::operators::{Layer, Layers, elements, in_parallel, inputs, missing, neighbouring, put};
use crate::graph::{Graph, Node};
use crate::kernels::depthwise::{Lines, Shape};
use crate::session::Kinds;
use crate::tensor::Tensor;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;

/// Name of the operator.
pub(in crate::session) const OPERATOR: &str = DepthwiseConv::OPERATOR;

/// The least channels: fewer do not fill a vector.
const LEAST: usize = 16;
/// Elements of one task.
const TASK: usize = 1 << 15;

/// `DepthwiseConv(x)`: a convolution, but for its images.
pub(super) struct DepthwiseConv {
    shape: Shape,
    images: usize,
    kernel: Vec<f32>,
    bias: Vec<f32>,
}

/// Puts nodes of our operator in the place of such convolutions with constant kernels beside which the graph has channels
/// last: between its own convolutions the runtime keeps them in blocks, which is as fast.
pub(super) fn by_channel(graph: &mut Graph, kinds: &Kinds) -> Layers<DepthwiseConv> {
    let ends = last::ends(graph);
    put(graph, kinds, |node, made| {
        let mut own = node.inputs.iter().chain(&node.outputs).flatten();
        own.find(|name| ends.contains(*name))?;
        let constant = |name| made.constants.get(name).map(|tensor| &**tensor);
        let (weights, bias) = (constant(node.input(1)?)?, node.input(2).map(constant));
        let (shape, images) = shape(node, kinds, weights)?;
        let bias = bias.map_or(Some(&[][..]), |bias| bias?.slice::<f32>())?.to_vec();
        let weights = weights.slice::<f32>()?;
        let taps = shape.taps[0] * shape.taps[1];
        let kernel = (0..weights.len()).map(|i| weights[i % shape.channels * taps + i / shape.channels]).collect();
        Some((vec![node.input(0)?], DepthwiseConv { shape, images, kernel, bias }))
    })
}

/// Shape and number of images of such a convolution, in float32, all places one apart.
fn shape(node: &Node, kinds: &Kinds, weights: &Tensor) -> Option<(Shape, usize)> {
    let ([[images, channels, h, w], [_, outputs, oh, ow]], pads) = neighbouring(node, kinds)?;
    let &[_, 1, down, across @ (3 | 5 | 7)] = weights.shape() else { return None };
    let own = node.int("group").unwrap_or(1) == channels as i64 && outputs == channels && channels >= LEAST;
    own.then_some((Shape { channels, taps: [down, across], input: [h, w], pads, output: [oh, ow] }, images))
}

impl Layer for DepthwiseConv {
    const OPERATOR: &'static str = "DepthwiseConv";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let DepthwiseConv { shape, images, kernel, bias } = self;
        let values = inputs(context)?;
        let [x] = elements(&values)?[..] else { return Err(missing()) };
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        let line = shape.output[1] * shape.channels;
        if line == 0
            || x.len() != images * shape.channels * shape.input[0] * shape.input[1]
            || y.len() != images * shape.output[0] * line
        {
            return Err(missing());
        }
        let at_once = (TASK / line).max(1);
        in_parallel(context, y.chunks_mut(at_once * line), |task, y| {
            let lines = task * at_once..task * at_once + y.len() / line;
            arch.dispatch(Lines { shape: *shape, lines, x, kernel, bias, y });
        })
    }
}
