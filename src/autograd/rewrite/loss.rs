//! Losses over classes (axis 1).

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::{DType, Tensor};
use ndarray::{ArrayD, IxDyn};

/// `-w[t] x[t]` at each target `t`, and what `reduction` makes of it.
pub(crate) fn negative_log_likelihood(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?.clone();
    one(loss(node, tape, &x)?)
}

/// The same of the logarithm of softmax, which is the second output.
pub(crate) fn cross_entropy(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let kind = (tape.dtype(x), tape.shape(x));
    let log = tape.node("LogSoftmax", &[x], vec![attribute("axis", 1)], kind);
    Ok(vec![Some(loss(node, tape, &log)?), Some(log)])
}

fn loss(node: &Node, tape: &mut Tape, x: &Name) -> Result<Name, GradError> {
    let shape = tape.shape(x);
    let hit = hits(node, tape, &shape)?;
    let aligned = [&[1, shape[1]], &vec![1; shape.len() - 2][..]].concat();
    let weight = match node.input(2) {
        Some(weight) => tape.reshape(weight, &aligned),
        None => tape.scalar(x, 1.0),
    };
    let weight = tape.keep_where(&hit, &weight);
    let picked = tape.keep_where(&hit, x);
    let terms = tape.mul(&picked, &weight);
    let terms = tape.unary("Neg", &terms);
    let all: Vec<usize> = (0..shape.len()).collect();
    let (axes, to) = match node.string("reduction").unwrap_or("mean") {
        "none" => (&all[1..2], [&shape[..1], &shape[2..]].concat()),
        _ => (&all[..], vec![]),
    };
    let mut total = tape.sum(&terms, axes);
    if node.string("reduction").unwrap_or("mean") == "mean" {
        let weights = tape.sum(&weight, axes);
        total = tape.div(&total, &weights);
    }
    Ok(tape.reshape(&total, &to))
}

/// Which class, along axis 1, is the target; none where the target is `ignore_index`.
fn hits(node: &Node, tape: &mut Tape, shape: &[usize]) -> Result<Name, GradError> {
    let target = tape.cast(node.required(1)?, DType::I64);
    let along: Vec<usize> = [&shape[..1], &[1], &shape[2..]].concat();
    let target = tape.reshape(&target, &along);
    let ignored = node.int("ignore_index");
    let classes = (0..shape[1] as i64).map(|class| if Some(class) == ignored { i64::MIN } else { class }).collect();
    let aligned = [&[1, shape[1]], &vec![1; shape.len() - 2][..]].concat();
    let classes = ArrayD::from_shape_vec(IxDyn(&aligned), classes).map_err(|_| node.bad("input 0"))?;
    let classes = tape.constant(Tensor::I64(classes));
    Ok(tape.compare("Equal", &target, &classes))
}
