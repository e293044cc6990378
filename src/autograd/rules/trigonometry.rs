//! Trigonometric and hyperbolic functions and their inverses.

use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `dx = dy f(x)`, `f` being an operator.
fn by(op: &str, node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Result<Name, GradError> {
    let dy = first(node, grads)?;
    let slope = tape.unary(op, node.required(0)?);
    Ok(tape.mul(&dy, &slope))
}

/// `dx = dy / (a + b x²)`, or with its square root.
fn over(node: &Node, grads: &[Option<Name>], tape: &mut Tape, [a, b]: [f64; 2], root: bool) -> Result<Name, GradError> {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let square = tape.mul(x, x);
    let scaled = tape.scale(&square, b);
    let mut below = tape.shift(&scaled, a);
    if root {
        below = tape.unary("Sqrt", &below);
    }
    Ok(tape.div(&dy, &below))
}

/// `y = sin x`: `dx = dy cos x`.
pub(super) fn sin(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(by("Cos", node, grads, tape)?.into())])
}

/// `y = cos x`: `dx = -dy sin x`.
pub(super) fn cos(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let product = by("Sin", node, grads, tape)?;
    Ok(vec![Some(tape.unary("Neg", &product).into())])
}

/// `y = tan x`: `dx = dy (1 + y²)`.
pub(super) fn tan(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let square = tape.mul(y, y);
    let slope = tape.shift(&square, 1.0);
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
}

/// `y = asin x`: `dx = dy / √(1 - x²)`.
pub(super) fn asin(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(over(node, grads, tape, [1.0, -1.0], true)?.into())])
}

/// `y = acos x`: `dx = -dy / √(1 - x²)`.
pub(super) fn acos(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let quotient = over(node, grads, tape, [1.0, -1.0], true)?;
    Ok(vec![Some(tape.unary("Neg", &quotient).into())])
}

/// `y = atan x`: `dx = dy / (1 + x²)`.
pub(super) fn atan(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(over(node, grads, tape, [1.0, 1.0], false)?.into())])
}

/// `y = sinh x`: `dx = dy cosh x`.
pub(super) fn sinh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(by("Cosh", node, grads, tape)?.into())])
}

/// `y = cosh x`: `dx = dy sinh x`.
pub(super) fn cosh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(by("Sinh", node, grads, tape)?.into())])
}

/// `y = asinh x`: `dx = dy / √(1 + x²)`.
pub(super) fn asinh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(over(node, grads, tape, [1.0, 1.0], true)?.into())])
}

/// `y = acosh x`: `dx = dy / √(x² - 1)`.
pub(super) fn acosh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(over(node, grads, tape, [-1.0, 1.0], true)?.into())])
}

/// `y = atanh x`: `dx = dy / (1 - x²)`.
pub(super) fn atanh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    Ok(vec![Some(over(node, grads, tape, [1.0, -1.0], false)?.into())])
}
