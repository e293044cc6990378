//! Convolutions of a session that are computed by [Winograd's method](crate::kernels::winograd) instead of by the runtime.

use super::after::{After, Convolution, Rows};
use super::operators::{Layer, Layers, neighbouring, put};
use crate::graph::{Graph, Name, Node};
use crate::kernels::convolution::{Images, Method, Shape, Work, transformed};
use crate::kernels::memory::Memory;
use crate::session::{Kinds, Rough};
use crate::tensor::Tensor;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of the operator.
pub(in crate::session) const OPERATOR: &str = WinogradConv::OPERATOR;

/// `WinogradConv(x, added, seen)`: a convolution, but for its images, and what is done with its result. Images have their
/// channels last.
pub(super) struct WinogradConv {
    shape: Shape,
    images: usize,
    kernel: Memory,
    bias: Vec<f32>,
    threads: usize,
    after: After,
}

/// Puts nodes of an operator of their own in the place of such convolutions as are faster so.
pub(super) fn by_tiles(graph: &mut Graph, kinds: &Kinds, rough: Rough, threads: usize) -> Layers<WinogradConv> {
    let arch = Arch::new();
    put(graph, kinds, |node, made| {
        let (shape, images) = shape(node, kinds, rough, made.constants)?;
        let constant = |name| made.constants.get(name).and_then(|tensor| tensor.slice::<f32>());
        let weights = constant(node.input(1)?)?;
        let bias = node.input(2).map_or(Some(&[][..]), constant)?;
        if !shape.is_worth_it(images, arch) {
            return None;
        }
        let (kernel, bias) = (transformed(arch, weights, &shape), bias.to_vec());
        Some((vec![node.input(0)?], WinogradConv { shape, images, kernel, bias, threads, after: After::default() }))
    })
}

/// Bytes of transformed kernels, at most.
pub(super) fn bytes(graph: &Graph, kinds: &Kinds, rough: Rough) -> u64 {
    let shapes = graph.nodes.iter().filter_map(|node| shape(node, kinds, rough, &graph.constants));
    shapes.filter(|(shape, _)| shape.is_wide_enough()).map(|(shape, _)| shape.kernel_bytes() as u64).sum()
}

/// Shape and number of images of a convolution with a constant kernel of 3×3 neighbouring taps, in float32.
fn shape(node: &Node, kinds: &Kinds, rough: Rough, constants: &BTreeMap<Name, Arc<Tensor>>) -> Option<(Shape, usize)> {
    let ([[images, channels, h, w], [_, outputs, oh, ow]], pads) = neighbouring(node, kinds)?;
    let kernel = constants.get(node.input(1)?)?;
    let fits = node.int("group").unwrap_or(1) == 1 && kernel.shape() == [outputs, channels, 3, 3];
    let method = if rough(node) { Method::Four } else { Method::Two };
    fits.then_some((Shape { method, channels, outputs, input: [h, w], pads, output: [oh, ow] }, images))
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Layer for WinogradConv {
    const OPERATOR: &'static str = "WinogradConv";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];
    const ANY_NUMBER: bool = true;

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let WinogradConv { shape, images, kernel, bias, threads, after } = self;
        let read = images * shape.channels * shape.input.iter().product::<usize>();
        let rows = Rows { threads: *threads, count: images * shape.tiles()[0], read, bias, after };
        let above = |row| shape.above(row) * shape.output[1] * shape.outputs;
        rows.compute(context, output, above, |part| {
            WORK.with_borrow_mut(|work| arch.dispatch(Images { shape: *shape, kernel, part, work }));
        })
    }
}

impl Convolution for WinogradConv {
    fn after(&mut self) -> &mut After {
        &mut self.after
    }
}

#[cfg(test)]
mod tests {
    use super::super::operators::DOMAIN;
    use super::*;
    use crate::graph::{Input, attribute};
    use crate::tensor::DType;
    use onnx_protobuf::AttributeProto;

    /// A convolution of images `[8, 64, 20, 20]` with a kernel of this shape.
    fn convolution(kernel: [usize; 4], output: [usize; 2], attributes: Vec<AttributeProto>) -> (Graph, Kinds) {
        let name = |name: &str| Some(Name::from(name));
        let node = Node {
            name: String::new(),
            domain: String::new(),
            op: "Conv".into(),
            inputs: vec![name("x"), name("w")],
            outputs: vec![name("y")],
            attributes,
        };
        let shape = [8, 64, 20, 20];
        let weights = Tensor::F32(ndarray::ArrayD::ones(ndarray::IxDyn(&kernel)));
        let kinds = [("x", shape.to_vec()), ("y", vec![8, kernel[0], output[0], output[1]])];
        let graph = Graph {
            nodes: vec![node],
            constants: [("w".into(), Arc::new(weights))].into(),
            inputs: vec![Input { name: "x".into(), dtype: DType::F32, shape: shape.map(Some).to_vec() }],
            outputs: vec!["y".into()],
            opsets: [(String::new(), 17)].into(),
            ir_version: 8,
        };
        (graph, kinds.into_iter().map(|(name, shape)| (name.into(), (DType::F32, shape))).collect())
    }

    #[test]
    fn only_what_has_nine_neighbouring_taps_is_replaced() {
        let pads = || attribute("pads", vec![1; 4]);
        let (graph, kinds) = convolution([64, 64, 3, 3], [20, 20], vec![pads()]);
        let mut new = graph.clone();
        let convolutions = by_tiles(&mut new, &kinds, &|_| true, 2);
        assert_eq!((new.nodes[0].op.as_str(), new.nodes[0].domain.as_str()), (OPERATOR, DOMAIN));
        let layers: Vec<_> = convolutions.iter().collect();
        assert_eq!((new.constants.len(), layers.len()), (0, 1));
        assert_eq!(bytes(&graph, &kinds, &|_| true), 4 * layers[0].kernel.len() as u64);
        let others = [
            convolution([64, 64, 1, 1], [20, 20], vec![]),
            convolution([64, 32, 3, 3], [20, 20], vec![pads(), attribute("group", 2)]),
            convolution([64, 64, 3, 3], [10, 10], vec![pads(), attribute("strides", vec![2; 2])]),
            convolution([64, 64, 3, 3], [16, 16], vec![attribute("dilations", vec![2; 2])]),
            convolution([64, 64, 3, 3], [20, 20], vec![attribute("auto_pad", "SAME_UPPER")]),
        ];
        for (mut graph, kinds) in others {
            assert_eq!(bytes(&graph, &kinds, &|_| true), 0);
            assert_eq!(by_tiles(&mut graph, &kinds, &|_| true, 2).iter().len(), 0);
        }
    }
}
