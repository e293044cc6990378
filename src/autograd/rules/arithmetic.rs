//! Element-wise arithmetic.

use super::{Grad, GradError, Name, Node, Tape, first};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = a + b`: `da = dy`, `db = dy`.
pub(super) fn add(node: &Node, grads: &[Option<Name>], _: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    Ok(vec![Some(dy.clone().into()), Some(dy.into())])
}

/// `y = a - b`: `da = dy`, `db = -dy`.
pub(super) fn sub(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let db = tape.unary("Neg", &dy);
    Ok(vec![Some(dy.into()), Some(db.into())])
}

/// `y = a b`: `da = dy b`, `db = dy a`.
pub(super) fn mul(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    Ok(vec![Some(tape.mul(&dy, b).into()), Some(tape.mul(&dy, a).into())])
}

/// `y = a / b`: `da = dy / b`, `db = -(dy / b) y`.
pub(super) fn div(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let da = tape.div(&dy, node.required(1)?);
    let product = tape.mul(&da, node.output()?);
    let db = tape.unary("Neg", &product);
    Ok(vec![Some(da.into()), Some(db.into())])
}

/// `y = aᵇ`: `da = dy b aᵇ⁻¹`, `db = dy y ln a` (zero where `a = 0`, as PyTorch has it).
pub(super) fn pow(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let dtype = tape.dtype(a);
    let exponent = tape.cast(b, dtype);
    let less = tape.shift(&exponent, -1.0);
    let power = tape.pow(a, &less);
    let slope = tape.mul(&exponent, &power);
    let da = tape.mul(&dy, &slope);
    let positive = tape.compare_with("Greater", a, 0.0);
    let one = tape.scalar(a, 1.0);
    let safe = tape.select(&positive, a, &one);
    let log = tape.unary("Log", &safe);
    let growth = tape.mul(node.output()?, &log);
    let db = tape.mul(&dy, &growth);
    Ok(vec![Some(da.into()), Some(db.into())])
}

/// `y = √x`: `dx = dy / 2y`.
pub(super) fn sqrt(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let twice = tape.scale(node.output()?, 2.0);
    Ok(vec![Some(tape.div(&dy, &twice).into())])
}

/// `y = -x`: `dx = -dy`.
pub(super) fn neg(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    Ok(vec![Some(tape.unary("Neg", &dy).into())])
}

/// `y = |x|`: `dx = dy sign(x)`; zero at the kink.
pub(super) fn abs(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let sign = tape.unary("Sign", node.required(0)?);
    Ok(vec![Some(tape.mul(&dy, &sign).into())])
}

/// `y = eˣ`: `dx = dy y`.
pub(super) fn exp(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    Ok(vec![Some(tape.mul(&dy, node.output()?).into())])
}

/// `y = ln x`: `dx = dy / x`.
pub(super) fn log(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    Ok(vec![Some(tape.div(&dy, node.required(0)?).into())])
}

/// `y = 1 / x`: `dx = -dy y²`.
pub(super) fn reciprocal(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let square = tape.mul(y, y);
    let product = tape.mul(&dy, &square);
    Ok(vec![Some(tape.unary("Neg", &product).into())])
}

/// `y[i] = start + i delta`: `dstart = Σ dy`, `ddelta = Σ i dy`.
pub(super) fn range(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let count = tape.shape(&dy)[0];
    let places = ndarray::Array1::from_iter((0..count).map(|i| i as f64)).into_dyn();
    let places = tape.constant_floats(tape.dtype(&dy), places);
    let delta = tape.mul(&dy, &places);
    Ok(vec![Some(dy.into()), None, Some(delta.into())])
}
