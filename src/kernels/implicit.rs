//! Convolutions of images as products of matrices (implicit GEMM), in single precision: a row holds what a result sees of
//! an image through its taps, and is made when it is needed. Images have their channels last, so that what one tap sees
//! lies together.

mod phases;

pub(crate) use phases::{Phase, Shape, Taps, convolution, transposed};

use super::images::{Part, place};
use super::memory::Memory;
use super::product::product;
use super::registers::{FEW, MANY, load, store};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Bytes of rows and results that are in the works at a time: part of a cache of the second level.
const CACHED: usize = 1 << 19;
/// Rows in the works at a time, at least, in rows of registers: they share what is read of the kernel.
const FEWEST: usize = 4;
/// Bytes of a kernel, at most, that stays in the cache itself: results are then finished while they are in the first level.
const SMALL: usize = 1 << 18;
/// Panels of a kernel, at most, for which a row is read where it lies, and the channels of such a row: more of them lie a
/// period of the cache apart.
const PANELS: usize = 4;
const CHANNELS: usize = 512;

/// Memory for what is in the works.
#[derive(Default)]
pub(crate) struct Work {
    zeros: Vec<f32>,
    rows: Memory,
    places: Vec<Place>,
}

/// A result.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    /// Where a tap at 0 lies.
    at: [usize; 2],
    /// Where its outputs begin.
    out: usize,
}

impl Place {
    /// What it sees of the images through a tap.
    #[inline(always)]
    fn seen<'s>(&self, shape: &Shape, x: &'s [f32], tap: &[isize; 2], zeros: &'s [f32]) -> &'s [f32] {
        let size = shape.input[0] * shape.input[1] * shape.channels;
        let at = [0, 1].map(|i| self.at[i].wrapping_add_signed(tap[i]));
        place(&x[self.image * size..][..size], shape.input, at, zeros)
    }
}

/// Computes some lines of the results of some images.
pub(crate) struct Lines<'a> {
    pub shape: Shape,
    pub phases: &'a [Phase],
    /// Its rows are lines.
    pub part: Part<'a>,
    pub work: &'a mut Work,
}

impl WithSimd for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.run::<S, MANY>(simd) } else { self.run::<S, FEW>(simd) }
    }
}

impl Lines<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(mut self, simd: S) {
        let mut work = std::mem::take(self.work);
        work.zeros.resize(self.shape.channels, 0.0);
        for phase in self.phases {
            self.phase::<S, R>(simd, phase, &mut work);
        }
        *self.work = work;
    }

    #[inline(always)]
    fn phase<S: Simd, const R: usize>(&mut self, simd: S, phase: &Phase, work: &mut Work) {
        let Shape { channels, outputs, .. } = self.shape;
        // Not a multiple of the cache's period.
        let apart = (phase.taps.len() * channels).next_multiple_of(S::F32_LANES) + S::F32_LANES;
        self.places(phase, &mut work.places);
        let fit = CACHED / ((apart + outputs) * size_of::<f32>()) / R;
        let fit = if size_of_val(&phase.kernel[..]) <= SMALL { 1 } else { fit.max(FEWEST) };
        let blocks = work.places.len().div_ceil(fit * R).max(1);
        let at_once = work.places.len().div_ceil(blocks).next_multiple_of(R).max(R);
        work.rows.resize((at_once * apart).max(work.rows.len()));
        let (shape, x) = (self.shape, self.part.x);
        let (places, rows, zeros) = (&work.places, &mut work.rows, &work.zeros[..]);
        // What one tap sees is a row as it is.
        let only = phase.taps.first().filter(|_| phase.taps.len() == 1);
        let is_read_seldom = outputs <= PANELS * 2 * S::F32_LANES && channels <= CHANNELS;
        for own in places.chunks(at_once) {
            if let (Some(tap), true) = (only, is_read_seldom) {
                let row = |index: usize| own.get(index).map_or(zeros, |result| result.seen(&shape, x, tap, zeros));
                multiply::<S, R>(simd, phase, shape, own, row, self.part.bias, self.part.y);
            } else {
                for (result, row) in own.iter().zip(rows.chunks_exact_mut(apart)) {
                    for (tap, row) in phase.taps.iter().zip(row.chunks_exact_mut(channels)) {
                        row.copy_from_slice(result.seen(&shape, x, tap, zeros));
                    }
                }
                let row = |index: usize| &rows[index * apart..];
                multiply::<S, R>(simd, phase, shape, own, row, self.part.bias, self.part.y);
            }
            for place in own {
                self.part.finish(place.out..place.out + outputs);
            }
        }
    }

    /// The results of a phase.
    #[inline(always)]
    fn places(&self, phase: &Phase, places: &mut Vec<Place>) {
        let [height, width] = self.shape.output;
        places.clear();
        for (index, line) in self.part.rows.clone().enumerate() {
            let (image, row) = (line / height, line % height);
            let Some(row) = row.checked_sub(phase.first[0]) else { continue };
            if row % phase.apart[0] != 0 {
                continue;
            }
            let down = row / phase.apart[0] * phase.step[0];
            for (count, column) in (phase.first[1]..width).step_by(phase.apart[1]).enumerate() {
                let at = [down, count * phase.step[1]];
                places.push(Place { image, at, out: (index * width + column) * self.shape.outputs });
            }
        }
    }
}

/// What results are of the rows that they see.
#[inline(always)]
fn multiply<'r, S: Simd, const R: usize>(
    simd: S,
    phase: &Phase,
    shape: Shape,
    own: &[Place],
    row: impl Fn(usize) -> &'r [f32],
    bias: &[f32],
    y: &mut [f32],
) {
    let (depth, outputs) = (phase.taps.len() * shape.channels, shape.outputs);
    let kernel = S::as_simd_f32s(&phase.kernel).0;
    for first in (0..outputs).step_by(2 * S::F32_LANES) {
        let vectors = (outputs - first).div_ceil(S::F32_LANES).min(2);
        let right = &kernel[first / S::F32_LANES * depth..][..vectors * depth];
        if vectors == 2 {
            panel::<S, R, 2>(simd, right, own, &row, first..outputs, bias, y);
        } else {
            panel::<S, R, 1>(simd, right, own, &row, first..outputs, bias, y);
        }
    }
}

/// As many outputs as a panel of `V` vectors gives, from the first one on.
#[inline(always)]
fn panel<'r, S: Simd, const R: usize, const V: usize>(
    simd: S,
    right: &[S::f32s],
    own: &[Place],
    row: &impl Fn(usize) -> &'r [f32],
    outputs: Range<usize>,
    bias: &[f32],
    y: &mut [f32],
) {
    for (index, places) in own.chunks(R).enumerate() {
        let rows = std::array::from_fn(|r| &row(index * R + r)[..right.len() / V]);
        keep::<S, R, V>(simd, product(simd, rows, right), places, outputs.clone(), bias, y);
    }
}

/// Keeps what was computed of some outputs of some results.
#[inline(always)]
fn keep<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: [[S::f32s; V]; R],
    places: &[Place],
    own: Range<usize>,
    bias: &[f32],
    y: &mut [f32],
) {
    let width = V * S::F32_LANES;
    let own = own.start..own.end.min(own.start + width);
    let mut shift = [simd.splat_f32s(0.0); V];
    if !bias.is_empty() {
        for (shift, bias) in shift.iter_mut().zip(bias[own.clone()].chunks(S::F32_LANES)) {
            *shift = load(simd, bias);
        }
    }
    for (place, sums) in places.iter().zip(sums) {
        let out = &mut y[place.out..][own.clone()];
        for ((out, sum), shift) in out.chunks_mut(S::F32_LANES).zip(sums).zip(shift) {
            store(simd, out, simd.add_f32s(sum, shift));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::images::Left;
    use crate::kernels::{all, numbers};
    use proptest::prelude::*;

    /// What a convolution, or a transposed one, of weights `[output, channel, tap]` gives, in float64.
    fn plain(shape: &Shape, taps: &Taps, backwards: bool, images: usize, [x, weights, bias]: [&[f32]; 3]) -> Vec<f64> {
        let Shape { channels, outputs, input, output } = *shape;
        let count = taps.kernel[0] * taps.kernel[1];
        let initial = |place: usize| f64::from(bias.get(place % outputs).copied().unwrap_or(0.0));
        let mut y: Vec<f64> = (0..images * output[0] * output[1] * outputs).map(initial).collect();
        // From the larger side through a tap to the smaller one.
        let (small, large) = if backwards { (input, output) } else { (output, input) };
        for place in 0..images * small[0] * small[1] * count {
            let (image, tap) = (place / count / (small[0] * small[1]), place % count);
            let at = [place / count / small[1] % small[0], place / count % small[1]];
            let tap_at = [tap / taps.kernel[1], tap % taps.kernel[1]];
            let other =
                [0, 1].map(|i| (at[i] * taps.strides[i] + tap_at[i] * taps.dilations[i]) as isize - taps.pads[i]);
            if [0, 1].iter().any(|&i| other[i] < 0 || other[i] >= large[i] as isize) {
                continue;
            }
            let other = other.map(|i| i as usize);
            let (from, to) = if backwards { (at, other) } else { (other, at) };
            for output_ in 0..outputs {
                for channel in 0..channels {
                    let x = x[((image * input[0] + from[0]) * input[1] + from[1]) * channels + channel];
                    let weight = weights[(output_ * channels + channel) * count + tap];
                    y[((image * output[0] + to[0]) * output[1] + to[1]) * outputs + output_] +=
                        f64::from(x) * f64::from(weight);
                }
            }
        }
        y
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_sums_over_taps(images in 1usize..4, channels in 1usize..70, outputs in 1usize..150, input in [1usize..12, 1usize..12],
                             kernel in [1usize..4, 1usize..4], strides in [1usize..4, 1usize..4],
                             dilations in [1usize..3, 1usize..3], pads in [-1isize..3, -1isize..3],
                             more in [0usize..3, 0usize..3], biased: bool, backwards: bool, one: bool) {
            let kernel = if one { [1; 2] } else { kernel };
            let taps = Taps { kernel, strides, dilations, pads };
            let output = [0, 1].map(|i| {
                let reach = (dilations[i] * (kernel[i] - 1)) as isize + 1;
                let size = match backwards {
                    true => ((input[i] - 1) * strides[i]) as isize + reach - pads[i],
                    false => (input[i] as isize + pads[i] - reach) / strides[i] as isize + 1,
                };
                (size + more[i] as isize).clamp(0, 24) as usize
            });
            prop_assume!(output[0] > 0 && output[1] > 0);
            let shape = Shape { channels, outputs, input, output };
            let x = numbers(images * input[0] * input[1] * channels, 1);
            let weights = numbers(outputs * channels * kernel[0] * kernel[1], 2);
            let bias = numbers(if biased { outputs } else { 0 }, 3);
            let expected = plain(&shape, &taps, backwards, images, [&x, &weights, &bias]);
            let (other, seen) = (numbers(expected.len(), 4), numbers(expected.len(), 5));
            let weight = |[output, channel, tap]: [usize; 3]| weights[(output * channels + channel) * kernel[0] * kernel[1] + tap];
            let line = output[1] * outputs;
            let all_lines = images * output[0];
            for arch in all() {
                let phases = match backwards {
                    true => transposed(arch, &shape, &taps, weight),
                    false => convolution(arch, &shape, &taps, weight),
                };
                let mut work = Work::default();
                let mut run = |lines: Range<usize>, added: Option<&[f32]>, left: Left| {
                    let own = lines.start * line..lines.end * line;
                    let mut y = vec![f32::NAN; own.len()];
                    let (added, left) = (added.map(|added| &added[own.clone()]), left.of(own));
                    let part = Part { rows: lines, x: &x, bias: &bias, added, left, y: &mut y };
                    arch.dispatch(Lines { shape, phases: &phases, part, work: &mut work });
                    y
                };
                let y = run(0..all_lines, None, Left::All);
                for (y, expected) in y.iter().zip(&expected) {
                    prop_assert!((f64::from(*y) - expected).abs() <= 5e-5, "{arch:?}: {y}, expected {expected}");
                }
                // Some lines alone are the same bits, and what follows is what it would be by itself.
                let lines = all_lines / 3..all_lines - all_lines / 4;
                for (left, added) in [(Left::All, false), (Left::Positive, true), (Left::Where(&seen), false), (Left::Where(&seen), true)] {
                    let found = run(lines.clone(), added.then_some(&other[..]), left);
                    for (i, found) in (lines.start * line..).zip(&found) {
                        let sum = if added { y[i] + other[i] } else { y[i] };
                        let kept = match left {
                            Left::All => true,
                            Left::Positive => sum > 0.0,
                            Left::Where(seen) => seen[i] > 0.0,
                        };
                        prop_assert_eq!(*found, if kept { sum } else { 0.0 });
                    }
                }
            }
        }
    }

    /// Kernels of all sizes, in the cache and beyond, and rows that are read where they lie or not.
    #[test]
    fn as_sums_of_long_rows() {
        let arch = pulp::Arch::new();
        for (channels, outputs) in [(512, 128), (513, 33), (512, 140), (640, 200)] {
            let shape = Shape { channels, outputs, input: [5, 9], output: [5, 9] };
            let taps = Taps { kernel: [1; 2], strides: [1; 2], dilations: [1; 2], pads: [0; 2] };
            let (x, weights) = (numbers(2 * 45 * channels, 1), numbers(outputs * channels, 2));
            let expected = plain(&shape, &taps, false, 2, [&x, &weights, &[]]);
            let phases =
                &convolution(arch, &shape, &taps, |[output, channel, _]| weights[output * channels + channel])[..];
            let mut y = vec![f32::NAN; expected.len()];
            let part = Part { rows: 0..10, x: &x, bias: &[], added: None, left: Left::All, y: &mut y };
            arch.dispatch(Lines { shape, phases, part, work: &mut Work::default() });
            assert!(y.iter().zip(&expected).all(|(y, expected)| (f64::from(*y) - expected).abs() < 2e-4));
        }
    }
}
