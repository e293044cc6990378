//! The only table of operators: what an operator's gradient is, which axis its output holds the
//! samples on, and which of its inputs are weights that training would fit.
//!
//! A rule takes the gradients of a node's outputs and gives one gradient for each input. It does not
//! add up, undo broadcasts, filter types or make names: the driver does.

mod activation;
mod along;
mod arithmetic;
mod attend;
mod conv;
mod curve;
mod image;
mod interpolate;
pub mod kinks;
mod matmul;
mod normalisation;
mod norms;

mod pool;
pub(super) mod quantise;
mod rearrange;
mod reduce;
mod resize;
mod scatter;
mod select;
mod shape;
mod trigonometry;
mod variadic;
pub(super) mod window;

use super::rewrite::{
    attention, bert, cut, einsum, fourier, fused, grid, loss, normal, places, recurrent, region, running,
};
use super::{Grad, GradError, Tape};
use crate::graph::{Name, Node};
use crate::specialise::samples::{self, SampleRule};
use std::ops::RangeInclusive;

/// The gradients of the inputs of a node from those of its outputs.
pub type Rule = fn(&Node, &[Option<Name>], &mut Tape) -> Result<Vec<Option<Grad>>, GradError>;

/// The outputs of a node, none for one that cannot be had, computed by nodes that have rules.
pub type Rewrite = fn(&Node, &mut Tape) -> Result<Vec<Option<Name>>, GradError>;

pub enum Gradient {
    Rule(Rule),
    /// The node is replaced by others before the reverse pass.
    Rewrite(Rewrite),
    /// Specialising replaces it by what it runs.
    Unrolled,
    /// The gradient is zero wherever it exists, for this reason.
    Zero(&'static str),
    /// There is none here, for this reason.
    Refused(&'static str),
}

/// One operator.
pub struct Row {
    /// The empty string for the default domain.
    pub domain: &'static str,
    pub op: &'static str,
    pub opsets: RangeInclusive<i64>,
    pub gradient: Gradient,
    pub samples: SampleRule,
    /// Inputs that are weights where they are floating-point constants, each with its role.
    pub weights: &'static [(usize, &'static str)],
}

impl Row {
    /// The role of input `i` as a weight. A row with one weight input that may repeat (Concat, Sum) says so by `usize::MAX`.
    pub fn role(&self, i: usize) -> Option<&'static str> {
        self.weights.iter().find(|(slot, _)| *slot == i || *slot == usize::MAX).map(|(_, role)| *role)
    }
}

/// Opsets that the rules were written for; graphs of older ones are raised before.
const OPSETS: RangeInclusive<i64> = 13..=26;

const fn row(op: &'static str, rule: Rule, samples: SampleRule, weights: &'static [(usize, &'static str)]) -> Row {
    Row { domain: "", op, opsets: OPSETS, gradient: Gradient::Rule(rule), samples, weights }
}

const fn zero(op: &'static str, reason: &'static str, samples: SampleRule) -> Row {
    Row { domain: "", op, opsets: OPSETS, gradient: Gradient::Zero(reason), samples, weights: &[] }
}

const fn refused(op: &'static str, reason: &'static str) -> Row {
    Row { gradient: Gradient::Refused(reason), ..zero(op, "", samples::never) }
}

/// A row of an operator that is replaced by others, which then tell how the samples lie.
const fn rewritten(op: &'static str, rewrite: Rewrite, weights: &'static [(usize, &'static str)]) -> Row {
    Row { domain: "", op, opsets: OPSETS, gradient: Gradient::Rewrite(rewrite), samples: samples::never, weights }
}

impl Row {
    /// The row for these opsets alone.
    const fn at(self, opsets: RangeInclusive<i64>) -> Row {
        Row { opsets, ..self }
    }

    /// The row of an operator around networks of classical libraries.
    const fn of_ml(self) -> Row {
        Row { domain: ML, ..self }
    }

    /// The row of an operator that ONNX Runtime's optimiser writes.
    const fn of_microsoft(self) -> Row {
        Row { domain: MICROSOFT, ..self }
    }
}

const MICROSOFT: &str = "com.microsoft";
pub const ML: &str = "ai.onnx.ml";

const fn unrolled(op: &'static str) -> Row {
    Row { gradient: Gradient::Unrolled, ..zero(op, "", samples::never) }
}

const STEP: &str = "piecewise constant";
const TRUTH: &str = "its output is a truth value";
const INDEX: &str = "its output is an index";
const INTEGER: &str = "its operands are integers";
const INTEGERS: &str = "it computes in integers, in place of QuantizeLinear and DequantizeLinear";
const RANDOM: &str = "its output is random";
const SHAPE: &str = "its output depends on shapes alone";

const ADDEND: &[(usize, &str)] = &[(0, "addend"), (1, "addend")];
const ADDENDS: &[(usize, &str)] = &[(usize::MAX, "addend")];
const FACTOR: &[(usize, &str)] = &[(0, "factor"), (1, "factor")];
const CONV: &[(usize, &str)] = &[(1, "convolution weight"), (2, "convolution bias")];
const DEFORMED: &[(usize, &str)] = &[(1, "convolution weight"), (3, "convolution bias")];
const EMBEDDING: &[(usize, &str)] = &[
    (2, "embedding table"),
    (3, "embedding table"),
    (4, "embedding table"),
    (5, "normalisation scale"),
    (6, "normalisation bias"),
];
const GEMM: &[(usize, &str)] = &[(0, "matrix"), (1, "matrix"), (2, "bias")];
const MATRIX: &[(usize, &str)] = &[(0, "matrix"), (1, "matrix")];
const MATRICES: &[(usize, &str)] = &[(usize::MAX, "matrix")];
const NORM: &[(usize, &str)] = &[(1, "normalisation scale"), (2, "normalisation bias")];
const PROJECTION: &[(usize, &str)] = &[(1, "matrix"), (2, "bias")];
const RECURRENT: &[(usize, &str)] =
    &[(1, "recurrent weight"), (2, "recurrent weight"), (3, "recurrent bias"), (7, "peephole weight")];
const SLOPE: &[(usize, &str)] = &[(1, "slope")];
const SCALE: &[(usize, &str)] = &[(1, "normalisation scale")];
const SKIP: &[(usize, &str)] = &[(2, "normalisation scale"), (3, "normalisation bias"), (4, "bias")];
const SKIP_SIMPLE: &[(usize, &str)] = &[(2, "normalisation scale"), (3, "bias")];
const TABLE_ROWS: &[(usize, &str)] = &[(0, "embedding table")];
const TOKEN: &[(usize, &str)] = &[(0, "token")];
const TOKENS: &[(usize, &str)] = &[(usize::MAX, "token")];

pub static TABLE: &[Row] = &[
    row("Abs", arithmetic::abs, samples::elementwise, &[]),
    row("Acos", trigonometry::acos, samples::elementwise, &[]),
    row("Acosh", trigonometry::acosh, samples::elementwise, &[]),
    row("Add", arithmetic::add, samples::elementwise, ADDEND),
    rewritten("AffineGrid", grid::affine, &[]).at(20..=26),
    row("Asin", trigonometry::asin, samples::elementwise, &[]),
    row("Asinh", trigonometry::asinh, samples::elementwise, &[]),
    row("Atan", trigonometry::atan, samples::elementwise, &[]),
    row("Atanh", trigonometry::atanh, samples::elementwise, &[]),
    rewritten("Attention", attention::attention, &[]).at(23..=26),
    row("AveragePool", pool::average, samples::first_axis, &[]),
    row("BatchNormalization", normalisation::batch, samples::not_channels, NORM),
    row("Cast", shape::same, samples::elementwise, &[]),
    row("CastLike", shape::same, samples::elementwise, &[]),
    row("Celu", curve::celu, samples::elementwise, &[]),
    rewritten("CenterCropPad", cut::center, &[]),
    row("Clip", activation::clip, samples::elementwise, &[]),
    row("Col2Im", image::col2im, samples::first_axis, &[]).at(18..=26),
    rewritten("Compress", cut::compress, &[]),
    row("Concat", select::concat, samples::along_axis, TOKENS),
    row("Conv", conv::conv, samples::first_axis, CONV),
    row("Cos", trigonometry::cos, samples::elementwise, &[]),
    row("Cosh", trigonometry::cosh, samples::elementwise, &[]),
    rewritten("CumProd", running::product, TOKEN).at(26..=26),
    row("CumSum", rearrange::cum_sum, samples::axes::mixes_axis_input, &[]),
    rewritten("DFT", fourier::transform, &[]),
    rewritten("DeformConv", grid::deformed, DEFORMED).at(19..=26),
    row("DepthToSpace", rearrange::depth_to_space, samples::first_axis, &[]),
    row("ConvTranspose", conv::transposed_forward, samples::first_axis, CONV),
    row("DequantizeLinear", quantise::dequantise, samples::elementwise, &[]),
    row("Det", image::determinant, samples::axes::determinants, &[]),
    row("Div", arithmetic::div, samples::elementwise, &[]),
    row("Dropout", shape::dropout, samples::elementwise, &[]),
    rewritten("Einsum", einsum::einsum, MATRICES),
    row("Elu", curve::elu, samples::elementwise, &[]),
    row("Erf", activation::erf, samples::elementwise, &[]),
    row("Exp", arithmetic::exp, samples::elementwise, &[]),
    row("Expand", shape::same, samples::elementwise, TOKEN),
    row("Flatten", shape::reshape, samples::flat_order, &[]),
    row("Gather", select::gather, samples::gather, TABLE_ROWS),
    row("GatherElements", scatter::gather_elements, samples::scatter_elements, &[]),
    rewritten("GatherND", places::gather, TABLE_ROWS),
    row("Gelu", activation::gelu, samples::elementwise, &[]),
    row("Gemm", matmul::gemm, samples::gemm, GEMM),
    row("GlobalAveragePool", pool::global_average, samples::first_axis, &[]),
    row("GlobalMaxPool", rearrange::global_max, samples::first_axis, &[]),
    row("HardSigmoid", curve::hard_sigmoid, samples::elementwise, &[]),
    row("HardSwish", curve::hard_swish, samples::elementwise, &[]),
    rewritten("GRU", recurrent::gru, RECURRENT),
    rewritten("GlobalLpPool", normal::global_lp_pool, &[]),
    rewritten("GridSample", grid::sample, &[]),
    rewritten("GroupNormalization", normal::group, NORM).at(18..=26),
    unrolled("If"),
    row("Identity", shape::same, samples::elementwise, &[]),
    rewritten("InstanceNormalization", normal::instance, NORM),
    rewritten("LRN", normal::local_response, &[]),
    rewritten("LSTM", recurrent::lstm, RECURRENT),
    row("LayerNormalization", normalisation::layer, samples::mixes_from_axis, NORM),
    row("LeakyRelu", activation::leaky_relu, samples::elementwise, &[]),
    row("Log", arithmetic::log, samples::elementwise, &[]),
    row("LogSoftmax", attend::log_softmax, samples::mixes_axis, &[]),
    unrolled("Loop"),
    rewritten("LpNormalization", normal::lp, &[]),
    rewritten("LpPool", normal::lp_pool, &[]),
    row("MatMul", matmul::matmul, samples::matmul, MATRIX),
    row("Max", variadic::extreme, samples::elementwise, &[]),
    row("MaxPool", pool::max, samples::first_axis, &[]),
    row("MaxUnpool", image::max_unpool, samples::axes::unpool, &[]),
    row("Mean", variadic::mean, samples::elementwise, ADDENDS),
    row("Min", variadic::extreme, samples::elementwise, &[]),
    row("Mish", curve::mish, samples::elementwise, &[]),
    row("Mod", variadic::modulo, samples::elementwise, &[]),
    rewritten("MeanVarianceNormalization", normal::mean_variance, &[]),
    row("Mul", arithmetic::mul, samples::elementwise, FACTOR),
    row("Neg", arithmetic::neg, samples::elementwise, &[]),
    rewritten("NegativeLogLikelihoodLoss", loss::negative_log_likelihood, &[]),
    row("OneHot", select::one_hot, samples::axes::one_hot, &[]),
    row("PRelu", curve::prelu, samples::elementwise, SLOPE),
    row("Pad", select::pad, samples::pad, &[]),
    row("Pow", arithmetic::pow, samples::elementwise, &[]),
    rewritten("RMSNormalization", normal::root_mean_square, SCALE).at(23..=26),
    row("Range", arithmetic::range, samples::never, &[]),
    row("QuantizeLinear", quantise::quantise, samples::elementwise, &[]),
    rewritten("RNN", recurrent::rnn, RECURRENT),
    row("Reciprocal", arithmetic::reciprocal, samples::elementwise, &[]),
    row("ReduceL1", norms::l1, samples::reduction, &[]),
    row("ReduceL2", norms::l2, samples::reduction, &[]),
    row("ReduceLogSum", norms::log_sum, samples::reduction, &[]),
    row("ReduceLogSumExp", norms::log_sum_exp, samples::reduction, &[]),
    row("ReduceMax", norms::extreme, samples::reduction, &[]),
    row("ReduceMean", reduce::mean, samples::reduction, &[]),
    row("ReduceMin", norms::extreme, samples::reduction, &[]),
    row("ReduceProd", norms::prod, samples::reduction, &[]),
    row("ReduceSum", reduce::sum, samples::reduction, &[]),
    row("ReduceSumSquare", norms::sum_square, samples::reduction, &[]),
    row("Relu", activation::relu, samples::elementwise, &[]),
    row("Reshape", shape::reshape, samples::flat_order, &[]),
    rewritten("RoiAlign", region::align, &[]),
    rewritten("RotaryEmbedding", attention::rotary, &[]).at(23..=26),
    unrolled("Scan"),
    row("ScatterElements", scatter::scatter_elements, samples::scatter_elements, TOKENS),
    rewritten("ScatterND", places::scatter, TOKENS),
    row("Resize", resize::resize, samples::axes::resize, &[]),
    row("ReverseSequence", image::reverse_sequence, samples::axes::reversed, &[]),
    row("Selu", curve::selu, samples::elementwise, &[]),
    row("Shrink", curve::shrink, samples::elementwise, &[]),
    rewritten("STFT", fourier::short_time, &[]),
    row("Sigmoid", activation::sigmoid, samples::elementwise, &[]),
    row("Sin", trigonometry::sin, samples::elementwise, &[]),
    row("Sinh", trigonometry::sinh, samples::elementwise, &[]),
    rewritten("SimplifiedLayerNormalization", normal::root_mean_square, SCALE),
    row("Slice", select::slice, samples::slice, &[]),
    row("Softmax", attend::softmax, samples::mixes_axis, &[]),
    rewritten("SoftmaxCrossEntropyLoss", loss::cross_entropy, &[]),
    row("Softplus", curve::softplus, samples::elementwise, &[]),
    row("Softsign", curve::softsign, samples::elementwise, &[]),
    row("SpaceToDepth", rearrange::space_to_depth, samples::first_axis, &[]),
    row("Split", select::split, samples::along_axis, &[]),
    row("Sqrt", arithmetic::sqrt, samples::elementwise, &[]),
    row("Squeeze", shape::reshape, samples::flat_order, &[]),
    row("Sub", arithmetic::sub, samples::elementwise, &[]),
    row("Sum", variadic::sum, samples::elementwise, ADDENDS),
    row("Swish", curve::swish, samples::elementwise, &[]),
    row("Tan", trigonometry::tan, samples::elementwise, &[]),
    row("Tanh", activation::tanh, samples::elementwise, &[]),
    rewritten("TensorScatter", places::into_cache, TOKENS).at(24..=26),
    row("ThresholdedRelu", curve::thresholded_relu, samples::elementwise, &[]),
    row("Tile", rearrange::tile, samples::axes::tile, &[]),
    row("TopK", scatter::top_k, samples::mixes_axis, &[]),
    row("Transpose", shape::transpose, samples::transpose, &[]),
    row("Trilu", rearrange::trilu, samples::axes::matrices, &[]),
    row("Unsqueeze", shape::reshape, samples::flat_order, &[]),
    row("Where", select::select, samples::elementwise, &[(1, "token"), (2, "token")]),
    refused("MelWeightMatrix", "its operands are settings"),
    refused("OptionalGetElement", "optional values are not computed with"),
    refused("Unique", "the number of its outputs depends on data"),
    refused("ConvInteger", INTEGERS),
    refused("DynamicQuantizeLinear", "its scale depends on the extremes of the whole batch"),
    refused("MatMulInteger", INTEGERS),
    refused("QLinearConv", INTEGERS),
    refused("QLinearMatMul", INTEGERS),
    rewritten("Attention", bert::attention, PROJECTION).of_microsoft(),
    rewritten("BiasGelu", fused::gelu, &[(1, "bias")]).of_microsoft(),
    rewritten("EmbedLayerNormalization", bert::embed_layer, EMBEDDING).of_microsoft(),
    rewritten("FastGelu", fused::fast_gelu, &[(1, "bias")]).of_microsoft(),
    rewritten("FusedConv", fused::conv, CONV).of_microsoft(),
    rewritten("FusedMatMul", fused::matmul, MATRIX).of_microsoft(),
    rewritten("Gelu", fused::gelu, &[]).of_microsoft(),
    rewritten("MultiHeadAttention", bert::multi_head, &[(3, "bias")]).of_microsoft(),
    rewritten("QuickGelu", fused::quick_gelu, &[]).of_microsoft(),
    rewritten("RotaryEmbedding", bert::rotary, &[]).of_microsoft(),
    rewritten("SkipLayerNormalization", fused::skip_layer, SKIP).of_microsoft(),
    rewritten("SkipSimplifiedLayerNormalization", fused::skip_simplified, SKIP_SIMPLE).of_microsoft(),
    rewritten("TransposeMatMul", fused::matmul, MATRIX).of_microsoft(),
    zero("And", TRUTH, samples::elementwise),
    zero("ArgMax", INDEX, samples::reduction),
    zero("ArgMin", INDEX, samples::reduction),
    zero("Bernoulli", RANDOM, samples::elementwise),
    zero("BitShift", INTEGER, samples::elementwise),
    zero("BitwiseAnd", INTEGER, samples::elementwise),
    zero("BitwiseNot", INTEGER, samples::elementwise),
    zero("BitwiseOr", INTEGER, samples::elementwise),
    zero("BitwiseXor", INTEGER, samples::elementwise),
    zero("Ceil", STEP, samples::elementwise),
    zero("ConstantOfShape", SHAPE, samples::never),
    zero("Equal", TRUTH, samples::elementwise),
    zero("EyeLike", SHAPE, samples::never),
    zero("Floor", STEP, samples::elementwise),
    zero("Greater", TRUTH, samples::elementwise),
    zero("GreaterOrEqual", TRUTH, samples::elementwise),
    zero("Hardmax", STEP, samples::mixes_axis),
    zero("IsInf", TRUTH, samples::elementwise),
    zero("IsNaN", TRUTH, samples::elementwise),
    zero("Less", TRUTH, samples::elementwise),
    zero("LessOrEqual", TRUTH, samples::elementwise),
    zero("Multinomial", RANDOM, samples::never),
    zero("NonMaxSuppression", INDEX, samples::never),
    zero("NonZero", INDEX, samples::never),
    zero("Not", TRUTH, samples::elementwise),
    zero("Or", TRUTH, samples::elementwise),
    zero("RandomNormalLike", RANDOM, samples::never),
    zero("RandomUniformLike", RANDOM, samples::never),
    zero("Round", STEP, samples::elementwise),
    zero("Shape", SHAPE, samples::never),
    zero("Sign", STEP, samples::elementwise),
    zero("Size", SHAPE, samples::never),
    zero("Xor", TRUTH, samples::elementwise),
    zero("Binarizer", STEP, samples::elementwise).of_ml(),
    zero("LabelEncoder", INDEX, samples::elementwise).of_ml(),
];

/// The row of a node's operator at the graph's opset of the default domain.
pub fn find(node: &Node, opset: i64) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.op == node.op && row.domain == node.domain && row.opsets.contains(&opset))
}

/// The gradient of the first output, which the driver has made sure of for operators with one output.
fn first(node: &Node, grads: &[Option<Name>]) -> Result<Name, GradError> {
    let other = grads.iter().skip(1).any(Option::is_some);
    match grads.first().cloned().flatten() {
        Some(dy) if !other => Ok(dy),
        _ => Err(GradError::unsupported(node, "an output besides the first is used")),
    }
}
