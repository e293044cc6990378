//! The operands of contractions as matrices that are packed on demand.

use super::ImportanceError;
use super::contract::{Part, Real, Values, get};
use super::fused::{Source, cut};
use super::held::{put_back, zeros};
use super::kernel::{Channels, Walk, lines};
use super::panels::{Padded, of_columns, of_rows};
use super::pixels::Pixels;
use crate::autograd::{ConvGeometry, Operand, Power};
use crate::kernels::registers::sizes;
use ndarray::ArrayViewD;
use pulp::Arch;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Rows of a matrix product that make one image.
const ROWS: usize = 512;

/// `Σ over rows of leftᵀ right` for each sample.
pub(super) struct Product<'a> {
    left: Matrix<'a>,
    right: Matrix<'a>,
    samples: usize,
    /// Rows of a sample, and images that they are cut into.
    rows: usize,
    images: usize,
    walk: Walk,
    powered: bool,
}

struct Matrix<'a> {
    values: Cow<'a, [f32]>,
    columns: usize,
    /// Where each row begins, sample after sample.
    rows: Vec<usize>,
}

impl<'a> Matrix<'a> {
    /// None where the samples lie along the columns.
    fn new(operand: &Operand, batch: usize, values: &Values<'a>) -> Result<Option<Self>, ImportanceError> {
        let columns = operand.shape.last().copied().unwrap_or(1);
        let array = get::<f32>(values, operand)?;
        let count = array.len() / columns.max(1);
        let rows = match operand.samples {
            None => (0..count).collect(),
            Some(split) if split.axis + 1 == operand.shape.len() => return Ok(None),
            Some(split) => {
                let axis = operand.shape[split.axis];
                let inner: usize = operand.shape[split.axis + 1..operand.shape.len() - 1].iter().product();
                let before: usize = operand.shape[..split.axis].iter().product();
                let of = |sample| {
                    let along: Vec<usize> = Part { sample, batch }.along(split).collect();
                    let starts = (0..before).flat_map(move |b| along.clone().into_iter().map(move |i| b * axis + i));
                    starts.flat_map(move |start| (0..inner).map(move |i| start * inner + i))
                };
                (0..batch).flat_map(of).collect::<Vec<usize>>()
            }
        };
        let rows = rows.into_iter().map(|row| row * columns).collect();
        Ok(array.to_slice().map(|values| Matrix { values: values.into(), columns, rows }))
    }

    fn pack(&self, rows: Range<usize>, columns: Range<usize>, width: usize, out: &mut [f32]) {
        let rows: Vec<&[f32]> = self.rows[rows].iter().map(|&row| &self.values[row..row + self.columns]).collect();
        of_rows(&rows, columns, width, out);
        out[rows.len() * width..].fill(0.0);
    }
}

impl<'a> Product<'a> {
    /// None where rows cannot be told apart by sample.
    pub fn new(
        left: &Operand,
        right: &Operand,
        batch: usize,
        power: Power,
        values: &Values<'a>,
    ) -> Result<Option<Self>, ImportanceError> {
        let apart = left.samples.is_some() || right.samples.is_some();
        let (Some(mut left), Some(mut right)) = (Matrix::new(left, batch, values)?, Matrix::new(right, batch, values)?)
        else {
            return Ok(None);
        };
        if left.rows.len() != right.rows.len() {
            return Ok(None);
        }
        // Of one row for each sample, `Σ |l r|` is `|l|ᵀ |r|` exactly.
        let powered = apart && left.rows.len() == batch;
        if powered {
            for matrix in [&mut left, &mut right] {
                matrix.values = matrix.values.iter().map(|&x| x.power(power)).collect();
            }
        }
        let samples = if apart && !powered { batch } else { 1 };
        let rows = left.rows.len() / samples;
        let images = rows.div_ceil(ROWS).max(1);
        let walk = Walk { lines: lines(0, rows.div_ceil(images), 1).collect(), step: 1, taps: vec![0] };
        Ok(Some(Product { left, right, samples, rows, images, walk, powered }))
    }

    /// The rows of an image.
    fn own(&self, image: usize) -> Range<usize> {
        let (sample, part) = (image / self.images, image % self.images);
        let (start, size) = (sample * self.rows, self.places());
        start + (part * size).min(self.rows)..start + ((part + 1) * size).min(self.rows)
    }
}

impl Source for Product<'_> {
    fn groups(&self) -> usize {
        1
    }
    fn rows(&self) -> usize {
        self.left.columns
    }
    fn columns(&self) -> usize {
        self.right.columns
    }
    fn samples(&self) -> usize {
        self.samples
    }
    fn images(&self) -> usize {
        self.samples * self.images
    }
    fn places(&self) -> usize {
        self.rows.div_ceil(self.images)
    }
    fn walk(&self) -> &Walk {
        &self.walk
    }
    fn powered(&self) -> bool {
        self.powered
    }
    fn pack_left(&self, image: usize, _: usize, columns: Range<usize>, width: usize, out: &mut [f32]) {
        self.left.pack(self.own(image), columns, width, out);
    }
    fn pack_right(&self, image: usize, _: usize, columns: Range<usize>, width: usize, out: &mut [f32]) {
        self.right.pack(self.own(image), columns, width, out);
    }
}

/// The weight gradient of a convolution: gradients of outputs on the left, images on the right.
pub(super) struct Convolution<'a> {
    x: Pixels<'a>,
    dy: Pixels<'a>,
    /// Images, sample after sample.
    order: Vec<usize>,
    samples: usize,
    pub geometry: &'a ConvGeometry,
    arch: Arch,
    /// Channels of the input and of the output in a group.
    pub channels: usize,
    pub outputs: usize,
    /// Spatial sizes of the input and of the output.
    pub image: Vec<usize>,
    pub result: Vec<usize>,
    /// Elements of a channel of the output, and of a line of the input.
    positions: usize,
    line: usize,
    /// How the padded image is walked.
    padded: Padded,
    /// How right panels are walked.
    walk: Walk,
}

impl<'a> Convolution<'a> {
    /// None where the operands lie in memory in another way.
    pub fn new(
        x: ArrayViewD<'a, f32>,
        dy: ArrayViewD<'a, f32>,
        order: Vec<usize>,
        samples: usize,
        geometry: &'a ConvGeometry,
        arch: Arch,
    ) -> Option<Self> {
        let (input, output) = (&x.shape()[2..], &dy.shape()[2..]);
        let padded = Padded::new(geometry, input, output);
        let positions = output.iter().product();
        let mut made = Convolution {
            order,
            samples,
            geometry,
            arch,
            channels: x.shape()[1] / geometry.group,
            outputs: dy.shape()[1] / geometry.group,
            image: input.to_vec(),
            result: output.to_vec(),
            positions,
            line: input.last().copied().unwrap_or(1),
            walk: padded.walk.clone(),
            padded,
            x: Pixels::new(x)?,
            dy: Pixels::new(dy)?,
        };
        if made.unrolled() {
            made.walk = Walk { lines: lines(0, positions, 1).collect(), step: 1, taps: vec![0] };
        }
        Some(made)
    }

    /// Whether each tap of each channel has a column of its own: where few channels would leave a panel empty.
    fn unrolled(&self) -> bool {
        let many = self.padded.walk.taps.len() > 1;
        many && !self.by_channel() && 2 * self.channels <= sizes(self.arch).lanes
    }

    /// Whether each output channel sees one input channel of its own.
    pub fn by_channel(&self) -> bool {
        self.channels == 1 && self.geometry.group > 1
    }

    /// Packs outputs of the gradient of an image; lines of `length` go to where `starts` says.
    pub fn pack_gradient(
        &self,
        image: usize,
        outputs: &[usize],
        length: usize,
        starts: &[usize],
        width: usize,
        out: &mut [f32],
    ) {
        self.dy.pack(self.order[image], outputs, length, starts, width, out);
    }

    /// Packs channels of an image, whose lines go to where `starts` says.
    pub fn pack_input(&self, image: usize, channels: &[usize], starts: &[usize], width: usize, out: &mut [f32]) {
        self.x.pack(self.order[image], channels, self.line, starts, width, out);
    }

    /// Adds to `total`, `[channels, taps]`, what each channel contributes.
    pub fn add_by_channel(&self, power: Power, total: &mut [f64]) {
        let arch = self.arch;
        let (lanes, taps) = (sizes(arch).lanes, self.walk.taps.len());
        let channels = self.outputs * self.geometry.group;
        let within = if self.samples == 1 { Power::Signed } else { power };
        let after = if self.samples == 1 { power } else { Power::Signed };
        let images = if self.samples == 1 { 1 } else { self.order.len() / self.samples };
        let panels: Vec<_> = cut(channels, lanes, 0).collect();
        let mut rest = total;
        let totals = panels.iter().map(|panel| {
            let (own, other) = std::mem::take(&mut rest).split_at_mut(panel.columns.len() * taps);
            rest = other;
            own
        });
        let totals: Vec<&mut [f64]> = totals.collect();
        panels.par_iter().zip(totals).for_each(|(panel, total)| {
            let width = panel.width(lanes);
            let (size, place) = (self.positions * width, self.padded.len() * width);
            let outputs: Vec<usize> = panel.columns.clone().collect();
            let inputs: Vec<usize> = outputs.iter().map(|output| output / self.outputs).collect();
            let (mut dy, mut x) = (zeros(images * size), zeros(images * place));
            let mut sums = vec![0.0; taps * width];
            for first in (0..self.order.len()).step_by(images) {
                let packed = dy.chunks_exact_mut(size).zip(x.chunks_exact_mut(place));
                for (image, (dy, x)) in (first..first + images).zip(packed) {
                    self.pack_gradient(image, &outputs, self.positions, &[0], width, dy);
                    self.pack_input(image, &inputs, &self.padded.places, width, x);
                }
                let (dy, x) = (dy.chunks_exact(size).collect::<Vec<_>>(), x.chunks_exact(place).collect::<Vec<_>>());
                let (walk, wide, sums) = (&self.walk, panel.wide, &mut sums[..]);
                arch.dispatch(Channels { dy: &dy, x: &x, images, walk, wide, power: within, sums });
            }
            put_back(dy);
            put_back(x);
            for (channel, total) in total.chunks_exact_mut(taps).enumerate() {
                for (total, sums) in total.iter_mut().zip(sums.chunks_exact(width)) {
                    *total += after.apply(sums[channel].into());
                }
            }
        });
    }
}

impl Source for Convolution<'_> {
    fn groups(&self) -> usize {
        self.geometry.group
    }
    fn rows(&self) -> usize {
        self.outputs
    }
    fn columns(&self) -> usize {
        if self.unrolled() { self.channels * self.padded.walk.taps.len() } else { self.channels }
    }
    fn samples(&self) -> usize {
        self.samples
    }
    fn images(&self) -> usize {
        self.order.len()
    }
    fn places(&self) -> usize {
        if self.unrolled() { self.positions } else { self.padded.len() }
    }
    fn walk(&self) -> &Walk {
        &self.walk
    }
    fn pack_left(&self, image: usize, group: usize, columns: Range<usize>, width: usize, out: &mut [f32]) {
        let outputs: Vec<usize> = columns.map(|output| group * self.outputs + output).collect();
        self.pack_gradient(image, &outputs, self.positions, &[0], width, out);
    }
    fn pack_right(&self, image: usize, group: usize, columns: Range<usize>, width: usize, out: &mut [f32]) {
        let first = group * self.channels;
        if !self.unrolled() {
            let channels: Vec<usize> = columns.map(|channel| first + channel).collect();
            return self.pack_input(image, &channels, &self.padded.places, width, out);
        }
        let taps = &self.padded.walk.taps;
        let channels = columns.start / taps.len()..columns.end.div_ceil(taps.len());
        let size = self.padded.len();
        let mut planes = vec![0.0; channels.len() * size];
        for (channel, plane) in channels.clone().zip(planes.chunks_exact_mut(size)) {
            self.pack_input(image, &[first + channel], &self.padded.places, 1, plane);
        }
        let column =
            |column: usize| &planes[(column / taps.len() - channels.start) * size + taps[column % taps.len()]..];
        of_columns(&columns.map(column).collect::<Vec<_>>(), &self.padded.walk, width, out);
    }
}
