//! Pooling.

use super::conv::transposed;
use super::image::within_samples;
use super::scatter::Places;
use super::window::Windows;
use super::{Grad, GradError, Name, Node, Tape, first};
use crate::tensor::DType;
use ndarray::{ArrayD, IxDyn};

type Grads = Result<Vec<Option<Grad>>, GradError>;

fn kernel(node: &Node) -> Result<Vec<usize>, GradError> {
    let kernel = node.ints("kernel_shape").unwrap_or_default();
    if kernel.is_empty() || kernel.iter().any(|&k| k < 1) {
        return Err(node.bad("kernel_shape").into());
    }
    Ok(kernel.iter().map(|&k| k as usize).collect())
}

/// Every input of a window gets `dy / count`: the transposed convolution, channel by channel, of
/// `dy / count` with a kernel of ones. `count` is the number of elements that the forward pass divided by.
pub(super) fn average(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (x, y) = (node.required(0)?, node.output()?);
    let mut windows = Windows::new(node, tape, x, y, kernel(node)?)?;
    let channels = tape.shape(x)[1];
    let dtype = tape.dtype(x);
    let share = shares(node, &windows);
    let share = tape.constant_floats(dtype, share);
    let scaled = tape.mul(&dy, &share);
    let ones = [&[channels, 1], &windows.geometry.kernel[..]].concat();
    let ones = tape.constant_floats(dtype, ArrayD::ones(IxDyn(&ones)));
    windows.geometry.group = channels;
    Ok(vec![Some(transposed(tape, &scaled, &ones, &windows, tape.shape(x)).into())])
}

/// `1 / count` for each window, shape `[1, 1, output…]`. Padding counts where `count_include_pad` says
/// so; what lies beyond the padding (`ceil_mode`) never does.
fn shares(node: &Node, windows: &Windows) -> ArrayD<f64> {
    let g = &windows.geometry;
    let include = node.int("count_include_pad").unwrap_or(0) != 0;
    let rank = g.kernel.len();
    let end = |i: usize| {
        let pads = node.ints("pads").filter(|p| p.len() == 2 * rank);
        pads.map_or(windows.end[i].max(0) as usize, |p| p[rank + i].max(0) as usize)
    };
    let count = |i: usize, position: usize| {
        let (low, high) = if include {
            (0, g.pads[i] + windows.input[i] + end(i))
        } else {
            (g.pads[i], g.pads[i] + windows.input[i])
        };
        let at = |k: usize| position * g.strides[i] + k * g.dilations[i];
        (0..g.kernel[i]).filter(|&k| (low..high).contains(&at(k))).count().max(1)
    };
    ArrayD::from_shape_fn(IxDyn(&[&[1, 1], &windows.output[..]].concat()), |index| {
        (0..rank).map(|i| 1.0 / count(i, index[i + 2]) as f64).product()
    })
}

/// `dx = dy / n` at every position.
pub(super) fn global_average(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let shape = tape.shape(node.required(0)?);
    let count: usize = shape[2..].iter().product();
    let scaled = tape.scale(&dy, 1.0 / count as f64);
    Ok(vec![Some(tape.expand(&scaled, &shape).into())])
}

/// `dy` goes to the position of the maximum, the first of equal ones. The node is asked for its second
/// output, the flat positions in the whole tensor; where samples are kept apart, they are taken sample by sample. With `storage_order` 1
/// positions count along the first spatial axis first.
pub(super) fn max(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (from, to) = (tape.shape(node.required(0)?), tape.shape(&dy));
    let (size, count) = (from.iter().product::<usize>(), to.iter().product::<usize>());
    let indices = tape.second_output(node, DType::I64, &to);
    let dx = if tape.keeps_samples_apart() {
        let indices = within_samples(tape, &indices, from[0], [count / from[0], size / from[0]]);
        let updates = tape.reshape(&dy, &[from[0], count / from[0]]);
        Places { axis: 1, indices }.add(tape, &[from[0], size / from[0]], &updates)
    } else {
        let indices = tape.reshape(&indices, &[count]);
        let updates = tape.reshape(&dy, &[count]);
        Places { axis: 0, indices }.add(tape, &[size], &updates)
    };
    if node.int("storage_order").unwrap_or(0) == 0 {
        return Ok(vec![Some(tape.reshape(&dx, &from).into())]);
    }
    let perm: Vec<usize> = [0, 1].into_iter().chain((2..from.len()).rev()).collect();
    let dx = tape.reshape(&dx, &perm.iter().map(|&i| from[i]).collect::<Vec<_>>());
    Ok(vec![Some(tape.transpose(&dx, &perm).into())])
}
