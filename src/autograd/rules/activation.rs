//! Activation functions.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::DType;
use std::f64::consts::PI;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y = max(x, 0)`: `dx = dy` where `x > 0`; zero at the kink.
pub(super) fn relu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let dx = match tape.dtype(y) {
        // 1 where `y` is positive, else 0: the largest slope cut at 1. Runtimes take several times longer for Where.
        DType::F32 => {
            let steepest = vec![attribute("alpha", f32::MAX), attribute("beta", 0.0f32)];
            let kind = (DType::F32, tape.shape(y));
            let active = tape.node("HardSigmoid", &[y], steepest, kind);
            tape.mul(&dy, &active)
        }
        _ => {
            let active = tape.compare_with("Greater", y, 0.0);
            tape.keep_where(&active, &dy)
        }
    };
    Ok(vec![Some(dx.into())])
}

/// `y = x` where `x > 0`, else `alpha x`; slope `alpha` at the kink.
pub(super) fn leaky_relu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let active = tape.compare_with("Greater", node.required(0)?, 0.0);
    let weak = tape.scale(&dy, node.float("alpha").unwrap_or(0.01).into());
    Ok(vec![Some(tape.select(&active, &dy, &weak).into())])
}

/// `y = min(max(x, low), high)`: `dhigh = dy` where `max(x, low) > high`, else `dlow = dy` where `x < low`;
/// `dx = dy` where `y = x`, the bounds included as `torch.clamp` has it.
pub(super) fn clip(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (x, low, high) = (node.required(0)?, node.input(1), node.input(2));
    let kept = tape.compare("Equal", x, node.output()?);
    let dx = tape.keep_where(&kept, &dy);
    let mut rest = dy;
    let dhigh = high.map(|high| {
        let kind = (tape.dtype(x), tape.shape(x));
        let raised = low.map_or_else(|| x.clone(), |low| tape.node("Max", &[x, low], vec![], kind));
        let above = tape.compare("Greater", &raised, high);
        let zero = tape.scalar(&rest, 0.0);
        let taken = tape.keep_where(&above, &rest);
        rest = tape.select(&above, &zero, &rest);
        Grad::from(taken)
    });
    let dlow = low.map(|low| {
        let below = tape.compare("Less", x, low);
        Grad::from(tape.keep_where(&below, &rest))
    });
    Ok(vec![Some(dx.into()), dlow, dhigh])
}

/// `y = 1 / (1 + e⁻ˣ)`: `dx = dy y (1 - y)`.
pub(super) fn sigmoid(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let square = tape.mul(y, y);
    let slope = tape.sub(y, &square);
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
}

/// `y = tanh x`: `dx = dy (1 - y²)`.
pub(super) fn tanh(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let slope = one_minus_square(tape, node.output()?);
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
}

/// `y = erf x`: `dx = dy (2 / √π) e^(-x²)`.
pub(super) fn erf(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let bell = bell(tape, node.required(0)?, 1.0);
    let slope = tape.scale(&bell, 2.0 / PI.sqrt());
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
}

/// `y = x Φ(x)`: `dx = dy (Φ(x) + x φ(x))`, the normal distribution; or its tanh form
/// `y = x (1 + t) / 2`, `t = tanh u`, `u = √(2/π) (x + 0.044715 x³)`:
/// `dx = dy ((1 + t) / 2 + x (1 - t²) u' / 2)`.
pub(super) fn gelu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let slope = match node.string("approximate") {
        Some("tanh") => {
            let root = (2.0 / PI).sqrt();
            let square = tape.mul(x, x);
            let cubic = tape.scale(&square, 0.044715 * root);
            let inner = tape.shift(&cubic, root);
            let u = tape.mul(x, &inner);
            let t = tape.unary("Tanh", &u);
            let steep = tape.scale(&square, 3.0 * 0.044715 * root / 2.0);
            let du = tape.shift(&steep, root / 2.0);
            let falling = one_minus_square(tape, &t);
            let product = tape.mul(&falling, &du);
            let second = tape.mul(x, &product);
            let first = half_up(tape, &t);
            tape.add(&first, &second)
        }
        _ => {
            // With u = x / √2: Φ(x) = (1 + erf u) / 2, x φ(x) = u e^(-u² - ln √π).
            let u = tape.scale(x, 0.5f64.sqrt());
            let erf = tape.unary("Erf", &u);
            let cumulative = half_up(tape, &erf);
            let square = tape.mul(&u, &u);
            let level = tape.scalar(x, -PI.sqrt().ln());
            let exponent = tape.sub(&level, &square);
            let density = tape.unary("Exp", &exponent);
            let product = tape.mul(&u, &density);
            tape.add(&cumulative, &product)
        }
    };
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
}

/// `(1 + x) / 2` for `x` from -1 to 1.
fn half_up(tape: &mut Tape, x: &Name) -> Name {
    if tape.dtype(x) == DType::F32 {
        let kind = (DType::F32, tape.shape(x));
        return tape.node("HardSigmoid", &[x], vec![attribute("alpha", 0.5f32), attribute("beta", 0.5f32)], kind);
    }
    let half = tape.scale(x, 0.5);
    tape.shift(&half, 0.5)
}

/// `e^(-rate x²)`.
fn bell(tape: &mut Tape, x: &Name, rate: f64) -> Name {
    let square = tape.mul(x, x);
    let negative = tape.scale(&square, -rate);
    tape.unary("Exp", &negative)
}

/// `1 - x²`.
fn one_minus_square(tape: &mut Tape, x: &Name) -> Name {
    let square = tape.mul(x, x);
    let one = tape.scalar(x, 1.0);
    tape.sub(&one, &square)
}
