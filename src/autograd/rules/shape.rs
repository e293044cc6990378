//! Operators that move elements and change none.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::tensor::Tensor;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `dx = dy`, in the type of `x` where that has fractions; broadcasting is undone by the driver.
pub(super) fn same(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let dtype = tape.dtype(node.required(0)?);
    let dx = if dtype.is_float() { tape.cast(&dy, dtype) } else { dy };
    Ok(vec![Some(dx.into()), None])
}

/// `dx = dy` in the shape of `x`.
pub(super) fn reshape(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let shape = tape.shape(node.required(0)?);
    Ok(vec![Some(tape.reshape(&dy, &shape).into()), None])
}

/// `dx = dy` with the permutation undone.
pub(super) fn transpose(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let rank = tape.rank(&dy);
    let perm = node.order(rank);
    let position = |axis: usize| perm.iter().position(|&p| p == axis).ok_or_else(|| node.bad("perm"));
    let inverse = (0..rank).map(position).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![Some(tape.transpose(&dy, &inverse).into())])
}

/// The identity, as it is in inference; `dx = dy`.
pub(super) fn dropout(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    if let Some(mode) = node.input(2) {
        match tape.constant_value(mode).map(|t| &**t) {
            Some(Tensor::Bool(a)) if a.iter().all(|&on| !on) => {}
            _ => return Err(GradError::unsupported(node, "it drops values at random (training mode)")),
        }
    }
    let dy = first(node, grads)?;
    Ok(vec![Some(dy.into()), None, None])
}
