//! Quantisation with a straight-through gradient: rounding is taken for the identity.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::DType;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = saturate(round(x / s) + z)`: `dx = dy / s` where nothing saturates.
pub(super) fn quantise(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let scale = aligned(node, tape, x, node.required(1)?)?;
    let [low, high] = range(node, tape)?;
    let scaled = tape.div(x, &scale);
    let mut level = tape.unary("Round", &scaled);
    if let Some(zero) = node.input(2) {
        let zero = aligned(node, tape, x, zero)?;
        let zero = tape.cast(&zero, tape.dtype(x));
        level = tape.add(&level, &zero);
    }
    let mut dx = tape.div(&dy, &scale);
    for (op, bound) in [("GreaterOrEqual", low), ("LessOrEqual", high)] {
        let inside = tape.compare_with(op, &level, bound);
        dx = tape.keep_where(&inside, &dx);
    }
    Ok(vec![Some(dx.into()), None, None])
}

/// `y = s (x - z)`: `dx = s dy`, for the number that the integer stands for.
pub(super) fn dequantise(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let scale = aligned(node, tape, node.required(0)?, node.required(1)?)?;
    Ok(vec![Some(tape.mul(&dy, &scale).into()), None, None])
}

/// The smallest and the largest level of the integers that a node gives.
pub(in crate::autograd) fn range(node: &Node, tape: &Tape) -> Result<[f64; 2], GradError> {
    match tape.dtype(node.output()?) {
        DType::I8 => Ok([-128.0, 127.0]),
        DType::U8 => Ok([0.0, 255.0]),
        DType::I16 => Ok([-32768.0, 32767.0]),
        other => Err(GradError::unsupported(node, format!("it quantises to {other}"))),
    }
}

/// A scale or a zero point in a shape that broadcasts to `x`: one number, one for each place of `axis`, or one for
/// each block along `axis`.
fn aligned(node: &Node, tape: &mut Tape, x: &Name, value: &Name) -> Result<Name, GradError> {
    let (from, to) = (tape.shape(value), tape.shape(x));
    if from.iter().product::<usize>() == 1 {
        return Ok(tape.reshape(value, &[]));
    }
    let axis = node.axis("axis", 1, to.len())?;
    let block = node.int("block_size").unwrap_or(0);
    if block <= 0 {
        let mut shape = vec![1; to.len()];
        shape[axis] = to[axis];
        return Ok(tape.reshape(value, &shape));
    }
    let blocks: Vec<i64> = (0..to[axis] as i64).map(|i| i / block).collect();
    let blocks = tape.constant_integers(&blocks);
    let kind = (tape.dtype(value), to);
    Ok(tape.node("Gather", &[value, &blocks], vec![attribute("axis", axis as i64)], kind))
}
