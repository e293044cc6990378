//! Normalisations.

use super::super::rules::window::Windows;
use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::{attribute, normalise};
use ndarray::{Array2, ArrayD, IxDyn};

pub(super) fn epsilon(node: &Node, default: f32) -> f64 {
    node.float("epsilon").unwrap_or(default).into()
}

/// `(x - mean) / √(var + ε)` over some axes.
pub(super) fn standardised(tape: &mut Tape, x: &Name, axes: &[usize], epsilon: f64) -> Name {
    if tape.graph.opset() >= 17 && axes.iter().copied().eq(tape.rank(x) - axes.len()..tape.rank(x)) {
        let [normal, _] = tape.standardised(x, axes, epsilon as f32);
        return normal;
    }
    let mean = tape.mean(x, axes);
    let centred = tape.sub(x, &mean);
    rooted(tape, &centred, axes, epsilon)
}

/// `x / √(mean(x²) + ε)` over some axes.
pub(super) fn rooted(tape: &mut Tape, x: &Name, axes: &[usize], epsilon: f64) -> Name {
    let square = tape.mul(x, x);
    let mean = tape.mean(&square, axes);
    let shifted = tape.shift(&mean, epsilon);
    let root = tape.unary("Sqrt", &shifted);
    tape.div(x, &root)
}

/// `x̂ scale + B`, both of one number for each channel (axis 1).
fn per_channel(node: &Node, tape: &mut Tape, normal: &Name) -> Values {
    let shape = tape.shape(normal);
    let aligned = [&[shape[1]], &vec![1; shape.len() - 2][..]].concat();
    let scale = tape.reshape(node.required(1)?, &aligned);
    let bias = tape.reshape(node.required(2)?, &aligned);
    let scaled = tape.mul(normal, &scale);
    one(tape.add(&scaled, &bias))
}

/// `y = scale x̂ + B`, `x̂` over the spatial axes of each channel.
pub(crate) fn instance(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let axes: Vec<usize> = (2..tape.rank(x)).collect();
    let normal = standardised(tape, x, &axes, epsilon(node, 1e-5));
    per_channel(node, tape, &normal)
}

/// `y = scale x̂ + B`, `x̂` over each group of channels; `scale` and `B` for each channel, or for each group
/// before opset 21.
pub(crate) fn group(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let shape = tape.shape(x);
    let groups = node.int("num_groups").filter(|&g| g > 0).ok_or_else(|| node.bad("num_groups"))? as usize;
    let rest = shape.iter().product::<usize>() / (shape[0] * groups).max(1);
    let grouped = tape.reshape(x, &[shape[0], groups, rest]);
    let normal = standardised(tape, &grouped, &[2], epsilon(node, 1e-5));
    if tape.shape(node.required(1)?) == [groups] && groups != shape[1] {
        let y = per_channel(node, tape, &normal)?;
        return Ok(y.into_iter().map(|y| y.map(|y| tape.reshape(&y, &shape))).collect());
    }
    let normal = tape.reshape(&normal, &shape);
    per_channel(node, tape, &normal)
}

/// `y = scale x / √(mean(x²) + ε)` over the axes from `axis`.
pub(crate) fn root_mean_square(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let rank = tape.rank(x);
    let axes: Vec<usize> = (node.axis("axis", -1, rank)?..rank).collect();
    let normal = rooted(tape, x, &axes, epsilon(node, 1e-5));
    one(tape.mul(&normal, node.required(1)?))
}

/// `y = (x - mean) / (√var + 10⁻⁹)` over `axes`, which hold the samples too unless they say otherwise.
pub(crate) fn mean_variance(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let rank = tape.rank(x);
    let axes = node.ints("axes").unwrap_or(&[0, 2, 3]).iter();
    let axes = axes.map(|&a| normalise(a, rank).ok_or_else(|| GradError::from(node.bad("axes"))));
    let axes = axes.collect::<Result<Vec<_>, _>>()?;
    let mean = tape.mean(x, &axes);
    let centred = tape.sub(x, &mean);
    let square = tape.mul(&centred, &centred);
    let variance = tape.mean(&square, &axes);
    let deviation = tape.unary("Sqrt", &variance);
    let deviation = tape.shift(&deviation, 1e-9);
    one(tape.div(&centred, &deviation))
}

/// `y = x / (bias + alpha / size Σ x²)^beta`, the sum over `size` neighbouring channels.
pub(crate) fn local_response(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let shape = tape.shape(x);
    let size = node.int("size").filter(|&s| s > 0).ok_or_else(|| node.bad("size"))?;
    let number = |name: &str, default: f32| f64::from(node.float(name).unwrap_or(default));
    let (before, after) = ((size - 1) / 2, size / 2);
    let band = Array2::from_shape_fn((shape[1], shape[1]), |(to, from)| {
        let distance = from as i64 - to as i64;
        f64::from((-before..=after).contains(&distance)) * number("alpha", 1e-4) / size as f64
    });
    let band = tape.constant_floats(tape.dtype(x), band.into_dyn());
    let square = tape.mul(x, x);
    let flat = tape.reshape(&square, &[shape[0], shape[1], shape[2..].iter().product()]);
    let total = tape.matmul(&band, &flat);
    let total = tape.reshape(&total, &shape);
    let base = tape.shift(&total, number("bias", 1.0));
    let beta = tape.scalar(x, number("beta", 0.75));
    let power = tape.pow(&base, &beta);
    one(tape.div(x, &power))
}

/// `|x|^p` and, for the sum of such, the `p`-th root: a sum of zeros gives `fallback` and no gradient.
fn powered(tape: &mut Tape, x: &Name, p: i64) -> Name {
    match p {
        2 => tape.mul(x, x),
        1 => tape.unary("Abs", x),
        _ => {
            let size = tape.unary("Abs", x);
            let p = tape.scalar(x, p as f64);
            tape.pow(&size, &p)
        }
    }
}

fn root(tape: &mut Tape, total: &Name, p: i64, fallback: f64) -> Name {
    let none = tape.compare_with("Equal", total, 0.0);
    let one = tape.scalar(total, 1.0);
    let safe = tape.select(&none, &one, total);
    let p = tape.scalar(total, 1.0 / p as f64);
    let root = tape.pow(&safe, &p);
    let fallback = tape.scalar(total, fallback);
    tape.select(&none, &fallback, &root)
}

/// `y = x / (Σ |x|^p)^(1/p)` along `axis`; zeros stay.
pub(crate) fn lp(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let axis = node.axis("axis", -1, tape.rank(x))?;
    let p = node.int("p").unwrap_or(2);
    let power = powered(tape, x, p);
    let total = tape.sum(&power, &[axis]);
    let norm = root(tape, &total, p, 1.0);
    one(tape.div(x, &norm))
}

/// `y = (Σ |x|^p)^(1/p)` over each window: a convolution with ones, channel by channel.
pub(crate) fn lp_pool(node: &Node, tape: &mut Tape) -> Values {
    let (x, y) = (node.required(0)?, node.output()?);
    let p = node.int("p").unwrap_or(2);
    let kernel: Vec<usize> =
        node.ints("kernel_shape").ok_or_else(|| node.bad("kernel_shape"))?.iter().map(|&k| k.max(1) as usize).collect();
    let channels = tape.shape(x)[1];
    let ones = ArrayD::ones(IxDyn(&[&[channels, 1], &kernel[..]].concat()));
    let ones = tape.constant_floats(tape.dtype(x), ones);
    let power = powered(tape, x, p);
    let windows = Windows::new(node, tape, x, y, kernel)?;
    let to_i64 = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    let attributes = vec![
        attribute("pads", windows.transposed_pads().0),
        attribute("strides", to_i64(&windows.geometry.strides)),
        attribute("dilations", to_i64(&windows.geometry.dilations)),
        attribute("group", channels as i64),
    ];
    let kind = (tape.dtype(x), tape.shape(y));
    let total = tape.node("Conv", &[&power, &ones], attributes, kind);
    one(root(tape, &total, p, 0.0))
}

/// `y = (Σ |x|^p)^(1/p)` over all positions of a channel.
pub(crate) fn global_lp_pool(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let p = node.int("p").unwrap_or(2);
    let axes: Vec<usize> = (2..tape.rank(x)).collect();
    let power = powered(tape, x, p);
    let total = tape.sum(&power, &axes);
    one(root(tape, &total, p, 0.0))
}
