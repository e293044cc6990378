//! Gradients of a weight for each sample apart, in standard operators: values whose first axis is the samples.

use super::lower::{exchanged, reached};
use super::{Contraction, ConvGeometry, Operand, Tape, View};
use crate::graph::Name;
use crate::tensor::{DType, Tensor};
use std::ops::Range;

/// What a contraction reads, the samples on the first axis; of length 1 where all share it.
pub(super) enum Apart {
    /// `[samples, rows, columns]`
    Product { left: Name, right: Name },
    /// `[samples, images, channels, …]`
    Conv { x: Name, dy: Name, geometry: ConvGeometry },
    /// `[samples, picked]`, `[samples, picked, columns]`
    Rows { indices: Name, dy: Name, rows: usize },
    /// `[samples, …]`
    Sum { value: Name },
}

impl Apart {
    /// None where the samples lie along the columns of a product.
    pub fn new(tape: &mut Tape, contraction: &Contraction, dtype: DType) -> Option<Apart> {
        let mut first = |operand: &Operand, dtype: DType| {
            let value = tape.cast(&operand.name, dtype);
            samples_first(tape, &value, operand)
        };
        match contraction {
            Contraction::Product { left, right } => {
                let along_columns = |o: &Operand| o.samples.is_some_and(|found| found.axis + 1 == o.shape.len());
                if along_columns(left) || along_columns(right) {
                    return None;
                }
                let [left, right] = [left, right].map(|operand| first(operand, dtype));
                let [left, right] = [left, right].map(|value| flat_rows(tape, &value));
                let rows = [&left, &right].map(|value| tape.shape(value)[1]);
                (rows[0] == rows[1]).then_some(Apart::Product { left, right })
            }
            Contraction::Conv { x, dy, geometry } => {
                let spatial = geometry.kernel.len();
                let [x, dy] = [x, dy].map(|operand| first(operand, dtype));
                let [x, dy] = [x, dy].map(|value| images(tape, &value, spatial));
                Some(Apart::Conv { x, dy, geometry: geometry.clone() })
            }
            Contraction::Rows { indices, dy, rows } => {
                let (indices, dy) = (first(indices, DType::I64), first(dy, dtype));
                let shape = tape.shape(&indices);
                let count: usize = shape[1..].iter().product();
                let indices = tape.reshape(&indices, &[shape[0], count]);
                let indices = tape.from_front(&indices, &[*rows]);
                let shape = tape.shape(&dy);
                let width = shape[1..].iter().product::<usize>() / count.max(1);
                let dy = tape.reshape(&dy, &[shape[0], count, width]);
                Some(Apart::Rows { indices, dy, rows: *rows })
            }
            Contraction::Sum { dy, shape } => {
                let value = first(dy, dtype);
                let value = match dy.samples {
                    None => value,
                    // The two axes beside that of the samples.
                    Some(found) => tape.sum(&value, &[found.axis + 1, found.axis + 2]),
                };
                let samples = tape.shape(&value)[0];
                Some(Apart::Sum { value: tape.reshape(&value, &[&[samples], &shape[..]].concat()) })
            }
        }
    }

    /// `|leftᵀ| |right|` of one row for each sample, which is the sum of the absolute products.
    pub fn rank_one(&self, tape: &Tape) -> Option<[&Name; 2]> {
        let Apart::Product { left, right } = self else { return None };
        let single = |value: &Name| tape.shape(value)[..2] == [tape.batch(), 1];
        (single(left) && single(right)).then_some([left, right])
    }

    /// The gradients of some samples, `[samples, …]`, in the shape that the contraction has.
    pub fn gradients(&self, tape: &mut Tape, samples: Range<usize>) -> Name {
        let some = |tape: &mut Tape, value: &Name| match tape.shape(value)[0] {
            1 => value.clone(),
            _ => tape.slice(value, 0, samples.start, samples.end),
        };
        match self {
            Apart::Product { left, right } => {
                let (left, right) = (some(tape, left), some(tape, right));
                let left = tape.swap_last(&left);
                tape.matmul(&left, &right)
            }
            Apart::Conv { x, dy, geometry } => {
                let (x, dy) = (some(tape, x), some(tape, dy));
                convolution(tape, &x, &dy, geometry)
            }
            Apart::Rows { indices, dy, rows } => {
                let (indices, dy) = (some(tape, indices), some(tape, dy));
                let shape = tape.shape(&dy);
                let apart = tape.shape(&indices);
                let indices = tape.reshape(&indices, &[apart[0], apart[1], 1]);
                tape.scattered(&[shape[0], *rows, shape[2]], 1, &indices, &dy)
            }
            Apart::Sum { value } => some(tape, value),
        }
    }
}

/// The samples' axis moved to the front; the parts of it that lie outside and inside of them stay in its place, as two
/// axes.
fn samples_first(tape: &mut Tape, value: &Name, operand: &Operand) -> Name {
    let shape = &operand.shape;
    let Some(found) = operand.samples else { return tape.reshape(value, &[&[1], &shape[..]].concat()) };
    let (before, after, batch) = (&shape[..found.axis], &shape[found.axis + 1..], tape.batch());
    let target = [&[batch], before, &[found.outer, found.inner], after].concat();
    if before.iter().product::<usize>() * found.outer == 1 {
        return tape.reshape(value, &target);
    }
    let apart = [before, &[found.outer, batch, found.inner], after].concat();
    let apart = tape.reshape(value, &apart);
    let at = found.axis + 1;
    let order: Vec<usize> = std::iter::once(at).chain((0..shape.len() + 2).filter(|&axis| axis != at)).collect();
    let moved = tape.transpose(&apart, &order);
    tape.reshape(&moved, &target)
}

/// `[samples, rows, columns]`
fn flat_rows(tape: &mut Tape, value: &Name) -> Name {
    let shape = tape.shape(value);
    let columns = shape[shape.len() - 1];
    let rows = shape[1..shape.len() - 1].iter().product();
    tape.reshape(value, &[shape[0], rows, columns])
}

/// `[samples, images, channels, …]`
fn images(tape: &mut Tape, value: &Name, spatial: usize) -> Name {
    let shape = tape.shape(value);
    let last = shape.len() - spatial - 1;
    let count = shape[1..last].iter().product();
    tape.reshape(value, &[&[shape[0], count], &shape[last..]].concat())
}

/// `dW[n, m, c, k] = Σ over i, p of dY[n, i, m, p] X[n, i, c, s p + d k - pad]`: one convolution, the samples and groups
/// its groups, the images of a sample their channels, the channels of the input its batch. One tap is a matrix product.
fn convolution(tape: &mut Tape, x: &Name, dy: &Name, geometry: &ConvGeometry) -> Name {
    let (from, to, group) = (tape.shape(x), tape.shape(dy), geometry.group);
    let (samples, images) = (from[0], from[1]);
    let (channels, outputs) = (from[2] / group, to[2] / group);
    let (x, pads) = reached(tape, x, dy, geometry);
    let space = tape.shape(&x)[3..].to_vec();
    let apart = tape.reshape(&x, &[&[samples, images, group, channels], &space[..]].concat());
    // [samples, images, groups, channels] to [channels, samples, groups, images].
    let order: Vec<usize> = [3, 0, 2, 1].into_iter().chain(4..4 + space.len()).collect();
    let moved = tape.transpose(&apart, &order);
    let input = tape.reshape(&moved, &[&[channels, samples * group * images], &space[..]].concat());
    let places = &to[3..];
    let apart = tape.reshape(dy, &[&[samples, images, group, outputs], places].concat());
    // [samples, images, groups, outputs] to [samples, groups, outputs, images].
    let order: Vec<usize> = [0, 2, 3, 1].into_iter().chain(4..4 + places.len()).collect();
    let moved = tape.transpose(&apart, &order);
    let kernel = tape.reshape(&moved, &[&[samples * group * outputs, images], places].concat());
    let kind = (tape.dtype(&input), [&[channels, samples * group * outputs], &geometry.kernel[..]].concat());
    let attributes = exchanged(geometry, pads, samples * group);
    let dw = tape.node("Conv", &[&input, &kernel], attributes, kind);
    let dw = tape.reshape(&dw, &[&[channels, samples, group * outputs], &geometry.kernel[..]].concat());
    let order: Vec<usize> = [1, 2, 0].into_iter().chain(3..3 + geometry.kernel.len()).collect();
    tape.transpose(&dw, &order)
}

/// The gradients of a parameter, `[samples, …]`, from those of what is seen through `views`.
pub(super) fn unseen(tape: &mut Tape, value: &Name, views: &[View]) -> Name {
    let mut value = value.clone();
    for view in views.iter().rev() {
        let samples = tape.shape(&value)[0];
        value = match view {
            View::Reshape { from, .. } => tape.reshape(&value, &[&[samples], &from[..]].concat()),
            View::Permute(order) => {
                let mut back = vec![0; order.len() + 1];
                order.iter().enumerate().for_each(|(to, &from)| back[from + 1] = to + 1);
                tape.transpose(&value, &back)
            }
            View::Pick { from, positions, .. } => {
                let places = positions.iter().map(|&p| p as i64).collect::<Vec<_>>();
                let places = Tensor::I64(ndarray::arr1(&places).into_dyn());
                let places = tape.constant(places);
                let places = tape.reshape(&places, &[1, positions.len()]);
                let sum = tape.scattered(&[samples, from.iter().product()], 1, &places, &value);
                tape.reshape(&sum, &[&[samples], &from[..]].concat())
            }
        };
    }
    value
}
