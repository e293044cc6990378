//! Operators that cut or pick at places known beforehand.

use super::{GradError, Node, Tape, Values, one};
use crate::graph::attribute;
use crate::tensor::Tensor;

/// The middle of each axis, or zeros around it.
pub(crate) fn center(node: &Node, tape: &mut Tape) -> Values {
    let mut value = node.required(0)?.clone();
    let to = tape.shape(node.output()?);
    for (axis, &length) in to.iter().enumerate() {
        let from = tape.shape(&value)[axis];
        let (cut, added) = (from.saturating_sub(length), length.saturating_sub(from));
        value = tape.slice(&value, axis, cut / 2, cut / 2 + from.min(length));
        value = tape.pad(&value, axis, added / 2, added - added / 2);
    }
    one(value)
}

/// The entries of an axis, or the elements, for which a constant condition holds.
pub(crate) fn compress(node: &Node, tape: &mut Tape) -> Values {
    let (x, condition) = (node.required(0)?, node.required(1)?);
    let Some(Tensor::Bool(holds)) = tape.constant_value(condition).map(|t| &**t) else {
        return Err(GradError::unsupported(node, "its condition depends on data"));
    };
    let places: Vec<i64> = holds.iter().zip(0..).filter(|(holds, _)| **holds).map(|(_, i)| i).collect();
    let kind = (tape.dtype(x), tape.shape(node.output()?));
    let places = tape.constant_integers(&places);
    let (value, axis) = match node.int("axis") {
        Some(_) => (x.clone(), node.axis("axis", 0, tape.rank(x))?),
        None => {
            let size = tape.shape(x).iter().product();
            (tape.reshape(x, &[size]), 0)
        }
    };
    one(tape.node("Gather", &[&value, &places], vec![attribute("axis", axis as i64)], kind))
}
