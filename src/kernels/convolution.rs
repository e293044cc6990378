//! Convolutions of images with constant kernels of 3×3 taps, by [Winograd's method](super::winograd), in single precision.
//!
//! Images have their channels last, so that a vector holds neighbouring channels of one place. Tiles, which overlap by two,
//! are transformed and multiplied with the transformed kernel: for each place of a tile a product of matrices,
//! `[tiles, channels] · [channels, outputs]`, of as many tiles at a time as stay in the cache.

mod shape;

pub(crate) use shape::{Method, Shape, transformed};

use super::images::{Part, place};
use super::memory::Memory;
use super::product::product;
use super::registers::{FEW, MANY, load, part, store};
use super::winograd::{Filter, Four, Transform, Two};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Bytes of transformed tiles and products that are in the works at a time: part of a cache of the second level.
const CACHED: usize = 1 << 19;
/// Tiles in the works at a time, at least, in rows of registers: they share what is read of the kernel.
const FEWEST: usize = 2;
/// Memory for what is in the works.
#[derive(Default)]
pub(crate) struct Work {
    zeros: Vec<f32>,
    inputs: Memory,
    products: Memory,
}

/// Computes some rows of tiles of some images.
pub(crate) struct Images<'a> {
    pub shape: Shape,
    /// What [`transformed`] made.
    pub kernel: &'a [f32],
    /// Its rows are of tiles.
    pub part: Part<'a>,
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

/// How what is in the works is laid out, `[place, tile, channel]` and `[place, tile, output]`.
#[derive(Clone, Copy)]
struct Layout {
    /// Elements of a tile at a place, whole vectors.
    input: usize,
    product: usize,
    /// Elements of a place of all tiles: not a multiple of the cache's period.
    inputs: usize,
    products: usize,
}

/// Where a tile lies.
struct Tile {
    image: usize,
    row: usize,
    column: usize,
}

impl Images<'_> {
    #[inline(always)]
    fn run<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize, const R: usize>(mut self, simd: S) {
        let places = TILE * TILE;
        let [input, product] = [self.shape.channels, self.shape.outputs].map(|n| n.next_multiple_of(S::F32_LANES));
        let fit = CACHED / (places * (input + product) * size_of::<f32>());
        let across = self.shape.tiles()[1];
        let tiles = self.part.rows.start * across..self.part.rows.end * across;
        let at_once = (fit / R).max(FEWEST).min(tiles.len().div_ceil(R)) * R;
        let apart = 3 * S::F32_LANES;
        let layout = Layout { input, product, inputs: at_once * input + apart, products: at_once * product + apart };
        let mut work = std::mem::take(self.work);
        work.inputs.resize(places * layout.inputs);
        work.products.resize(places * layout.products);
        work.zeros.resize(self.shape.channels, 0.0);
        for start in tiles.clone().step_by(at_once) {
            let own = start..tiles.end.min(start + at_once);
            for (index, tile) in own.clone().enumerate() {
                self.transform_input::<S, F, OUT, TILE>(simd, self.tile(tile), index, layout, &mut work);
            }
            self.multiply::<S, R>(simd, own.len(), layout, &mut work);
            for (index, tile) in own.enumerate() {
                self.transform_product::<S, F, OUT, TILE>(simd, self.tile(tile), index, layout, &work);
            }
        }
        *self.work = work;
    }

    fn tile(&self, index: usize) -> Tile {
        let [down, across] = self.shape.tiles();
        Tile { image: index / (down * across), row: index / across % down, column: index % across }
    }

    /// `Bᵀ d B` of a tile.
    #[inline(always)]
    fn transform_input<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
        &self,
        simd: S,
        tile: Tile,
        index: usize,
        layout: Layout,
        work: &mut Work,
    ) {
        let Shape { channels, input, pads: [above, left], .. } = self.shape;
        let size = input[0] * input[1] * channels;
        let image = &self.part.x[tile.image * size..][..size];
        let mut seen: [[&[f32]; TILE]; TILE] = [[&work.zeros; TILE]; TILE];
        for (i, seen) in seen.iter_mut().enumerate() {
            let row = (tile.row * OUT + i).wrapping_sub(above);
            for (j, seen) in seen.iter_mut().enumerate() {
                let column = (tile.column * OUT + j).wrapping_sub(left);
                *seen = place(image, input, [row, column], &work.zeros);
            }
        }
        let (out, apart) = (&mut work.inputs[index * layout.input..], layout.inputs);
        let whole = channels - channels % S::F32_LANES;
        for first in (0..whole).step_by(S::F32_LANES) {
            let own = first..first + S::F32_LANES;
            transform_channels::<S, F::Input, TILE, true>(simd, &seen, own, &mut out[first..], apart);
        }
        if whole < channels {
            transform_channels::<S, F::Input, TILE, false>(simd, &seen, whole..channels, &mut out[whole..], apart);
        }
    }

    /// For each place the product of the tiles and the kernel.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize>(&self, simd: S, tiles: usize, layout: Layout, work: &mut Work) {
        let kernel = S::as_simd_f32s(self.kernel).0;
        let vectors = layout.product / S::F32_LANES;
        for (place, kernel) in kernel.chunks_exact(self.shape.channels * vectors).enumerate() {
            let input = &work.inputs[place * layout.inputs..][..layout.inputs];
            let output = &mut work.products[place * layout.products..][..layout.products];
            for (panel, right) in kernel.chunks(2 * self.shape.channels).enumerate() {
                let first = panel * 2 * S::F32_LANES;
                for tile in (0..tiles).step_by(R) {
                    let row = |r: usize| &input[(tile + r) * layout.input..][..self.shape.channels];
                    let (rows, out) = (std::array::from_fn(row), &mut output[tile * layout.product + first..]);
                    if right.len() > self.shape.channels {
                        keep::<S, R, 2>(product(simd, rows, right), out, layout.product);
                    } else {
                        keep::<S, R, 1>(product(simd, rows, right), out, layout.product);
                    }
                }
            }
        }
    }

    /// `Aᵀ m A` of the products of a tile, into the image.
    #[inline(always)]
    fn transform_product<S: Simd, F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
        &mut self,
        simd: S,
        tile: Tile,
        index: usize,
        layout: Layout,
        work: &Work,
    ) {
        let Shape { outputs, output: [height, width], .. } = self.shape;
        let top = tile.image * height + tile.row * OUT - self.shape.above(self.part.rows.start);
        let [rows, columns] = [height - tile.row * OUT, width - tile.column * OUT].map(|left| left.min(OUT));
        for first in (0..outputs).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(outputs - first);
            let mut turned = [[simd.splat_f32s(0.0); TILE]; OUT];
            for column in 0..TILE {
                let mut line = [simd.splat_f32s(0.0); TILE];
                for (row, element) in line.iter_mut().enumerate() {
                    let place = (row * TILE + column) * layout.products + index * layout.product + first;
                    *element = load(simd, &work.products[place..][..S::F32_LANES]);
                }
                for (turned, value) in turned.iter_mut().zip(F::Output::line(simd, line)) {
                    turned[column] = value;
                }
            }
            let bias = match self.part.bias.get(first..first + lanes) {
                Some(bias) => load(simd, bias),
                None => simd.splat_f32s(0.0),
            };
            for (row, turned) in turned.into_iter().enumerate().take(rows) {
                let line = F::Output::line(simd, turned);
                for (column, value) in line.into_iter().enumerate().take(columns) {
                    let place = ((top + row) * width + tile.column * OUT + column) * outputs + first;
                    store(simd, &mut self.part.y[place..][..lanes], simd.add_f32s(value, bias));
                }
            }
        }
        for row in top..top + rows {
            let first = (row * width + tile.column * OUT) * outputs;
            self.part.finish(first..first + columns * outputs);
        }
    }
}

/// Transforms what is seen of some channels, a whole vector or less, into places that lie so far apart.
#[inline(always)]
fn transform_channels<S: Simd, T: Transform<TILE, TILE>, const TILE: usize, const WHOLE: bool>(
    simd: S,
    seen: &[[&[f32]; TILE]; TILE],
    own: Range<usize>,
    out: &mut [f32],
    apart: usize,
) {
    let mut turned = [[simd.splat_f32s(0.0); TILE]; TILE];
    for column in 0..TILE {
        let mut line = [simd.splat_f32s(0.0); TILE];
        for (element, seen) in line.iter_mut().zip(seen) {
            *element = part::<S, WHOLE>(simd, seen[column], &own);
        }
        for (turned, value) in turned.iter_mut().zip(T::line(simd, line)) {
            turned[column] = value;
        }
    }
    for (row, turned) in turned.into_iter().enumerate() {
        for (column, value) in T::line(simd, turned).into_iter().enumerate() {
            store(simd, &mut out[(row * TILE + column) * apart..][..S::F32_LANES], value);
        }
    }
}

/// Writes products into rows that lie so far apart.
#[inline(always)]
fn keep<S: Simd, const R: usize, const V: usize>(sums: [[S::f32s; V]; R], out: &mut [f32], apart: usize) {
    for (out, sums) in out.chunks_mut(apart).zip(&sums) {
        S::as_mut_simd_f32s(&mut out[..V * S::F32_LANES]).0.copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::images::Left;
    use crate::kernels::winograd::TAPS;
    use crate::kernels::{all, numbers};
    use proptest::prelude::*;

    /// Sums over taps in float64.
    fn plain(shape: &Shape, images: usize, x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
        let Shape { channels, outputs, input: [h, w], pads, output: [height, width], .. } = *shape;
        let mut y = vec![];
        for place in 0..images * height * width * outputs {
            let (image, output) = (place / (outputs * height * width), place % outputs);
            let (row, column) = (place / (outputs * width) % height, place / outputs % width);
            let mut sum = f64::from(bias.get(output).copied().unwrap_or(0.0));
            for term in 0..channels * TAPS * TAPS {
                let (channel, tap) = (term / (TAPS * TAPS), term % (TAPS * TAPS));
                let (i, j) = ((row + tap / TAPS).wrapping_sub(pads[0]), (column + tap % TAPS).wrapping_sub(pads[1]));
                if i < h && j < w {
                    let x = x[((image * h + i) * w + j) * channels + channel];
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
        fn as_sums_over_taps(images in 1usize..5, channels in 1usize..70, outputs in 1usize..40, input in [1usize..16, 1usize..16],
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
                let all = images * shape.tiles()[0];
                for _ in 0..2 {
                    let (kernel, bias, work) = (&kernel[..], &bias[..], &mut work);
                    let part = Part { rows: 0..all, x: &x, bias, added: None, left: Left::All, y: &mut y };
                    arch.dispatch(Images { shape, kernel, part, work });
                }
                // What follows is what it would be by itself.
                let (other, seen) = (numbers(y.len(), 4), numbers(y.len(), 5));
                let mut followed = y.clone();
                for left in [Left::All, Left::Positive, Left::Where(&seen)] {
                    let (kernel, bias, added, work) = (&kernel[..], &bias[..], Some(&other[..]), &mut work);
                    let part = Part { rows: 0..all, x: &x, bias, added, left, y: &mut followed };
                    arch.dispatch(Images { shape, kernel, part, work });
                    for (i, found) in followed.iter().enumerate() {
                        let sum = y[i] + other[i];
                        let kept = match left {
                            Left::All => true,
                            Left::Positive => sum > 0.0,
                            Left::Where(seen) => seen[i] > 0.0,
                        };
                        prop_assert_eq!(*found, if kept { sum } else { 0.0 });
                    }
                }
                // Some rows are the same bits.
                let rows = all / 3..all - all / 4;
                let own = [rows.start, rows.end].map(|row| shape.above(row) * output[1] * outputs);
                let mut some = vec![f32::NAN; own[1] - own[0]];
                let (kernel, bias, work) = (&kernel[..], &bias[..], &mut work);
                let part = Part { rows, x: &x, bias, added: None, left: Left::All, y: &mut some };
                arch.dispatch(Images { shape, kernel, part, work });
                prop_assert!(y[own[0]..own[1]] == some);
                for (y, expected) in y.iter().zip(&expected) {
                    let error = (f64::from(*y) - expected).abs();
                    prop_assert!(error <= tolerance * largest, "{arch:?}: {y}, expected {expected}, largest {largest}");
                }
            }
        }
    }
}
