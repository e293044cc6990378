//! Normalisation layers.

use super::{Grad, GradError, Name, Node, Tape, first};

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
    let mut per_channel = [1, 3, 4].into_iter().map(|i| Ok(tape.reshape(node.required(i)?, &aligned)));
    let mut next = || per_channel.next().unwrap_or_else(|| Err(node.bad("inputs")));
    let (scale, mean, variance): (Name, Name, Name) = (next()?, next()?, next()?);
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    let shifted = tape.shift(&variance, epsilon.into());
    let deviation = tape.unary("Sqrt", &shifted);
    let gain = tape.div(&scale, &deviation);
    let dx = tape.mul(&dy, &gain);
    let centred = tape.sub(x, &mean);
    let normal = tape.div(&centred, &deviation);
    let dscale = tape.mul(&dy, &normal);
    let dmean = tape.unary("Neg", &dx);
    let steep = tape.mul(&dmean, &normal);
    let twice = tape.scale(&deviation, 2.0);
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
    let Normal { dx, normal, .. } = normal(tape, x, &g, &axes, node.float("epsilon").unwrap_or(1e-5).into());
    let dscale = tape.mul(dy, &normal);
    let each = |value: Name| Some(Grad::Reshaped { value, shape: aligned.to_vec() });
    Ok(vec![Some(dx.into()), each(dscale), each(dy.clone()), None, None])
}

/// `x̂ = (x - mean) r`, `r = 1 / √(var + ε)` over some axes, and the way back of its gradient `g`.
struct Normal {
    normal: Name,
    /// `var + ε`.
    shifted: Name,
    /// `r (g - mean(g) - x̂ mean(g x̂))`.
    dx: Name,
}

fn normal(tape: &mut Tape, x: &Name, g: &Name, axes: &[usize], epsilon: f64) -> Normal {
    let mean = tape.mean(x, axes);
    let centred = tape.sub(x, &mean);
    let square = tape.mul(&centred, &centred);
    let variance = tape.mean(&square, axes);
    let shifted = tape.shift(&variance, epsilon);
    let deviation = tape.unary("Sqrt", &shifted);
    let normal = tape.div(&centred, &deviation);
    let mean_g = tape.mean(g, axes);
    let projected = tape.mul(g, &normal);
    let mean_projected = tape.mean(&projected, axes);
    let along = tape.mul(&normal, &mean_projected);
    let inner = tape.sub(g, &mean_g);
    let inner = tape.sub(&inner, &along);
    let dx = tape.div(&inner, &deviation);
    Normal { normal, shifted, dx }
}

/// `y = scale x̂ + B`, `x̂ = (x - mean) r`, `r = 1 / √(var + ε)` over the axes from `axis`:
/// with `g = dy scale`, `dx = r (g - mean(g) - x̂ mean(g x̂))`; `dscale = dy x̂`, `dB = dy`. The other outputs, of `n`
/// elements each: `dx = dmean / n - dr r² x̂ / n`.
pub(super) fn layer(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let x = node.required(0)?;
    let dy = grads.first().cloned().flatten().unwrap_or_else(|| tape.zeros(x, &tape.shape(x)));
    let rank = tape.rank(x);
    let axes: Vec<usize> = (node.axis("axis", -1, rank)?..rank).collect();
    let g = tape.mul(&dy, node.required(1)?);
    let epsilon = node.float("epsilon").unwrap_or(1e-5).into();
    let Normal { normal, shifted, mut dx } = normal(tape, x, &g, &axes, epsilon);
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
        let steep = tape.div(&normal, &shifted);
        let steep = tape.mul(&steep, &droot);
        dx = tape.sub(&dx, &steep);
    }
    let dscale = tape.mul(&dy, &normal);
    Ok(vec![Some(dx.into()), Some(dscale.into()), Some(dy.into())])
}
