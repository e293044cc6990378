//! Fourier transforms as products with constant matrices. The last axis holds the real and, where there is one, the
//! imaginary part.

use super::{GradError, Name, Node, Tape, Values, one};
use crate::graph::{attribute, normalise};
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayD, IxDyn};
use std::f64::consts::TAU;

/// `y[k] = Σ x[n] e^(-2πi k n / length)` along an axis; the inverse has the other sign and is divided by `length`.
pub(crate) fn transform(node: &Node, tape: &mut Tape) -> Values {
    let (x, to) = (node.required(0)?, tape.shape(node.output()?));
    let (inverse, rank) = (node.int("inverse").unwrap_or(0) != 0, to.len());
    if to[rank - 1] != 2 {
        return Err(GradError::unsupported(node, "its output is real"));
    }
    let axis = match (node.input(2), tape.graph.opset() < 20) {
        (Some(axis), _) => tape.integers(node, axis)?.first().copied().unwrap_or(-2),
        (None, older) => node.int("axis").unwrap_or(if older { 1 } else { -2 }),
    };
    let axis = normalise(axis, rank).filter(|&axis| axis + 1 < rank).ok_or_else(|| node.bad("axis"))?;
    let length = match node.input(1) {
        Some(length) => tape.integers(node, length)?.first().map_or(0, |&l| l.max(0) as usize),
        None => tape.shape(x)[axis],
    };
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 2);
    let moved = tape.transpose(x, &perm);
    let y = transformed(tape, &moved, length, to[axis], inverse);
    one(tape.transpose(&y, &perm))
}

/// The transforms of frames, `frame_step` apart, each weighed by a window.
pub(crate) fn short_time(node: &Node, tape: &mut Tape) -> Values {
    let (x, to) = (node.required(0)?, tape.shape(node.output()?));
    let step = tape.integers(node, node.required(1)?)?.first().copied().unwrap_or(1);
    let length = match (node.input(3), node.input(2)) {
        (Some(length), _) => tape.integers(node, length)?.first().map_or(0, |&l| l.max(0) as usize),
        (None, Some(window)) => tape.shape(window)[0],
        (None, None) => return Err(node.bad("input 3").into()),
    };
    let (frames, parts) = (to[1], *tape.shape(x).last().unwrap_or(&1));
    let places = ArrayD::from_shape_fn(IxDyn(&[frames, length]), |i| i[0] as i64 * step + i[1] as i64);
    let places = tape.constant(Tensor::I64(places));
    let kind = (tape.dtype(x), vec![to[0], frames, length, parts]);
    let mut cut = tape.node("Gather", &[x, &places], vec![attribute("axis", 1)], kind);
    if let Some(window) = node.input(2) {
        let window = tape.reshape(window, &[length, 1]);
        cut = tape.mul(&cut, &window);
    }
    one(transformed(tape, &cut, length, to[2], false))
}

/// From `[…, n, parts]` to `[…, bins, 2]`.
fn transformed(tape: &mut Tape, x: &Name, length: usize, bins: usize, inverse: bool) -> Name {
    let shape = tape.shape(x);
    let (leading, last) = shape.split_at(shape.len() - 2);
    let (n, parts) = (last[0], last[1]);
    let (sign, size) = if inverse { (1.0, 1.0 / length as f64) } else { (-1.0, 1.0) };
    let matrix = Array2::from_shape_fn((n * parts, bins * 2), |(from, to)| {
        let (place, imaginary, bin, part) = (from / parts, from % parts == 1, to / 2, to % 2);
        if place >= length {
            return 0.0;
        }
        let angle = sign * TAU * ((place * bin) % length) as f64 / length as f64;
        size * match (imaginary, part) {
            (false, 0) | (true, 1) => angle.cos(),
            (false, _) => angle.sin(),
            (true, _) => -angle.sin(),
        }
    });
    let matrix = tape.constant_floats(tape.dtype(x), matrix.into_dyn());
    let flat = tape.reshape(x, &[leading.iter().product(), n * parts]);
    let y = tape.matmul(&flat, &matrix);
    tape.reshape(&y, &[leading, &[bins, 2]].concat())
}
