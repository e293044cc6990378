//! Convolutions of images with constant kernels of 3×3 taps, by [Winograd's method](super::winograd), in single precision.
//!
//! Tiles, which overlap by two, are transformed and multiplied with the transformed kernel: for each place of a tile a
//! product of matrices, `[outputs, channels] · [channels, tiles]`. Tiles lie side by side in vectors, and as many are in the
//! works at a time as stay in the cache.

mod shape;

pub(crate) use shape::{Method, Shape, transformed};

use super::registers::{FEW, MANY, add, multiply};
use super::winograd::{Filter, Four, Transform, Two};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Bytes of transformed tiles and products that a cache of the second level is taken to hold.
const CACHED: usize = 1 << 20;
/// Channels that are added up in one register; longer sums are made of such pieces, which keeps rounding small.
const PIECE: usize = 64;

/// Memory for what is in the works.
#[derive(Default)]
pub(crate) struct Work {
    padded: Vec<f32>,
    tile: Vec<f32>,
    inputs: Vec<f32>,
    products: Vec<f32>,
}

/// Computes some outputs of some images.
pub(crate) struct Images<'a> {
    pub shape: Shape,
    /// They begin where a panel of the kernel does.
    pub outputs: Range<usize>,
    /// `[images, channels, height, width]`
    pub x: &'a [f32],
    /// What [`transformed`] made.
    pub kernel: &'a [f32],
    /// One number for each output of the shape, or none at all.
    pub bias: &'a [f32],
    /// `[images, outputs, height, width]`
    pub y: &'a mut [f32],
    pub work: &'a mut Work,
}

impl WithSimd for Images<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.shape.method, S::REGISTER_COUNT >= 32) {
            (Method::Two, true) => self.run::<S, Two, 2, 4, MANY>(simd),
            (Method::Two, false) => self.run::<S, Two, 2, 4, FEW>(simd),
            (Method::Four, true) => self.run::<S, Four, 4, 6, MANY>(simd),
            (Method::Four, false) => self.run::<S, Four, 4, 6, FEW>(simd),
        }
    }
}

/// Tiles of one row of tiles of an image, from `first` on; they lie from column `at` on.
struct Piece {
    image: usize,
    row: usize,
    first: usize,
    count: usize,
    at: usize,
}

/// How what is in the works is laid out.
#[derive(Clone, Copy)]
struct Layout {
    /// Tiles side by side in a panel.
    lanes: usize,
    /// Elements of a place of a panel, and of a place of all panels: the latter not a multiple of the cache's period.
    input: usize,
    inputs: usize,
    product: usize,
    products: usize,
}

impl Images<'_> {
    #[inline(always)]
    fn run<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize, const R: usize>(mut self, simd: S) {
        let places = TILE * TILE;
        let shape = self.shape;
        let lanes = 2 * S::F32_LANES;
        let (input, product) = (shape.channels * lanes, self.outputs.len().next_multiple_of(R) * lanes);
        let at_once = if places * (input + product) * size_of::<f32>() > CACHED { 2 } else { 1 };
        let apart = 3 * lanes;
        let (inputs, products) = (at_once * input + apart, at_once * product + apart);
        let layout = Layout { lanes, input, inputs, product, products };
        let [down, across] = shape.tiles();
        let images = self.x.len() / (shape.channels * shape.input[0] * shape.input[1]).max(1);
        let tiles = images * down * across;
        let mut work = std::mem::take(self.work);
        work.inputs.resize(places * inputs, 0.0);
        work.products.resize(places * products, 0.0);
        work.tile.resize(places * lanes, 0.0);
        for start in (0..tiles).step_by(at_once * lanes) {
            let end = tiles.min(start + at_once * lanes);
            let panels: Vec<Vec<Piece>> = (start..end)
                .step_by(lanes)
                .map(|start| pieces(start..end.min(start + lanes), [down, across]).collect())
                .collect();
            for (panel, pieces) in panels.iter().enumerate() {
                self.transform_inputs::<S, F, OUT, TILE>(simd, pieces, panel, layout, &mut work);
            }
            self.multiply::<S, R>(simd, panels.len(), layout, &mut work);
            for (panel, pieces) in panels.iter().enumerate() {
                self.transform_products::<S, F, OUT, TILE>(simd, pieces, panel, layout, &mut work);
            }
        }
        *self.work = work;
    }

    /// `Bᵀ d B` of the tiles of a panel, for each channel.
    #[inline(always)]
    fn transform_inputs<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
        &self,
        simd: S,
        pieces: &[Piece],
        panel: usize,
        layout: Layout,
        work: &mut Work,
    ) {
        let shape = self.shape;
        let lanes = layout.lanes;
        let width = shape.tiles()[1] * OUT + TILE - OUT;
        let Work { padded, tile, inputs, .. } = work;
        for channel in 0..shape.channels {
            for own in pieces.chunk_by(|a, b| a.image == b.image) {
                let rows = own[0].row * OUT..own[own.len() - 1].row * OUT + TILE;
                padded.resize(rows.len() * width, 0.0);
                self.pad(own[0].image, channel, rows, width, padded);
                for piece in own {
                    let corner = (piece.row - own[0].row) * OUT * width + piece.first * OUT;
                    gather::<OUT, TILE>(&padded[corner..], width, &mut tile[piece.at..], lanes, piece.count);
                }
            }
            let (columns, _) = S::as_simd_f32s(tile);
            for half in 0..2 {
                let mut square = [[simd.splat_f32s(0.0); TILE]; TILE];
                for (element, &column) in square.as_flattened_mut().iter_mut().zip(columns[half..].iter().step_by(2)) {
                    *element = column;
                }
                let square = F::Input::square(simd, &square);
                let first = panel * layout.input + channel * lanes + half * S::F32_LANES;
                let places = inputs[first..].chunks_mut(layout.inputs);
                for (place, value) in places.zip(square.as_flattened()) {
                    S::as_mut_simd_f32s(&mut place[..S::F32_LANES]).0[0] = *value;
                }
            }
        }
    }

    /// Rows of a channel of an image, counted from the first row of zeros, with zeros around them.
    fn pad(&self, image: usize, channel: usize, rows: Range<usize>, width: usize, out: &mut [f32]) {
        let Shape { channels, input: [height, line], pads: [above, left], .. } = self.shape;
        let plane = &self.x[(image * channels + channel) * height * line..][..height * line];
        for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
            match row.checked_sub(above).filter(|&row| row < height) {
                Some(row) => {
                    let count = line.min(width.saturating_sub(left));
                    out[..left.min(width)].fill(0.0);
                    out[left.min(width)..][..count].copy_from_slice(&plane[row * line..][..count]);
                    out[left.min(width) + count..].fill(0.0);
                }
                None => out.fill(0.0),
            }
        }
    }

    /// For each place the product of the kernel and the tiles.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize>(&self, simd: S, panels: usize, layout: Layout, work: &mut Work) {
        let kernel = self.kernel.as_chunks::<R>().0;
        let of_panel = self.shape.channels;
        let (all, own) = (self.shape.outputs.div_ceil(R), self.outputs.start / R..self.outputs.end.div_ceil(R));
        for (place, kernel) in kernel.chunks_exact(all * of_panel).enumerate() {
            let kernel = &kernel[own.start * of_panel..own.end * of_panel];
            for panel in 0..panels {
                let right = &work.inputs[place * layout.inputs + panel * layout.input..][..layout.input];
                let right = S::as_simd_f32s(right).0.as_chunks::<2>().0;
                let out = &mut work.products[place * layout.products + panel * layout.product..][..layout.product];
                let out = S::as_mut_simd_f32s(out).0.as_chunks_mut::<2>().0.as_chunks_mut::<R>().0;
                for (left, out) in kernel.chunks_exact(of_panel).zip(out) {
                    *out = [[simd.splat_f32s(0.0); 2]; R];
                    for (left, right) in left.chunks(PIECE).zip(right.chunks(PIECE)) {
                        let mut piece = [[simd.splat_f32s(0.0); 2]; R];
                        left.iter().zip(right).for_each(|(l, r)| multiply(simd, l, r, &mut piece));
                        add(simd, &piece, out);
                    }
                }
            }
        }
    }

    /// `Aᵀ m A` of the products of a panel, for each output, into the images.
    #[inline(always)]
    fn transform_products<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
        &mut self,
        simd: S,
        pieces: &[Piece],
        panel: usize,
        layout: Layout,
        work: &mut Work,
    ) {
        let shape = self.shape;
        let lanes = layout.lanes;
        let [height, width] = shape.output;
        for channel in 0..self.outputs.len() {
            let bias = simd.splat_f32s(self.bias.get(self.outputs.start + channel).copied().unwrap_or(0.0));
            for half in 0..2 {
                let first = panel * layout.product + channel * lanes + half * S::F32_LANES;
                let places = work.products[first..].chunks(layout.products);
                let mut square = [[simd.splat_f32s(0.0); TILE]; TILE];
                for (element, place) in square.as_flattened_mut().iter_mut().zip(places) {
                    *element = S::as_simd_f32s(&place[..S::F32_LANES]).0[0];
                }
                let square = F::Output::square(simd, &square);
                let (tile, _) = S::as_mut_simd_f32s(&mut work.tile);
                for (place, value) in square.as_flattened().iter().enumerate() {
                    tile[2 * place + half] = simd.add_f32s(*value, bias);
                }
            }
            for piece in pieces {
                let plane = (piece.image * self.outputs.len() + channel) * height * width;
                for (i, row) in (piece.row * OUT..height.min(piece.row * OUT + OUT)).enumerate() {
                    let line = &mut self.y[plane + row * width..][..width][piece.first * OUT..];
                    scatter::<OUT>(&work.tile[i * OUT * lanes + piece.at..], lanes, line, piece.count);
                }
            }
        }
    }
}

/// The pieces that a range of tiles is made of.
fn pieces(tiles: Range<usize>, [down, across]: [usize; 2]) -> impl Iterator<Item = Piece> {
    let (start, mut next) = (tiles.start, tiles.start);
    std::iter::from_fn(move || {
        (next < tiles.end).then(|| {
            let (image, row, first) = (next / (down * across), next / across % down, next % across);
            let count = (across - first).min(tiles.end - next);
            let at = next - start;
            next += count;
            Piece { image, row, first, count, at }
        })
    })
}

/// The elements of `count` tiles side by side from a corner on: `out[place][tile]`.
#[inline(always)]
fn gather<const OUT: usize, const TILE: usize>(
    image: &[f32],
    width: usize,
    out: &mut [f32],
    lanes: usize,
    count: usize,
) {
    for tile in 0..count {
        for i in 0..TILE {
            let Some(row) = image[i * width + tile * OUT..].first_chunk::<TILE>() else { return };
            for (j, &x) in row.iter().enumerate() {
                out[(i * TILE + j) * lanes + tile] = x;
            }
        }
    }
}

/// A row of the results of `count` tiles, `[column][tile]`, as far as the line goes.
#[inline(always)]
fn scatter<const OUT: usize>(results: &[f32], lanes: usize, line: &mut [f32], count: usize) {
    let (whole, rest) = line.as_chunks_mut::<OUT>();
    let length = count.min(whole.len());
    let whole = &mut whole[..length];
    let of = |tile: usize| -> [f32; OUT] { std::array::from_fn(|j| results[j * lanes + tile]) };
    whole.iter_mut().enumerate().for_each(|(tile, out)| *out = of(tile));
    if whole.len() < count {
        rest.iter_mut().zip(of(whole.len())).for_each(|(out, value)| *out = value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::registers::sizes;
    use crate::kernels::winograd::TAPS;
    use crate::kernels::{all, numbers};
    use proptest::prelude::*;

    /// Sums over taps in float64.
    fn plain(shape: &Shape, images: usize, x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
        let Shape { channels, outputs, input: [h, w], pads, output: [height, width], .. } = *shape;
        let mut y = vec![];
        for place in 0..images * outputs * height * width {
            let (image, output) = (place / (outputs * height * width), place / (height * width) % outputs);
            let (row, column) = (place / width % height, place % width);
            let mut sum = f64::from(bias.get(output).copied().unwrap_or(0.0));
            for term in 0..channels * TAPS * TAPS {
                let (channel, tap) = (term / (TAPS * TAPS), term % (TAPS * TAPS));
                let (i, j) = ((row + tap / TAPS).wrapping_sub(pads[0]), (column + tap % TAPS).wrapping_sub(pads[1]));
                if i < h && j < w {
                    let x = x[((image * channels + channel) * h + i) * w + j];
                    sum += f64::from(x) * f64::from(weights[output * channels * TAPS * TAPS + term]);
                }
            }
            y.push(sum);
        }
        y
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_sums_over_taps(images in 1usize..5, channels in 1usize..70, outputs in 1usize..20, input in [1usize..16, 1usize..16],
                             pads in [0usize..4, 0usize..4], more in [0usize..4, 0usize..4], biased: bool, four: bool) {
            let output = [0, 1].map(|i| (input[i] + pads[i] + more[i]).saturating_sub(TAPS - 1));
            prop_assume!(output[0] > 0 && output[1] > 0);
            let (method, tolerance) = if four { (Method::Four, 5e-6) } else { (Method::Two, 2e-6) };
            let shape = Shape { method, channels, outputs, input, pads, output };
            let x = numbers(images * channels * input[0] * input[1], 1);
            let weights = numbers(outputs * channels * TAPS * TAPS, 2);
            let bias = numbers(if biased { outputs } else { 0 }, 3);
            let expected = plain(&shape, images, &x, &weights, &bias);
            let largest = expected.iter().fold(1.0, |max: f64, y| max.max(y.abs()));
            for arch in all() {
                let kernel = transformed(arch, &weights, &shape);
                // What was there before must not matter.
                let (mut y, mut work) = (vec![f32::NAN; expected.len()], Work::default());
                for _ in 0..2 {
                    let (kernel, bias, work) = (&kernel[..], &bias[..], &mut work);
                    arch.dispatch(Images { shape, outputs: 0..outputs, x: &x, kernel, bias, y: &mut y, work });
                }
                // Part of the outputs are the same bits.
                let (panel, plane) = (sizes(arch).left, output[0] * output[1]);
                if outputs > panel {
                    let mut part = vec![f32::NAN; images * (outputs - panel) * plane];
                    let (kernel, bias, work) = (&kernel[..], &bias[..], &mut work);
                    arch.dispatch(Images { shape, outputs: panel..outputs, x: &x, kernel, bias, y: &mut part, work });
                    let own = y.chunks(outputs * plane).flat_map(|image| &image[panel * plane..]).copied();
                    prop_assert!(own.eq(part));
                }
                for (y, expected) in y.iter().zip(&expected) {
                    let error = (f64::from(*y) - expected).abs();
                    prop_assert!(error <= tolerance * largest, "{arch:?}: {y}, expected {expected}, largest {largest}");
                }
            }
        }
    }
}
