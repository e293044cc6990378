//! Weight gradients in standard operators, for weights that are themselves computed. They are sums over
//! the batch: samples cannot be told apart in them.

use super::{ConvGeometry, Tape};
use crate::graph::{Name, attribute};
use crate::tensor::DType;

/// `Lᵀ R`, the rows of both being all leading axes, as a value of the given shape.
pub(super) fn product(tape: &mut Tape, left: &Name, right: &Name, shape: &[usize]) -> Name {
    let [left, right] = [left, right].map(|x| {
        let columns = *tape.shape(x).last().unwrap_or(&1);
        let rows = tape.shape(x).iter().product::<usize>() / columns.max(1);
        tape.reshape(x, &[rows, columns])
    });
    let kind = (tape.dtype(&left), vec![tape.shape(&left)[1], tape.shape(&right)[1]]);
    let product = tape.node("Gemm", &[&left, &right], vec![attribute("transA", 1)], kind);
    tape.reshape(&product, shape)
}

/// `dW[m, c, k] = Σ over n, p of dY[n, m, p] X[n, c, s p + d k - pad]`: a convolution of the samples as
/// channels, whose strides and dilations are exchanged.
pub(super) fn conv(tape: &mut Tape, x: &Name, dy: &Name, geometry: &ConvGeometry) -> Name {
    let (mut x, output) = (x.clone(), tape.shape(dy)[2..].to_vec());
    let mut end = Vec::new();
    for (axis, &positions) in output.iter().enumerate() {
        let size = tape.shape(&x)[axis + 2] as i64;
        let reach = (positions - 1) * geometry.strides[axis] + geometry.dilations[axis] * (geometry.kernel[axis] - 1);
        let beyond = (reach + 1) as i64 - size - geometry.pads[axis] as i64;
        if beyond < 0 {
            x = tape.slice(&x, axis + 2, 0, (size + beyond) as usize);
        }
        end.push(beyond.max(0));
    }
    let channels = tape.shape(&x)[1] / geometry.group;
    let x = channels_first(tape, &x, geometry.group);
    let dy = swapped(tape, dy);
    let to_i64 = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    let attributes = vec![
        attribute("strides", to_i64(&geometry.dilations)),
        attribute("dilations", to_i64(&geometry.strides)),
        attribute("pads", [to_i64(&geometry.pads), end].concat()),
        attribute("group", geometry.group as i64),
    ];
    let shape = [&[channels, tape.shape(&dy)[0]], &geometry.kernel[..]].concat();
    let kind = (tape.dtype(&dy), shape);
    let dw = tape.node("Conv", &[&x, &dy], attributes, kind);
    swapped(tape, &dw)
}

/// The first two axes exchanged.
fn swapped(tape: &mut Tape, value: &Name) -> Name {
    let order: Vec<usize> = [1, 0].into_iter().chain(2..tape.rank(value)).collect();
    tape.transpose(value, &order)
}

/// From `[samples, groups · channels, …]` to `[channels, groups · samples, …]`.
fn channels_first(tape: &mut Tape, value: &Name, group: usize) -> Name {
    let shape = tape.shape(value);
    let (samples, channels) = (shape[0], shape[1] / group);
    let merged = [&[channels, group * samples], &shape[2..]].concat();
    if group == 1 || channels == 1 {
        let moved = swapped(tape, value);
        return tape.reshape(&moved, &merged);
    }
    let apart = tape.reshape(value, &[&[samples, group, channels], &shape[2..]].concat());
    let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..shape.len() + 1).collect();
    let moved = tape.transpose(&apart, &order);
    tape.reshape(&moved, &merged)
}

/// Rows of `dY` added at `indices` of zeros of the given shape.
pub(super) fn rows(tape: &mut Tape, indices: &Name, dy: &Name, shape: &[usize]) -> Name {
    let count: usize = tape.shape(indices).iter().product();
    let flat = [&[count], &shape[1..]].concat();
    let updates = tape.reshape(dy, &flat);
    let positions = tape.cast(indices, DType::I64);
    let positions = tape.reshape(&positions, &[&[count], &vec![1; shape.len() - 1][..]].concat());
    let positions = tape.expand(&positions, &flat);
    let zeros = tape.zeros(dy, shape);
    let kind = (tape.dtype(dy), shape.to_vec());
    let attributes = vec![attribute("axis", 0), attribute("reduction", "add")];
    tape.node("ScatterElements", &[&zeros, &positions, &updates], attributes, kind)
}
