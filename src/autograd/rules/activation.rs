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

/// `y = min(max(x, low), high)`: `dhigh = dy` where `max(x, low) > high`, else `dlow = dy` where `x < low`, else
/// `dx = dy`, the bounds included as `torch.clamp` has it.
pub(super) fn clip(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let mut dx = first(node, grads)?;
    let (x, low, high) = (node.required(0)?, node.input(1), node.input(2));
    let (kind, zero) = ((tape.dtype(x), tape.shape(x)), tape.scalar(&dx, 0.0));
    let mut cut = |tape: &mut Tape, outside: &Name| {
        let taken = tape.select(outside, &dx, &zero);
        dx = tape.select(outside, &zero, &dx);
        Grad::from(taken)
    };
    let dhigh = high.map(|high| {
        let raised = low.map_or_else(|| x.clone(), |low| tape.node("Max", &[x, low], vec![], kind));
        let above = tape.compare("Greater", &raised, high);
        cut(tape, &above)
    });
    let dlow = low.map(|low| {
        let below = tape.compare("Less", x, low);
        cut(tape, &below)
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
            let half = tape.scale(&t, 0.5);
            let first = tape.shift(&half, 0.5);
            tape.add(&first, &second)
        }
        _ => {
            let scaled = tape.scale(x, 0.5f64.sqrt());
            let erf = tape.unary("Erf", &scaled);
            let half = tape.scale(&erf, 0.5);
            let cumulative = tape.shift(&half, 0.5);
            let bell = bell(tape, x, 0.5);
            let density = tape.scale(&bell, 1.0 / (2.0 * PI).sqrt());
            let product = tape.mul(x, &density);
            tape.add(&cumulative, &product)
        }
    };
    Ok(vec![Some(tape.mul(&dy, &slope).into())])
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
