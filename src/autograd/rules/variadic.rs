//! Element-wise operators of any number of operands.

use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = Σ xᵢ`: `dxᵢ = dy`.
pub(super) fn sum(node: &Node, grads: &[Option<Name>], _: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    Ok(node.inputs.iter().map(|_| Some(dy.clone().into())).collect())
}

/// `y = Σ xᵢ / n`: `dxᵢ = dy / n`.
pub(super) fn mean(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let share = tape.scale(&dy, 1.0 / node.inputs.len() as f64);
    Ok(node.inputs.iter().map(|_| Some(share.clone().into())).collect())
}

/// `y = max xᵢ` or `min xᵢ`: `dxᵢ = dy / n` where `xᵢ = y`, `n` being the number of operands that are: equal
/// ones share evenly, as in `torch.maximum`.
pub(super) fn extreme(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (y, dtype) = (node.output()?, tape.dtype(&dy));
    let mut masks = Vec::new();
    for input in node.inputs.iter().flatten() {
        let equal = tape.compare("Equal", input, y);
        masks.push(tape.cast(&equal, dtype));
    }
    let Some(count) = masks.iter().cloned().reduce(|a, b| tape.add(&a, &b)) else { return Ok(vec![]) };
    let share = tape.div(&dy, &count);
    Ok(masks.iter().map(|mask| Some(tape.mul(&share, mask).into())).collect())
}

/// `y = a - b n`, `n = a / b` rounded towards zero: `da = dy`, `db = -dy n`.
pub(super) fn modulo(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    if node.int("fmod").unwrap_or(0) != 1 {
        return Err(GradError::unsupported(node, "fmod is 0"));
    }
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let quotient = tape.div(a, b);
    let size = tape.unary("Abs", &quotient);
    let (whole, sign) = (tape.unary("Floor", &size), tape.unary("Sign", &quotient));
    let whole = tape.mul(&whole, &sign);
    let product = tape.mul(&dy, &whole);
    let db = tape.unary("Neg", &product);
    Ok(vec![Some(dy.into()), Some(db.into())])
}
