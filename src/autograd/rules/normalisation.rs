//! Normalisation layers.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use ndarray::{ArrayD, IxDyn};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// Inference form: `y = scale x̂ + B`, `x̂ = (x - mean) / √(var + ε)`, per channel (axis 1):
/// `dx = dy scale / √(var + ε)`, `dscale = Σ dy x̂`, `dB = Σ dy`, `dmean = -Σ dx`, `dvar = -Σ dx x̂ / 2√(var + ε)`.
/// Mean and variance are statistics, not weights. In training mode they are those of `x`: no sample may be in it, as in
/// standardised weights.
pub(super) fn batch(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let channels = tape.shape(x).get(1).copied().unwrap_or(1);
    let aligned = [&[channels], &vec![1; tape.rank(x).saturating_sub(2)][..]].concat();
    if node.int("training_mode").unwrap_or(0) != 0 {
        return standardised(node, &dy, &aligned, tape);
    }
    let (scale, mean, variance) = (node.required(1)?, node.required(3)?, node.required(4)?);
    let epsilon = attribute("epsilon", node.float("epsilon").unwrap_or(1e-5));
    let [zeros, ones] = [0.0, 1.0].map(|v| ArrayD::from_elem(IxDyn(&[channels]), v));
    let shift = tape.constant_floats(tape.dtype(scale), zeros.clone());
    let unit = tape.constant_floats(tape.dtype(scale), ones);
    let centre = tape.constant_floats(tape.dtype(mean), zeros);
    let mut normalised = |value: &Name, scale: &Name, mean: &Name| {
        let kind = (tape.dtype(x), tape.shape(x));
        tape.node("BatchNormalization", &[value, scale, &shift, mean, variance], vec![epsilon.clone()], kind)
    };
    let (dx, normal) = (normalised(&dy, scale, &centre), normalised(x, &unit, mean));
    let dscale = tape.mul(&dy, &normal);
    let dmean = tape.unary("Neg", &dx);
    let steep = tape.mul(&dmean, &normal);
    let shifted = tape.shift(variance, node.float("epsilon").unwrap_or(1e-5).into());
    let deviation = tape.unary("Sqrt", &shifted);
    let twice = tape.scale(&deviation, 2.0);
    let twice = tape.reshape(&twice, &aligned);
    let dvariance = tape.div(&steep, &twice);
    let each = |value: Name| Some(Grad::Reshaped { value, shape: aligned.clone() });
    Ok(vec![Some(dx.into()), each(dscale), each(dy), each(dmean), each(dvariance)])
}

/// `y = scale x̂ + B` in training mode: mean and variance are those of each channel of `x`.
fn standardised(node: &Node, dy: &Name, aligned: &[usize], tape: &mut Tape) -> Grads {
    let x = node.required(0)?;
    if tape.depends_on_input(x) {
        return Err(GradError::unsupported(node, "it computes statistics over the batch (training mode)"));
    }
    let axes: Vec<usize> = (0..tape.rank(x)).filter(|&axis| axis != 1).collect();
    let scale = tape.reshape(node.required(1)?, aligned);
    let g = tape.mul(dy, &scale);
    let mean = tape.mean(x, &axes);
    let centred = tape.sub(x, &mean);
    let square = tape.mul(&centred, &centred);
    let variance = tape.mean(&square, &axes);
    let shifted = tape.shift(&variance, node.float("epsilon").unwrap_or(1e-5).into());
    let deviation = tape.unary("Sqrt", &shifted);
    let rate = tape.unary("Reciprocal", &deviation);
    let normal = tape.mul(&centred, &rate);
    let dx = projected(tape, &normal, &rate, &g, &axes);
    let dscale = tape.mul(dy, &normal);
    let each = |value: Name| Some(Grad::Reshaped { value, shape: aligned.to_vec() });
    Ok(vec![Some(dx.into()), each(dscale), each(dy.clone()), None, None])
}

/// The way back of the gradient `g` of `x̂ = (x - mean) r` over some axes: `r (g - mean(g) - x̂ mean(g x̂))`.
fn projected(tape: &mut Tape, normal: &Name, rate: &Name, g: &Name, axes: &[usize]) -> Name {
    let mean = tape.mean(g, axes);
    let product = tape.mul(g, normal);
    let share = tape.mean(&product, axes);
    let along = tape.mul(normal, &share);
    let inner = tape.sub(g, &mean);
    let inner = tape.sub(&inner, &along);
    tape.mul(&inner, rate)
}

/// `y = scale x̂ + B`, `x̂ = (x - mean) r`, `r = 1 / √(var + ε)` over the axes from `axis`:
/// with `g = dy scale`, `dx = r (g - mean(g) - x̂ mean(g x̂))`; `dscale = dy x̂`, `dB = dy`. The other outputs, of `n`
/// elements each: `dx = dmean / n - dr r² x̂ / n`.
pub(super) fn layer(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let x = node.required(0)?;
    let dy = grads.first().cloned().flatten().unwrap_or_else(|| tape.zeros(x, &tape.shape(x)));
    let (rank, scale) = (tape.rank(x), node.required(1)?);
    let axes: Vec<usize> = (node.axis("axis", -1, rank)?..rank).collect();
    let g = tape.mul(&dy, scale);
    let [normal, rate] = tape.standardised(x, &axes, node.float("epsilon").unwrap_or(1e-5));
    let mut dx = projected(tape, &normal, &rate, &g, &axes);
    let share = axes.iter().map(|&axis| 1.0 / tape.shape(x)[axis] as f64).product();
    let other = |tape: &mut Tape, slot: usize| {
        let grad = grads.get(slot)?.as_ref()?;
        let grad = tape.cast(grad, tape.dtype(x));
        Some(tape.scale(&grad, share))
    };
    if let Some(dmean) = other(tape, 1) {
        dx = tape.add(&dx, &dmean);
    }
    if let Some(droot) = other(tape, 2) {
        let square = tape.mul(&rate, &rate);
        let fall = tape.mul(&square, &droot);
        let steep = tape.mul(&normal, &fall);
        dx = tape.sub(&dx, &steep);
    }
    let dscale = tape.mul(&dy, &normal);
    Ok(vec![Some(dx.into()), Some(dscale.into()), Some(dy.into())])
}
