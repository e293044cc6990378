//! Convolution.

use super::select::spread;
use super::window::Windows;
use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::{Element, Tensor};
use ndarray::ArrayD;
use onnx_protobuf::AttributeProto;

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `Y = W ⋆ X + b`: `dX` is the transposed convolution of `dY` with `W`, which for stride 1 is the
/// convolution of `dY` with `W` flipped and its channels swapped; `db = Σ dY` over all but channels.
pub(super) fn conv(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (x, w, y) = (node.required(0)?, node.required(1)?, node.output()?);
    let kernel = tape.shape(w)[2..].to_vec();
    let mut windows = Windows::new(node, tape, x, y, kernel)?;
    let group = node.int("group").unwrap_or(1).max(1) as usize;
    windows.geometry.group = group;
    let dx = match flipped(tape, w, &windows) {
        Some((kernel, pads)) => {
            let dilations = to_i64(&windows.geometry.dilations);
            let attributes =
                vec![attribute("pads", pads), attribute("dilations", dilations), attribute("group", group as i64)];
            let kind = (tape.dtype(x), tape.shape(x));
            tape.node("Conv", &[&dy, &kernel], attributes, kind)
        }
        None => match apart(tape, &dy, w, &windows) {
            Some(dx) => dx,
            None => transposed(tape, &dy, w, &windows, tape.shape(x)),
        },
    };
    let channels = tape.shape(&dy)[1];
    let aligned = [&[channels], &vec![1; windows.input.len()][..]].concat();
    let dw = Grad::Conv { x: x.clone(), dy: dy.clone(), geometry: windows.geometry };
    Ok(vec![Some(dx.into()), Some(dw), Some(Grad::Reshaped { value: dy, shape: aligned })])
}

/// `Y = Wᵀ ⋆ X + b`, the transposed convolution: `dX` is the convolution of `dY` with `W`, `dW` that of a
/// convolution from `dY` to `X`; `db = Σ dY` over all but channels.
pub(super) fn transposed_forward(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (x, w) = (node.required(0)?, node.required(1)?);
    let windows = Windows::transposed(node, tape, x, &dy, tape.shape(w)[2..].to_vec())?;
    let (pads, beyond) = windows.transposed_pads();
    let mut reached = dy.clone();
    for (axis, &unused) in beyond.iter().enumerate() {
        let size = tape.shape(&dy)[axis + 2];
        reached = tape.slice(&reached, axis + 2, 0, size - unused as usize);
    }
    let geometry = windows.geometry;
    let attributes = vec![
        attribute("strides", to_i64(&geometry.strides)),
        attribute("dilations", to_i64(&geometry.dilations)),
        attribute("pads", pads),
        attribute("group", geometry.group as i64),
    ];
    let kind = (tape.dtype(x), tape.shape(x));
    let dx = tape.node("Conv", &[&reached, w], attributes, kind);
    let aligned = [&[tape.shape(&dy)[1]], &vec![1; geometry.kernel.len()][..]].concat();
    let dw = Grad::Conv { x: dy.clone(), dy: x.clone(), geometry };
    Ok(vec![Some(dx.into()), Some(dw), Some(Grad::Reshaped { value: dy, shape: aligned })])
}

/// The transposed convolution of `dy` with `kernel` that undoes the shape of `windows`.
pub(super) fn transposed(tape: &mut Tape, dy: &Name, kernel: &Name, windows: &Windows, shape: Vec<usize>) -> Name {
    let geometry = &windows.geometry;
    let (pads, extra) = windows.transposed_pads();
    let mut attributes: Vec<AttributeProto> = vec![
        attribute("kernel_shape", to_i64(&geometry.kernel)),
        attribute("strides", to_i64(&geometry.strides)),
        attribute("dilations", to_i64(&geometry.dilations)),
        attribute("pads", pads),
        attribute("group", geometry.group as i64),
    ];
    if extra.iter().any(|&e| e > 0) {
        attributes.push(attribute("output_padding", extra));
    }
    let kind = (tape.dtype(dy), shape);
    tape.node("ConvTranspose", &[dy, kernel], attributes, kind)
}

fn to_i64(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}

/// `dX` of a kernel of one tap that moves by several places: the convolution of `dY`, zeros between its elements.
fn apart(tape: &mut Tape, dy: &Name, w: &Name, windows: &Windows) -> Option<Name> {
    let g = &windows.geometry;
    let one_tap = g.kernel.iter().chain(&g.dilations).all(|&k| k == 1) && g.pads.iter().all(|&p| p == 0);
    if !one_tap || !tape.may_precompute() {
        return None;
    }
    let kernel = turned(tape, w, g.group)?;
    let mut shape = tape.shape(dy);
    shape[1] = tape.shape(&kernel)[0];
    let kind = (tape.dtype(dy), shape);
    let mut dx = tape.node("Conv", &[dy, &kernel], vec![attribute("group", g.group as i64)], kind);
    for (axis, (&stride, &length)) in g.strides.iter().zip(&windows.input).enumerate() {
        dx = with_zeros(tape, &dx, axis + 2, stride, length);
    }
    Some(dx)
}

/// The most elements of a matrix that places elements.
const SMALL: usize = 1 << 16;

/// The elements of an axis `step` apart, zeros between and after them, to this length. Along the last two axes by a
/// product with a matrix of ones and zeros, which runtimes compute several times faster than Pad.
fn with_zeros(tape: &mut Tape, x: &Name, axis: usize, step: usize, length: usize) -> Name {
    let shape = tape.shape(x);
    let (count, last) = (shape[axis], shape.len() - 1 - axis);
    if step == 1 && count == length {
        return x.clone();
    }
    if last > 1 || count * length > SMALL {
        let x = spread(tape, x, axis, step);
        let covered = tape.shape(&x)[axis];
        let x = tape.slice(&x, axis, 0, covered.min(length));
        return tape.pad(&x, axis, 0, length.saturating_sub(covered));
    }
    let mut places = ArrayD::zeros(if last == 0 { [count, length] } else { [length, count] }.to_vec());
    for i in 0..count {
        places[if last == 0 { [i, i * step] } else { [i * step, i] }] = 1.0;
    }
    let places = tape.constant_floats(tape.dtype(x), places);
    if last == 0 { tape.matmul(x, &places) } else { tape.matmul(&places, x) }
}

/// The constant flipped kernel and the padding that give `dX` as a convolution, where stride and padding allow it.
fn flipped(tape: &mut Tape, w: &Name, windows: &Windows) -> Option<(Name, Vec<i64>)> {
    let g = &windows.geometry;
    let full: Vec<i64> = g.kernel.iter().zip(&g.dilations).map(|(k, d)| (d * (k - 1)) as i64).collect();
    let begin = full.iter().zip(&g.pads).map(|(f, &p)| f - p as i64);
    let end = full.iter().zip(&windows.end).map(|(f, e)| f - e);
    let pads: Vec<i64> = begin.chain(end).collect();
    if !tape.may_precompute() || g.strides.iter().any(|&s| s != 1) || pads.iter().any(|&p| p < 0) {
        return None;
    }
    Some((turned(tape, w, g.group)?, pads))
}

/// A constant kernel flipped, with its channels swapped.
fn turned(tape: &mut Tape, w: &Name, group: usize) -> Option<Name> {
    let kernel = match &**tape.constant_value(w)? {
        Tensor::F32(a) => flip(a, group)?,
        Tensor::F64(a) => flip(a, group)?,
        _ => return None,
    };
    Some(tape.constant(kernel))
}

/// From `[M, C / group, k…]` to `[C, M / group, k…]` with the kernel's axes reversed.
fn flip<T: Element>(w: &ArrayD<T>, group: usize) -> Option<Tensor> {
    let (&[outputs, channels], kernel) = w.shape().split_first_chunk()?;
    let (per_group, taps) = (outputs / group, kernel.iter().product::<usize>());
    let w = w.as_standard_layout();
    let w = w.as_slice()?;
    let mut flipped = Vec::with_capacity(w.len());
    for channel in 0..group * channels {
        let (group, channel) = (channel / channels, channel % channels);
        for output in group * per_group..(group + 1) * per_group {
            let own = (output * channels + channel) * taps;
            flipped.extend(w[own..own + taps].iter().rev());
        }
    }
    let shape = [&[group * channels, per_group], kernel].concat();
    Some(T::wrap(ArrayD::from_shape_vec(shape, flipped).ok()?))
}
