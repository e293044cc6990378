//! Losses of classes.

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::{DType, Tensor};
use ndarray::{ArrayD, IxDyn};

/// The negative logarithm of the softmax at the target; the second output is the logarithm itself.
pub(crate) fn cross_entropy(node: &Node, tape: &mut Tape) -> Values {
    let scores = node.required(0)?;
    let kind = (tape.dtype(scores), tape.shape(scores));
    let logarithm = tape.node("LogSoftmax", &[scores], vec![attribute("axis", 1)], kind);
    let loss = at_targets(node, tape, &logarithm)?;
    Ok(vec![Some(loss), Some(logarithm)])
}

/// `l = -w[t] x[t]` for the target `t` of each place; the mean is that over the weights.
pub(crate) fn negative_log_likelihood(node: &Node, tape: &mut Tape) -> Values {
    let loss = at_targets(node, tape, node.required(0)?)?;
    one(loss)
}

fn at_targets(node: &Node, tape: &mut Tape, x: &Name) -> Result<Name, GradError> {
    let (target, to) = (node.required(1)?, tape.shape(node.output()?));
    let mut aligned = tape.shape(x);
    aligned[1] = 1;
    let target = tape.cast(target, DType::I64);
    let target = tape.reshape(&target, &aligned);
    let integer = |value: i64| Tensor::I64(ArrayD::from_elem(IxDyn(&[]), value));
    let ignored = node.attribute("ignore_index").map(|a| {
        let index = tape.constant(integer(a.i));
        tape.compare("Equal", &target, &index)
    });
    let target = match &ignored {
        Some(ignored) => {
            let first = tape.constant(integer(0));
            tape.select(ignored, &first, &target)
        }
        None => target,
    };
    let kind = (tape.dtype(x), aligned.clone());
    let picked = tape.node("GatherElements", &[x, &target], vec![attribute("axis", 1)], kind.clone());
    let mut weight = match node.input(2) {
        Some(weight) => tape.node("Gather", &[weight, &target], vec![attribute("axis", 0)], kind),
        None => {
            let one = tape.scalar(x, 1.0);
            tape.expand(&one, &aligned)
        }
    };
    if let Some(ignored) = ignored {
        let zero = tape.scalar(x, 0.0);
        weight = tape.select(&ignored, &zero, &weight);
    }
    let product = tape.mul(&picked, &weight);
    let loss = tape.unary("Neg", &product);
    let axes: Vec<usize> = (0..aligned.len()).collect();
    let total = match node.string("reduction").unwrap_or("mean") {
        "none" => loss,
        "sum" => tape.sum(&loss, &axes),
        "mean" => {
            let (total, weights) = (tape.sum(&loss, &axes), tape.sum(&weight, &axes));
            tape.div(&total, &weights)
        }
        _ => return Err(node.bad("reduction").into()),
    };
    Ok(tape.reshape(&total, &to))
}
