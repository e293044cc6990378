//! Softmax and its logarithm.

use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `dx = y (dy - Σ dy y)`, the sum along the axis.
pub(super) fn softmax(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let axis = node.axis("axis", -1, tape.rank(y))?;
    let product = tape.mul(&dy, y);
    let total = tape.sum(&product, &[axis]);
    let difference = tape.sub(&dy, &total);
    Ok(vec![Some(tape.mul(y, &difference).into())])
}

/// `dx = dy - e^y Σ dy`, the sum along the axis.
pub(super) fn log_softmax(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let axis = node.axis("axis", -1, tape.rank(y))?;
    let total = tape.sum(&dy, &[axis]);
    let probability = tape.unary("Exp", y);
    let product = tape.mul(&probability, &total);
    Ok(vec![Some(tape.sub(&dy, &product).into())])
}
