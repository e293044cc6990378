//! Convolutions of a session that are computed by [Winograd's method](crate::kernels::winograd) instead of by the runtime.

use super::operators::{DOMAIN, missing};
use crate::graph::{Graph, Name, Node, attribute};
use crate::kernels::convolution::{Images, Method, Shape, Work, transformed};
use crate::kernels::registers::sizes;
use crate::session::{Kinds, Rough};
use crate::tensor::{DType, Tensor};
use ort::Result;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::{TensorElementType, ValueType};
use pulp::Arch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Name of the operator, and the attribute that tells the layer.
pub(in crate::session) const OPERATOR: &str = "WinogradConv";
const LAYER: &str = "layer";

/// A convolution, but for its images.
struct Layer {
    shape: Shape,
    images: usize,
    kernel: Vec<f32>,
    bias: Vec<f32>,
}

/// The convolutions of a graph that are computed so.
pub(super) struct Convolutions {
    arch: Arch,
    threads: usize,
    layers: Arc<Vec<Arc<Layer>>>,
}

/// Puts nodes of an operator of their own in the place of such convolutions as are faster so; none where there are none.
pub(super) fn replace(graph: &mut Graph, kinds: &Kinds, rough: Rough, threads: usize) -> Option<Convolutions> {
    let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, |n| n.get()) } else { threads };
    let arch = Arch::new();
    let mut layers = vec![];
    let Graph { nodes, constants, .. } = &mut *graph;
    for node in nodes {
        let Some((shape, images)) = shape(node, kinds, rough, constants) else { continue };
        let constant = |i| node.input(i).map(|name| constants.get(name).and_then(|tensor| tensor.slice::<f32>()));
        let (Some(Some(weights)), Some(bias)) = (constant(1), constant(2).unwrap_or(Some(&[]))) else { continue };
        if !shape.is_worth_it(images, arch) {
            continue;
        }
        let (kernel, bias) = (transformed(arch, weights, &shape), bias.to_vec());
        node.domain = DOMAIN.into();
        node.op = OPERATOR.into();
        node.attributes = vec![attribute(LAYER, layers.len() as i64)];
        node.inputs.truncate(1);
        layers.push(Arc::new(Layer { shape, images, kernel, bias }));
    }
    graph.prune();
    (!layers.is_empty()).then(|| Convolutions { arch, threads, layers: Arc::new(layers) })
}

/// Bytes of transformed kernels, at most.
pub(super) fn bytes(graph: &Graph, kinds: &Kinds, rough: Rough) -> u64 {
    let shapes = graph.nodes.iter().filter_map(|node| shape(node, kinds, rough, &graph.constants));
    shapes.filter(|(shape, _)| shape.is_wide_enough()).map(|(shape, _)| shape.kernel_bytes() as u64).sum()
}

/// Shape and number of images of a convolution with a constant kernel of 3×3 neighbouring taps, in float32.
fn shape(node: &Node, kinds: &Kinds, rough: Rough, constants: &BTreeMap<Name, Arc<Tensor>>) -> Option<(Shape, usize)> {
    if node.op != "Conv" || !node.domain.is_empty() || node.int("group").unwrap_or(1) != 1 {
        return None;
    }
    let ones = |name| node.ints(name).is_none_or(|values| values.iter().all(|&v| v == 1));
    if !ones("strides") || !ones("dilations") || node.string("auto_pad").is_some_and(|pad| pad != "NOTSET") {
        return None;
    }
    let kernel = constants.get(node.input(1)?)?;
    let ((DType::F32, x), (DType::F32, y)) = (kinds.get(node.input(0)?)?, kinds.get(node.output().ok()?)?) else {
        return None;
    };
    let (&[images, channels, h, w], &[_, outputs, oh, ow]) = (&x[..], &y[..]) else { return None };
    let pads = node.ints("pads").unwrap_or(&[0; 4]);
    let &[top, left, _, _] = pads else { return None };
    let pads = [usize::try_from(top).ok()?, usize::try_from(left).ok()?];
    let fits = kernel.shape() == [outputs, channels, 3, 3];
    let method = if rough(node) { Method::Four } else { Method::Two };
    fits.then_some((Shape { method, channels, outputs, input: [h, w], pads, output: [oh, ow] }, images))
}

impl Operator for Convolutions {
    type Kernel<'attr> = Convolution;

    fn name(&self) -> &str {
        OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<Convolution> {
        let index = context.get::<i64>(LAYER).and_then(|index| usize::try_from(index).ok());
        let layer = index.and_then(|index| self.layers.get(index)).ok_or_else(missing)?;
        Ok(Convolution { layer: layer.clone(), arch: self.arch, threads: self.threads })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let index = usize::try_from(context.attr::<i64>(LAYER)?).unwrap_or(usize::MAX);
        let layer = self.layers.get(index).ok_or_else(missing)?;
        let Shape { outputs, output: [height, width], .. } = layer.shape;
        let shape = [layer.images, outputs, height, width].map(|d| d as i64);
        let dimension_symbols = ort::value::SymbolicDimensions::empty(4);
        context.set_output(
            0,
            &ValueType::Tensor { ty: TensorElementType::Float32, shape: shape.into(), dimension_symbols },
        )
    }
}

/// One of them, ready to run.
pub(super) struct Convolution {
    layer: Arc<Layer>,
    arch: Arch,
    threads: usize,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Kernel for Convolution {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let Layer { shape, images, kernel, bias } = &*self.layer;
        let x = context.input(0)?.ok_or_else(missing)?;
        let (_, x) = x.try_extract_tensor::<f32>()?;
        if x.len() != images * shape.channels * shape.input[0] * shape.input[1] {
            return Err(missing());
        }
        let [height, width] = shape.output;
        let dims = [*images, shape.outputs, height, width].map(|d| d as i64);
        let mut y = context.output(0, dims)?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        // Whole images for each thread; where there are fewer images than threads, some outputs of one.
        let share = images.div_ceil(self.threads);
        let parts = self.threads.div_ceil(*images);
        let outputs = shape.outputs.div_ceil(parts).next_multiple_of(sizes(self.arch).left);
        let read = share * shape.channels * shape.input[0] * shape.input[1];
        let written = share * outputs.min(shape.outputs) * height * width;
        let mut tasks = vec![];
        for (x, y) in x.chunks(read).zip(y.chunks_mut(share * shape.outputs * height * width)) {
            for (part, y) in y.chunks_mut(written).enumerate() {
                let outputs = part * outputs..shape.outputs.min((part + 1) * outputs);
                tasks.push(Mutex::new(Some((x, y, outputs))));
            }
        }
        context.par_for(tasks.len(), 0, |index| {
            let Some((x, y, outputs)) = tasks[index].lock().ok().and_then(|mut task| task.take()) else { return };
            WORK.with_borrow_mut(|work| {
                self.arch.dispatch(Images { shape: *shape, outputs, x, kernel, bias, y, work });
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Input;
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
        let convolutions = replace(&mut new, &kinds, &|_| true, 2).unwrap();
        assert_eq!((new.nodes[0].op.as_str(), new.nodes[0].domain.as_str()), (OPERATOR, DOMAIN));
        assert_eq!((new.constants.len(), convolutions.layers.len()), (0, 1));
        assert_eq!(bytes(&graph, &kinds, &|_| true), 4 * convolutions.layers[0].kernel.len() as u64);
        let others = [
            convolution([64, 64, 1, 1], [20, 20], vec![]),
            convolution([64, 32, 3, 3], [20, 20], vec![pads(), attribute("group", 2)]),
            convolution([64, 64, 3, 3], [10, 10], vec![pads(), attribute("strides", vec![2; 2])]),
            convolution([64, 64, 3, 3], [16, 16], vec![attribute("dilations", vec![2; 2])]),
            convolution([64, 64, 3, 3], [20, 20], vec![attribute("auto_pad", "SAME_UPPER")]),
        ];
        for (mut graph, kinds) in others {
            assert_eq!(bytes(&graph, &kinds, &|_| true), 0);
            assert!(replace(&mut graph, &kinds, &|_| true, 2).is_none());
        }
    }
}
