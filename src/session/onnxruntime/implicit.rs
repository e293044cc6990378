//! Convolutions of a session that are computed by products of matrices on images with their channels last, where these lie
//! so anyway.

use super::after::{After, Convolution, Rows};
use super::last;
use super::operators::{Layer, Layers, images, pair, put};
use crate::graph::{Graph, Made, Name, Node, operands};
use crate::kernels::implicit::{Lines, Phase, Shape, Taps, Work, convolution, transposed};
use crate::session::Kinds;
use crate::tensor::Tensor;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Name of the operator.
pub(in crate::session) const OPERATOR: &str = ImplicitConv::OPERATOR;

/// The least channels, and the least outputs: fewer do not fill vectors.
const LEAST: [usize; 2] = [16, 32];
/// The least results: fewer share too little of what is read of the kernel.
const FEWEST: usize = 64;

/// `ImplicitConv(x, …)`: a convolution, or a transposed one, but for its images, and what is done with its result.
pub(super) struct ImplicitConv {
    shape: Shape,
    images: usize,
    phases: Vec<Phase>,
    bias: Vec<f32>,
    threads: usize,
    after: After,
}

/// Puts nodes of our operator in the place of all such convolutions with constant kernels, if then fewer elements are moved
/// from channels first to channels last and back.
pub(super) fn by_products(graph: &mut Graph, kinds: &Kinds, threads: usize) -> Layers<ImplicitConv> {
    let made = Made::new(graph);
    let apart = graph.nodes.iter().filter_map(|node| spread(node, &made)?.0.output().ok());
    let apart: BTreeSet<&Name> = apart.collect();
    let mut new = graph.clone();
    let layers = put(&mut new, kinds, |node, made| {
        // A convolution whose results are put apart is left to the node that does so.
        node.output().ok().filter(|output| !apart.contains(output))?;
        let (x, layer) = layer(node, kinds, made, threads)?;
        Some((vec![x], layer))
    });
    if last::moved(&new, kinds) < last::moved(graph, kinds) {
        *graph = new;
        return layers;
    }
    Layers::default()
}

/// What a convolution in float32 reads, and its layer; so, too, of a node that puts zeros between the results of one.
fn layer<'a>(node: &'a Node, kinds: &Kinds, made: &Made<'a>, threads: usize) -> Option<(&'a Name, ImplicitConv)> {
    let spread = spread(node, made);
    let conv = spread.map_or(node, |(conv, _)| conv);
    let is_transposed = match &*conv.op {
        "Conv" => false,
        "ConvTranspose" => true,
        _ => return None,
    };
    let [[images, channels, h, w], [_, outputs, ..]] = images(conv, kinds)?;
    let &[_, _, height, width] = &kinds.get(node.output().ok()?)?.1[..] else { return None };
    let constant = |name| made.constants.get(name);
    let weights = constant(conv.input(1)?)?;
    let bias = conv.input(2).map_or(Some(&[][..]), |bias| constant(bias)?.slice::<f32>())?.to_vec();
    let mut taps = taps(conv, weights)?;
    if let Some((_, strides)) = spread {
        let one = Taps { kernel: [1; 2], strides: [1; 2], dilations: [1; 2], pads: [0; 2] };
        if taps != one || !bias.is_empty() {
            return None;
        }
        taps.strides = strides;
    }
    let count = taps.kernel[0] * taps.kernel[1];
    if !bias.is_empty() && bias.len() != outputs {
        return None;
    }
    let is_worth_it = channels >= LEAST[0] && outputs >= LEAST[1] && images * height * width >= FEWEST;
    if !is_worth_it || weights.len() != outputs * channels * count || conv.int("group").unwrap_or(1) != 1 {
        return None;
    }
    let weights = weights.slice::<f32>()?;
    let weight = |[output, channel, tap]: [usize; 3]| match is_transposed {
        true => weights[(channel * outputs + output) * count + tap],
        false => weights[(output * channels + channel) * count + tap],
    };
    let shape = Shape { channels, outputs, input: [h, w], output: [height, width] };
    let phases = match is_transposed || spread.is_some() {
        true => transposed(Arch::new(), &shape, &taps, weight),
        false => convolution(Arch::new(), &shape, &taps, weight),
    };
    Some((conv.input(0)?, ImplicitConv { shape, images, phases, bias, threads, after: After::default() }))
}

/// The taps of a convolution of images, where padding is told.
fn taps(node: &Node, weights: &Tensor) -> Option<Taps> {
    let positive = |name| {
        let pair = pair(node, name, 1)?;
        pair.iter().all(|&value| value > 0).then_some(pair.map(|value| value as usize))
    };
    let &[_, _, down, across] = weights.shape() else { return None };
    let pads = pair(node, "pads", 0)?.map(|pad| pad as isize);
    let told = node.ints("output_shape").is_none();
    told.then_some(Taps {
        kernel: [down, across],
        strides: positive("strides")?,
        dilations: positive("dilations")?,
        pads,
    })
}

/// The convolution whose results a node puts apart, with zeros between them, and how far: by products with matrices of ones
/// and zeros, along both axes.
fn spread<'a>(node: &'a Node, made: &Made<'a>) -> Option<(&'a Node, [usize; 2])> {
    let [inner, across] = operands(node, "MatMul")?;
    let [down, results] = made.by(inner, "MatMul")?;
    let conv = made.node(results, "Conv")?;
    // The matrix is one of places by results, or the other way round.
    let step = |matrix: &Name, by_results: bool| {
        let matrix = made.constants.get(matrix)?;
        let &[rows, columns] = matrix.shape() else { return None };
        let (places, results) = if by_results { (rows, columns) } else { (columns, rows) };
        let elements = matrix.slice::<f32>()?;
        let element =
            |place, result| elements[if by_results { place * columns + result } else { result * columns + place }];
        let step = (1..places).find(|&place| results > 1 && element(place, 1) == 1.0)?;
        let is_put = |place| (0..results).all(|result| element(place, result) == f32::from(place == result * step));
        (0..places).all(is_put).then_some(step)
    };
    Some((conv, [step(down, true)?, step(across, false)?]))
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl Layer for ImplicitConv {
    const OPERATOR: &'static str = "ImplicitConv";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];
    const ANY_NUMBER: bool = true;

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let ImplicitConv { shape, images, phases, bias, threads, after } = self;
        let read = images * shape.channels * shape.input.iter().product::<usize>();
        let rows = Rows { threads: *threads, count: images * shape.output[0], read, bias, after };
        let line = shape.output[1] * shape.outputs;
        rows.compute(
            context,
            output,
            |row| row * line,
            |part| {
                WORK.with_borrow_mut(|work| arch.dispatch(Lines { shape: *shape, phases, part, work }));
            },
        )
    }
}

impl Convolution for ImplicitConv {
    fn after(&mut self) -> &mut After {
        &mut self.after
    }
}

#[cfg(test)]
mod tests {
    use super::super::convolutions::by_tiles;
    use super::super::operators::tests::{Built, counts, near};
    use super::*;
    use crate::graph::attribute;
    use ndarray::Array2;
    use std::sync::Arc;

    /// Between convolutions with 3×3 taps convolutions of all kinds.
    fn network() -> Built {
        let mut built = Built::new(&[4, 64, 12, 12], &["k", "p"]);
        let ints = |name: &str, values: &[i64]| attribute(name, values.to_vec());
        let pads = || ints("pads", &[1; 4]);
        built.constant("3×3", &[64, 64, 3, 3]);
        built.constant("1×1", &[64, 64, 1, 1]);
        built.constant("by two", &[96, 64, 3, 3]);
        built.constant("apart", &[32, 96, 2, 3]);
        built.constant("back", &[32, 64, 2, 2]);
        built.constant("1×1 back", &[64, 32, 1, 1]);
        built.constant("half", &[]);
        built.constant("bias", &[64]);
        let ones = |rows: usize, columns: usize, step: [usize; 2]| {
            Tensor::F32(
                Array2::from_shape_fn((rows, columns), |at| f32::from(u8::from(at.0 * step[0] == at.1 * step[1])))
                    .into_dyn(),
            )
        };
        built.graph.constants.insert("down".into(), Arc::new(ones(9, 5, [1, 2])));
        built.graph.constants.insert("across".into(), Arc::new(ones(5, 13, [3, 1])));
        built.node("Conv", &["x", "3×3"], &["a"], &[4, 64, 12, 12], vec![pads()]);
        built.node("Conv", &["a", "1×1", "bias"], &["b"], &[4, 64, 12, 12], vec![]);
        built.node("Add", &["b", "x"], &["c"], &[4, 64, 12, 12], vec![]);
        built.node("Relu", &["c"], &["d"], &[4, 64, 12, 12], vec![]);
        let by_two = vec![pads(), ints("strides", &[2; 2])];
        built.node("Conv", &["d", "by two"], &["e"], &[4, 96, 6, 6], by_two);
        let apart = vec![ints("pads", &[0, 1, 1, 0]), ints("dilations", &[2, 1])];
        built.node("Conv", &["e", "apart"], &["f"], &[4, 32, 5, 5], apart);
        let back = vec![ints("strides", &[2; 2]), ints("output_padding", &[1, 0]), ints("pads", &[0, 1, 0, 1])];
        built.node("ConvTranspose", &["f", "back"], &["g"], &[4, 64, 11, 8], back);
        let place = ints("pads", &[1, 3, 0, 1]);
        built.node("Conv", &["g", "3×3"], &["h"], &[4, 64, 10, 10], vec![place]);
        built.node("Conv", &["f", "1×1 back"], &["i"], &[4, 64, 5, 5], vec![]);
        built.node("MatMul", &["down", "i"], &["j"], &[4, 64, 9, 5], vec![]);
        built.node("MatMul", &["j", "across"], &["l"], &[4, 64, 9, 13], vec![]);
        built.node("Sub", &["l", "half"], &["m"], &[4, 64, 9, 13], vec![]);
        built.node("Conv", &["m", "3×3"], &["k"], &[4, 64, 9, 13], vec![pads()]);
        built.node("Relu", &["h"], &["p"], &[4, 64, 10, 10], vec![]);
        built
    }

    #[test]
    fn as_the_runtime_does() {
        let built = network();
        let (mut graph, kinds) = (built.graph.clone(), &built.kinds);
        by_tiles(&mut graph, kinds, &|_| true, 2);
        let before = last::moved(&graph, kinds);
        assert_eq!(by_products(&mut graph, kinds, 2).iter().len(), 5);
        assert!(last::moved(&graph, kinds) < before && !counts(&graph).contains_key("MatMul"));
        let [expected, found] = built.run(&|_| true);
        found.iter().zip(&expected).for_each(|(found, expected)| near(found, expected));
    }

    #[test]
    fn only_where_less_is_moved() {
        for (beside, count) in [("MaxPool", 0), ("Relu", 1)] {
            let shape = [2, 64, 12, 12];
            let mut built = Built::new(&shape, &["a", "d"]);
            built.constant("3×3", &[64, 64, 3, 3]);
            built.constant("1×1", &[64, 64, 1, 1]);
            let window = || if beside == "MaxPool" { vec![attribute("kernel_shape", vec![1; 2])] } else { vec![] };
            built.node("Conv", &["x", "3×3"], &["a"], &shape, vec![attribute("pads", vec![1; 4])]);
            built.node(beside, &["x"], &["b"], &shape, window());
            built.node("Conv", &["b", "1×1"], &["c"], &shape, vec![]);
            built.node(beside, &["c"], &["d"], &shape, window());
            let Built { mut graph, kinds } = built;
            by_tiles(&mut graph, &kinds, &|_| true, 2);
            assert_eq!(by_products(&mut graph, &kinds, 2).iter().len(), count);
        }
    }
}
