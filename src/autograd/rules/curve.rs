//! Activation functions with curved parts, and those made of straight ones.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::DType;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `dx = dy slope`.
fn times(tape: &mut Tape, dy: &Name, slope: &Name) -> Grads {
    Ok(vec![Some(tape.mul(dy, slope).into())])
}

/// `y = x` where `x > 0`, else `a (eˣ - 1)`: `dx = dy`, or `dy a eˣ`; the latter at the kink.
pub(super) fn elu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    exponential(node, grads, tape, [1.0, node.float("alpha").unwrap_or(1.0).into(), 1.0])
}

/// `y = g x` where `x > 0`, else `g a (eˣ - 1)`: `dx = dy g`, or `dy g a eˣ`; the latter at the kink.
pub(super) fn selu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let alpha = node.float("alpha").map_or(1.673_263_2, f64::from);
    let gamma = node.float("gamma").map_or(1.050_701, f64::from);
    exponential(node, grads, tape, [gamma, gamma * alpha, 1.0])
}

/// `y = x` where `x > 0`, else `a (e^(x/a) - 1)`: `dx = dy`, or `dy e^(x/a)`; the latter at the kink.
pub(super) fn celu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    exponential(node, grads, tape, [1.0, 1.0, 1.0 / f64::from(node.float("alpha").unwrap_or(1.0))])
}

/// The slope `straight` where `x > 0`, else `curved e^(rate x)`.
fn exponential(node: &Node, grads: &[Option<Name>], tape: &mut Tape, by: [f64; 3]) -> Grads {
    let [straight, curved, rate] = by;
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let positive = tape.compare_with("Greater", x, 0.0);
    let scaled = tape.scale(x, rate);
    let power = tape.unary("Exp", &scaled);
    let low = tape.scale(&power, curved);
    let high = tape.scalar(x, straight);
    let slope = tape.select(&positive, &high, &low);
    times(tape, &dy, &slope)
}

/// `y = ln(1 + eˣ)`: `dx = dy σ(x)`.
pub(super) fn softplus(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let slope = tape.unary("Sigmoid", node.required(0)?);
    times(tape, &dy, &slope)
}

/// `y = x / (1 + |x|)`: `dx = dy / (1 + |x|)²`.
pub(super) fn softsign(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let size = tape.unary("Abs", node.required(0)?);
    let more = tape.shift(&size, 1.0);
    let square = tape.mul(&more, &more);
    Ok(vec![Some(tape.div(&dy, &square).into())])
}

/// `y = x t`, `t = tanh ln(1 + eˣ)`: `dx = dy (t + x (1 - t²) σ(x))`.
pub(super) fn mish(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let inner = tape.unary("Softplus", x);
    let t = tape.unary("Tanh", &inner);
    let square = tape.mul(&t, &t);
    let one = tape.scalar(x, 1.0);
    let falling = tape.sub(&one, &square);
    let sigmoid = tape.unary("Sigmoid", x);
    let rate = tape.mul(&falling, &sigmoid);
    let second = tape.mul(x, &rate);
    let slope = tape.add(&t, &second);
    times(tape, &dy, &slope)
}

/// `y = x s`, `s = σ(a x)`: `dx = dy (s + a y (1 - s))`.
pub(super) fn swish(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let alpha = node.float("alpha").unwrap_or(1.0).into();
    let scaled = tape.scale(x, alpha);
    let s = tape.unary("Sigmoid", &scaled);
    let one = tape.scalar(x, 1.0);
    let rest = tape.sub(&one, &s);
    let product = tape.mul(node.output()?, &rest);
    let second = tape.scale(&product, alpha);
    let slope = tape.add(&s, &second);
    times(tape, &dy, &slope)
}

/// `y = min(max(a x + b, 0), 1)`: `dx = a dy` where `0 < y < 1`; zero at the kinks.
pub(super) fn hard_sigmoid(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let y = node.output()?;
    let (least, below_one) = match tape.dtype(y) {
        DType::F64 => (f64::MIN_POSITIVE, 1.0 - f64::EPSILON / 2.0),
        _ => (f32::MIN_POSITIVE.into(), 1.0 - f64::from(f32::EPSILON) / 2.0),
    };
    // What a cut to the numbers between the bounds leaves as it is lies between them.
    let [least, below_one] = [least, below_one].map(|bound| tape.scalar(y, bound));
    let kind = (tape.dtype(y), tape.shape(y));
    let cut = tape.node("Clip", &[y, &least, &below_one], vec![], kind);
    let inside = tape.compare("Equal", y, &cut);
    let dx = tape.keep_where(&inside, &dy);
    Ok(vec![Some(tape.scale(&dx, node.float("alpha").unwrap_or(0.2).into()).into())])
}

/// `y = x min(max(x/6 + 1/2, 0), 1)`: `dx = 0` where `x <= -3`, `dy` where `x >= 3`, else `dy (x/3 + 1/2)`.
pub(super) fn hard_swish(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    // Three times the slope: x + 3/2, cut to zero where that is at most -3/2, and 3 from 3 on.
    let line = tape.shift(x, 1.5);
    let kind = (tape.dtype(x), tape.shape(x));
    let risen = tape.node("ThresholdedRelu", &[&line], vec![attribute("alpha", -1.5f32)], kind);
    let below = tape.compare_with("Less", x, 3.0);
    let full = tape.scalar(x, 3.0);
    let thrice = tape.select(&below, &risen, &full);
    let slope = tape.scale(&thrice, 1.0 / 3.0);
    times(tape, &dy, &slope)
}

/// `y = x` where `x > a`, else zero: `dx = dy` where `x > a`; zero at the step.
pub(super) fn thresholded_relu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let active = tape.compare_with("Greater", node.required(0)?, node.float("alpha").unwrap_or(1.0).into());
    Ok(vec![Some(tape.keep_where(&active, &dy).into())])
}

/// `y = x` where `x > 0`, else `s x`: `dx = dy`, or `dy s`, `ds = dy x`; the latter at the kink.
pub(super) fn prelu(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (x, slope) = (node.required(0)?, node.required(1)?);
    let positive = tape.compare_with("Greater", x, 0.0);
    let weak = tape.mul(&dy, slope);
    let dx = tape.select(&positive, &dy, &weak);
    let product = tape.mul(&dy, x);
    let zero = tape.scalar(&dy, 0.0);
    let ds = tape.select(&positive, &zero, &product);
    Ok(vec![Some(dx.into()), Some(ds.into())])
}

/// `y` is `x` moved towards zero where `|x| > lambd`, else zero: `dx = dy` where `|x| > lambd`.
pub(super) fn shrink(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let size = tape.unary("Abs", node.required(0)?);
    let outside = tape.compare_with("Greater", &size, node.float("lambd").unwrap_or(0.5).into());
    Ok(vec![Some(tape.keep_where(&outside, &dy).into())])
}
