//! Weight gradients in standard operators, for weights that are themselves computed. They are sums over
//! the batch: samples cannot be told apart in them.

use super::tape::Cut;
use super::{ConvGeometry, Tape};
use crate::graph::{Name, attribute};
use crate::tensor::DType;
use onnx_protobuf::AttributeProto;

/// `Lᵀ R`, the rows of both being all leading axes, as a value of the given shape.
pub(super) fn product(tape: &mut Tape, left: &Name, right: &Name, shape: &[usize]) -> Name {
    let (from, to) = (tape.shape(left), tape.shape(right));
    let columns = [&from, &to].map(|shape| shape.last().copied().unwrap_or(1));
    let product = match from.len() {
        rank @ 3.. if from[..rank - 1] == to[..to.len() - 1] => {
            let rows: String = ('a'..='z').filter(|letter| !"lr".contains(*letter)).take(rank - 1).collect();
            tape.einsum(&format!("{rows}l,{rows}r->lr"), &[left, right], &columns)
        }
        _ => {
            let count = from.iter().product::<usize>() / columns[0].max(1);
            let left = tape.reshape(left, &[count, columns[0]]);
            let right = tape.reshape(right, &[count, columns[1]]);
            let kind = (tape.dtype(&left), columns.to_vec());
            tape.node("Gemm", &[&left, &right], vec![attribute("transA", 1)], kind)
        }
    };
    tape.reshape(&product, shape)
}

/// `dW[m, c, k] = Σ over n, p of dY[n, m, p] X[n, c, s p + d k - pad]`: a convolution of the samples as
/// channels, whose strides and dilations are exchanged.
pub(super) fn conv(tape: &mut Tape, x: &Name, dy: &Name, geometry: &ConvGeometry) -> Name {
    if let Some(dw) = one_tap(tape, x, dy, geometry) {
        return dw;
    }
    let (x, pads) = reached(tape, x, dy, geometry);
    let channels = tape.shape(&x)[1] / geometry.group;
    let x = channels_first(tape, &x, geometry.group);
    let dy = swapped(tape, dy);
    let attributes = exchanged(geometry, pads, geometry.group);
    let shape = [&[channels, tape.shape(&dy)[0]], &geometry.kernel[..]].concat();
    let kind = (tape.dtype(&dy), shape);
    let dw = tape.node("Conv", &[&x, &dy], attributes, kind);
    swapped(tape, &dw)
}

/// What of `x` the windows reach, and the padding that gives as many taps as the kernel has. The spatial axes of both
/// are the last.
pub(super) fn reached(tape: &mut Tape, x: &Name, dy: &Name, geometry: &ConvGeometry) -> (Name, Vec<i64>) {
    let first = tape.rank(x) - geometry.kernel.len();
    let output = tape.shape(dy)[tape.rank(dy) - geometry.kernel.len()..].to_vec();
    let (mut cuts, mut end) = (Vec::new(), Vec::new());
    for (i, &positions) in output.iter().enumerate() {
        let size = tape.shape(x)[first + i] as i64;
        let reach = (positions - 1) * geometry.strides[i] + geometry.dilations[i] * (geometry.kernel[i] - 1);
        let beyond = (reach + 1) as i64 - size - geometry.pads[i] as i64;
        cuts.push(Cut { axis: first + i, start: 0, end: (size + beyond.min(0)) as usize, step: 1 });
        end.push(beyond.max(0));
    }
    (tape.slices(x, &cuts), [to_i64(&geometry.pads), end].concat())
}

/// The attributes of the convolution that gives a weight's gradient: strides and dilations exchanged.
pub(super) fn exchanged(geometry: &ConvGeometry, pads: Vec<i64>, group: usize) -> Vec<AttributeProto> {
    vec![
        attribute("strides", to_i64(&geometry.dilations)),
        attribute("dilations", to_i64(&geometry.strides)),
        attribute("pads", pads),
        attribute("group", group as i64),
    ]
}

fn to_i64(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}

/// The weight gradient of a kernel of one tap: the product over samples and positions.
fn one_tap(tape: &mut Tape, x: &Name, dy: &Name, geometry: &ConvGeometry) -> Option<Name> {
    if geometry.group != 1 || geometry.kernel.iter().any(|&k| k != 1) || geometry.pads.iter().any(|&p| p != 0) {
        return None;
    }
    let (from, to) = (tape.shape(x), tape.shape(dy));
    let cut = |(i, &step): (usize, &usize)| Cut { axis: i + 2, start: 0, end: (to[i + 2] - 1) * step + 1, step };
    let cuts: Vec<Cut> = geometry.strides.iter().enumerate().map(cut).collect();
    let x = tape.slices(x, &cuts);
    let positions = ["", "x", "xy", "xyz"].get(geometry.kernel.len())?;
    let dw = tape.einsum(&format!("nm{positions},nc{positions}->mc"), &[dy, &x], &[to[1], from[1]]);
    Some(tape.reshape(&dw, &[&[to[1], from[1]], &geometry.kernel[..]].concat()))
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

/// `dY` added at `indices`, of any shape, along an axis of zeros of the given shape.
pub(super) fn picked(tape: &mut Tape, indices: &Name, dy: &Name, shape: &[usize], axis: usize) -> Name {
    let mut along = vec![1; shape.len()];
    along[axis] = tape.shape(indices).iter().product();
    let places = tape.cast(indices, DType::I64);
    let places = tape.reshape(&places, &along);
    tape.scattered(shape, axis, &places, dy)
}
