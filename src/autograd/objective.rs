//! What is differentiated. An objective is a number for each sample; it enters the backward pass as
//! the gradient of the outputs, the seed.

use super::{GradError, Tape};
use crate::graph::{Name, attribute};
use crate::specialise::samples::Layout;
use crate::tensor::DType;
use ndarray::Array1;

/// The input of the backward graph that weighs samples, shape `[batch]`, float32: 1 for a sample
/// that counts (`1 / count` for a mean over the batch), 0 for padding.
pub const SAMPLE_WEIGHT: &str = "onnx_unlearn/sample_weight";
/// The input of the backward graph that holds labels as one-hot rows, shape `[batch, classes]`, float32.
pub const ONE_HOT: &str = "onnx_unlearn/one_hot";

/// The number per sample whose gradient makes the importance. `f` are the chosen outputs for the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum Objective {
    /// `‖f‖₂²`: arXiv 2402.19308.
    #[serde(rename = "sq-l2")]
    SquaredL2,
    /// `‖f‖₂`.
    #[serde(rename = "l2")]
    L2,
    /// `‖softmax(f)‖₂²`.
    #[serde(rename = "prob")]
    Probability,
    /// The largest output.
    #[serde(rename = "top")]
    Top,
    /// The cross entropy with the label, squared gradients: SSD, arXiv 2308.07707.
    #[serde(rename = "fisher")]
    Fisher,
}

impl Objective {
    pub const ALL: [Objective; 5] =
        [Objective::SquaredL2, Objective::L2, Objective::Probability, Objective::Top, Objective::Fisher];

    /// The objective with this name.
    pub fn named(name: &str) -> Option<Objective> {
        Objective::ALL.into_iter().find(|o| o.name() == name)
    }

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Objective::SquaredL2 => "sq-l2",
            Objective::L2 => "l2",
            Objective::Probability => "prob",
            Objective::Top => "top",
            Objective::Fisher => "fisher",
        }
    }
}

/// Weights of the samples that are given as an input, shape `[batch]`.
pub(super) fn weights(tape: &mut Tape) -> Name {
    let batch = tape.batch();
    tape.input("sample_weight", DType::F32, &[batch])
}

/// One weight for all samples, which makes the sum a mean over the batch, shape `[]`.
pub(super) fn mean_weight(tape: &mut Tape, outputs: &[Name]) -> Name {
    let batch = tape.batch();
    let dtype = outputs.first().map_or(DType::F32, |output| tape.dtype(output));
    tape.constant_floats(dtype, ndarray::arr0(1.0 / batch as f64).into_dyn())
}

/// An input for the gradient of each output, of its type and shape.
///
/// # Errors
/// An output that is not floating point.
pub(super) fn inputs(tape: &mut Tape, outputs: &[Name]) -> Result<Vec<(Name, Name)>, GradError> {
    let seed = |output: &Name| {
        let (dtype, shape) = (check_float(tape, output)?, tape.shape(output));
        Ok((output.clone(), tape.input(&format!("seed/{output}"), dtype, &shape)))
    };
    outputs.iter().map(seed).collect()
}

fn check_float(tape: &Tape, output: &Name) -> Result<DType, GradError> {
    match tape.dtype(output) {
        dtype if dtype.is_float() => Ok(dtype),
        dtype => Err(GradError::Output { name: crate::error::printable(output), dtype: dtype.to_string() }),
    }
}

/// The gradient of the weighted sum of the objective over the batch, for each output. `weight` has shape `[batch]`, or
/// `[]` where it is the same for all samples.
///
/// # Errors
/// An output that is not floating point; for objectives over classes, one that is not `[batch, classes]`.
pub(super) fn seeds(
    tape: &mut Tape,
    outputs: &[Name],
    objective: Objective,
    weight: &Name,
) -> Result<Vec<(Name, Name)>, GradError> {
    let batch = tape.batch();
    for name in outputs {
        check_float(tape, name)?;
        let per_class = !matches!(objective, Objective::SquaredL2 | Objective::L2);
        let shape = tape.shape(name);
        if per_class && !matches!(shape[..], [rows, _] if rows == batch) {
            let (objective, name) = (objective.name().into(), crate::error::printable(name));
            return Err(GradError::Objective { objective, name, shape });
        }
    }
    let factor = match objective {
        Objective::L2 => over_norm(tape, weight, outputs),
        _ => weight.clone(),
    };
    let mut seeds = Vec::new();
    for output in outputs {
        let gradient = match objective {
            Objective::SquaredL2 => tape.scale(output, 2.0),
            Objective::L2 => output.clone(),
            Objective::Probability => probability(tape, output),
            Objective::Top => top(tape, output),
            Objective::Fisher => cross_entropy(tape, output),
        };
        seeds.push((output.clone(), weigh(tape, &gradient, &factor)));
    }
    Ok(seeds)
}

/// The elements of a value as `[before, batch, after]`; none where they do not belong to one sample each.
fn by_sample(tape: &Tape, value: &Name) -> Option<[usize; 3]> {
    let (batch, shape) = (tape.batch(), tape.shape(value));
    let len: usize = shape.iter().product();
    let after = match tape.facts.layout(value) {
        Layout::Samples { stride } => stride,
        _ if batch == 1 => len,
        // Mixed on the way, but the rows are still those of the samples.
        Layout::Mixed if shape.first() == Some(&batch) => len / batch,
        _ => return None,
    };
    Some([len / (batch * after).max(1), batch, after])
}

/// A gradient times a factor for each sample, shape `[batch]`, or for all of them, shape `[]`.
fn weigh(tape: &mut Tape, gradient: &Name, factor: &Name) -> Name {
    let (dtype, shape, batch) = (tape.dtype(gradient), tape.shape(gradient), tape.batch());
    let factor = tape.cast(factor, dtype);
    let one = tape.rank(&factor) == 0;
    let shared = tape.facts.layout(gradient) == Layout::Shared;
    // A value that is the same for all samples counts for each of them.
    if one && shared && batch > 1 {
        let total = tape.scale(&factor, batch as f64);
        return tape.mul(gradient, &total);
    }
    if one {
        return tape.mul(gradient, &factor);
    }
    if let Some(found) = tape.facts.sample_axis(gradient).filter(|found| (found.outer, found.inner) == (1, 1)) {
        let mut aligned = vec![1; shape.len()];
        aligned[found.axis] = batch;
        let factor = tape.reshape(&factor, &aligned);
        return tape.mul(gradient, &factor);
    }
    match by_sample(tape, gradient) {
        Some(view) => {
            let rows = tape.reshape(gradient, &view);
            let factor = tape.reshape(&factor, &[1, batch, 1]);
            let product = tape.mul(&rows, &factor);
            tape.reshape(&product, &shape)
        }
        None => {
            let total = if shared { tape.sum(&factor, &[0]) } else { tape.mean(&factor, &[0]) };
            let total = tape.reshape(&total, &vec![1; shape.len()]);
            tape.mul(gradient, &total)
        }
    }
}

/// The weights over `‖f‖₂` of each sample over all outputs, shape `[batch]`; over one for a sample of zeros, whose
/// gradient is zero.
fn over_norm(tape: &mut Tape, weight: &Name, outputs: &[Name]) -> Name {
    let Some(dtype) = outputs.first().map(|output| tape.dtype(output)) else { return weight.clone() };
    let batch = tape.batch();
    let squares = outputs.iter().map(|output| {
        let view = by_sample(tape, output).unwrap_or([1, 1, tape.shape(output).iter().product()]);
        let square = tape.mul(output, output);
        let square = tape.reshape(&square, &view);
        let sum = tape.sum_to(&square, &[0, 2], &[view[1]]);
        tape.cast(&sum, dtype)
    });
    let squares: Vec<Name> = squares.collect();
    let total = squares.into_iter().reduce(|a, b| tape.add(&a, &b));
    let Some(total) = total else { return weight.clone() };
    let root = tape.unary("Sqrt", &total);
    let positive = tape.compare_with("Greater", &root, 0.0);
    let one = tape.scalar(&root, 1.0);
    let norm = tape.select(&positive, &root, &one);
    let weight = tape.cast(weight, dtype);
    let factor = tape.div(&weight, &norm);
    tape.expand(&factor, &[batch])
}

fn softmax(tape: &mut Tape, x: &Name) -> Name {
    let kind = (tape.dtype(x), tape.shape(x));
    tape.node("Softmax", &[x], vec![attribute("axis", 1)], kind)
}

/// `d‖s‖² / df = 2 s (s - ‖s‖²)` with `s = softmax(f)`.
fn probability(tape: &mut Tape, output: &Name) -> Name {
    let s = softmax(tape, output);
    let square = tape.mul(&s, &s);
    let total = tape.sum(&square, &[1]);
    let difference = tape.sub(&s, &total);
    let product = tape.mul(&s, &difference);
    tape.scale(&product, 2.0)
}

/// One at the first largest output, else zero.
fn top(tape: &mut Tape, output: &Name) -> Name {
    let shape = tape.shape(output);
    let first = tape.node(
        "ArgMax",
        &[output],
        vec![attribute("axis", 1), attribute("keepdims", 1)],
        (DType::I64, vec![shape[0], 1]),
    );
    let classes = Array1::from_iter(0..shape[1] as i64).into_dyn();
    let classes = tape.constant(crate::tensor::Tensor::I64(classes));
    let hit = tape.compare("Equal", &first, &classes);
    let dtype = tape.dtype(output);
    tape.cast(&hit, dtype)
}

/// `d CE / df = softmax(f) - label`.
fn cross_entropy(tape: &mut Tape, output: &Name) -> Name {
    let shape = tape.shape(output);
    let label = tape.input("one_hot", DType::F32, &shape);
    let dtype = tape.dtype(output);
    let label = tape.cast(&label, dtype);
    let s = softmax(tape, output);
    tape.sub(&s, &label)
}
