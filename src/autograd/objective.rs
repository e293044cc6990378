//! What is differentiated. An objective is a number for each sample; it enters the backward pass as
//! the gradient of the outputs, the seed.

use super::{GradError, Tape};
use crate::graph::{Name, attribute};
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

/// The gradient of the weighted sum of the objective over the batch, for each output.
///
/// # Errors
/// An output that is not floating point; for objectives over classes, one that is not `[batch, classes]`.
pub(super) fn seeds(tape: &mut Tape, outputs: &[Name], objective: Objective) -> Result<Vec<(Name, Name)>, GradError> {
    for name in outputs {
        let dtype = tape.dtype(name);
        if !dtype.is_float() {
            return Err(GradError::Output { name: crate::error::printable(name), dtype: dtype.to_string() });
        }
        let per_class = !matches!(objective, Objective::SquaredL2 | Objective::L2);
        if per_class && tape.rank(name) != 2 {
            return Err(GradError::Objective {
                objective: objective.name().into(),
                name: crate::error::printable(name),
                shape: tape.shape(name),
            });
        }
    }
    let batch = tape.batch();
    let weight = tape.input("sample_weight", DType::F32, &[batch]);
    let norm = (objective == Objective::L2).then(|| norm(tape, outputs));
    let mut seeds = Vec::new();
    for output in outputs {
        let gradient = match (objective, &norm) {
            (Objective::L2, Some(norm)) => {
                let norm = per_sample(tape, norm, output);
                tape.div(output, &norm)
            }
            (Objective::Probability, _) => probability(tape, output),
            (Objective::Top, _) => top(tape, output),
            (Objective::Fisher, _) => cross_entropy(tape, output),
            (Objective::SquaredL2 | Objective::L2, _) => tape.scale(output, 2.0),
        };
        let weight = per_sample(tape, &weight, output);
        seeds.push((output.clone(), tape.mul(&gradient, &weight)));
    }
    Ok(seeds)
}

/// A number per sample shaped and typed to multiply an output.
fn per_sample(tape: &mut Tape, x: &Name, output: &Name) -> Name {
    let mut shape = vec![1; tape.rank(output).max(1)];
    shape[0] = tape.batch();
    let x = tape.reshape(x, &shape);
    let dtype = tape.dtype(output);
    tape.cast(&x, dtype)
}

/// `‖f‖₂` for each sample over all outputs, shape `[batch]`, at least the smallest normal number so
/// that a sample of zeros has the gradient zero.
fn norm(tape: &mut Tape, outputs: &[Name]) -> Name {
    let mut total: Option<Name> = None;
    for output in outputs {
        let square = tape.mul(output, output);
        let axes: Vec<usize> = (1..tape.rank(output)).collect();
        let sum = tape.sum(&square, &axes);
        let batch = tape.batch();
        let sum = tape.reshape(&sum, &[batch]);
        total = Some(match total {
            Some(total) => tape.add(&total, &sum),
            None => sum,
        });
    }
    let total = total.unwrap_or_else(|| tape.constant(crate::tensor::Tensor::F32(ndarray::arr1(&[1.0]).into_dyn())));
    let root = tape.unary("Sqrt", &total);
    let positive = tape.compare_with("Greater", &root, 0.0);
    let one = tape.scalar(&root, 1.0);
    tape.select(&positive, &root, &one)
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
