//! Attention on values whose heads lie apart: `[samples, heads, positions, features]`.

use super::{GradError, Name, Node, Tape};
use crate::tensor::{DType, Tensor};
use ndarray::Array2;

/// What is done to the scores before the softmax.
pub(super) enum Mask {
    /// These numbers are added.
    Add(Name),
    /// Scores where this does not hold weigh nothing.
    Keep(Name),
}

/// Everything that attention computes on its way.
pub(super) struct Attended {
    pub y: Name,
    pub scores: Name,
    pub capped: Name,
    pub masked: Name,
    pub weights: Name,
}

/// `Y = softmax(masks(c tanh(scale Q Kᵀ / c))) V`, without the cap where `c` is zero.
pub(super) fn attend(tape: &mut Tape, [q, k, v]: [&Name; 3], scale: f64, cap: f64, masks: &[Mask]) -> Attended {
    let q = tape.scale(q, scale);
    let k = tape.swap_last(k);
    let scores = tape.matmul(&q, &k);
    let mut capped = scores.clone();
    if cap > 0.0 {
        let inner = tape.scale(&scores, 1.0 / cap);
        let tanh = tape.unary("Tanh", &inner);
        capped = tape.scale(&tanh, cap);
    }
    let mut masked = capped.clone();
    for mask in masks {
        masked = match mask {
            Mask::Add(addend) => tape.add(&masked, addend),
            Mask::Keep(condition) => {
                let lowest = if tape.dtype(&masked) == DType::F16 { -65504.0 } else { f32::MIN.into() };
                let lowest = tape.scalar(&masked, lowest);
                tape.select(condition, &masked, &lowest)
            }
        };
    }
    let weights = tape.unary("Softmax", &masked);
    Attended { y: tape.matmul(&weights, v), scores, capped, masked, weights }
}

/// Query `i` sees key `j` where `j ≤ i + offset`.
pub(super) fn causal(tape: &mut Tape, queries: usize, keys: usize, offset: usize) -> Mask {
    let sees = Array2::from_shape_fn((queries, keys), |(i, j)| j <= i + offset);
    Mask::Keep(tape.constant(Tensor::Bool(sees.into_dyn())))
}

/// From `[samples, positions, heads · features]`.
pub(super) fn apart(node: &Node, tape: &mut Tape, x: &Name, heads: usize) -> Result<Name, GradError> {
    match tape.shape(x)[..] {
        [samples, positions, width] if heads > 0 && width.is_multiple_of(heads) => {
            let x = tape.reshape(x, &[samples, positions, heads, width / heads]);
            Ok(tape.transpose(&x, &[0, 2, 1, 3]))
        }
        _ => Err(GradError::unsupported(node, "its heads cannot be told apart")),
    }
}

/// To `[samples, positions, heads · features]`.
pub(super) fn together(tape: &mut Tape, x: &Name) -> Name {
    let shape = tape.shape(x);
    let x = tape.transpose(x, &[0, 2, 1, 3]);
    tape.reshape(&x, &[shape[0], shape[2], shape[1] * shape[3]])
}

/// Each head repeated for all queries that share it, so that there are `heads`.
pub(super) fn repeated(tape: &mut Tape, x: &Name, heads: usize) -> Name {
    let shape = tape.shape(x);
    let [samples, own, positions, features] = [shape[0], shape[1], shape[2], shape[3]];
    if own == heads {
        return x.clone();
    }
    let single = tape.reshape(x, &[samples, own, 1, positions, features]);
    let many = tape.expand(&single, &[samples, own, heads / own.max(1), positions, features]);
    tape.reshape(&many, &[samples, heads, positions, features])
}

/// Attribute `name` as a number of heads.
pub(super) fn heads(node: &Node, name: &str) -> Result<usize, GradError> {
    node.int(name).and_then(|h| usize::try_from(h).ok()).filter(|&h| h > 0).ok_or_else(|| node.bad(name).into())
}
