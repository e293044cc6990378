//! Convolutions of images, each channel with a kernel of its own, at all places one apart. Images have their channels last:
//! a vector holds neighbouring channels of one place.

use super::images::place;
use super::registers::{part, store};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Results of a line that are added up at a time.
const BLOCK: usize = 8;
/// Taps across, at most, and the places that they reach then.
const MOST: usize = 7;
const REACH: usize = BLOCK + MOST - 1;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub channels: usize,
    /// Taps down and across; across 3, 5 or 7.
    pub taps: [usize; 2],
    /// Height and width.
    pub input: [usize; 2],
    /// Zeros above and left of the image.
    pub pads: [usize; 2],
    pub output: [usize; 2],
}

/// Computes some lines of the results of some images.
pub(crate) struct Lines<'a> {
    pub shape: Shape,
    /// Of all images one after the other.
    pub lines: Range<usize>,
    /// `[images, height, width, channels]`, of all images.
    pub x: &'a [f32],
    /// `[taps down, taps across, channels]`
    pub kernel: &'a [f32],
    /// One number for each channel, or none at all.
    pub bias: &'a [f32],
    /// `[lines, width, channels]`
    pub y: &'a mut [f32],
}

impl WithSimd for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.shape.taps[1] {
            3 => self.run::<S, 3>(simd),
            5 => self.run::<S, 5>(simd),
            MOST => self.run::<S, MOST>(simd),
            _ => {}
        }
    }
}

impl Lines<'_> {
    #[inline(always)]
    fn run<S: Simd, const TAPS: usize>(mut self, simd: S) {
        let Shape { channels, taps, input, pads: [above, left], output } = self.shape;
        let size = input[0] * input[1] * channels;
        let zeros = vec![0.0; channels];
        // What the taps see of each line of the image.
        let mut seen: Vec<[&[f32]; REACH]> = vec![[&zeros; REACH]; taps[0]];
        for (index, line) in self.lines.clone().enumerate() {
            let image = &self.x[line / output[0] * size..][..size];
            for start in (0..output[1]).step_by(BLOCK) {
                for (i, seen) in seen.iter_mut().enumerate() {
                    let row = (line % output[0] + i).wrapping_sub(above);
                    for (j, seen) in seen.iter_mut().enumerate().take(BLOCK + TAPS - 1) {
                        let column = (start + j).wrapping_sub(left);
                        *seen = place(image, input, [row, column], &zeros);
                    }
                }
                let count = BLOCK.min(output[1] - start);
                let out = (index * output[1] + start) * channels;
                self.block::<S, TAPS>(simd, &seen, out..out + count * channels);
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const TAPS: usize>(&mut self, simd: S, seen: &[[&[f32]; REACH]], out: Range<usize>) {
        let channels = self.shape.channels;
        let whole = channels - channels % S::F32_LANES;
        for first in (0..whole).step_by(S::F32_LANES) {
            self.vector::<S, TAPS, true>(simd, seen, out.clone(), first..first + S::F32_LANES);
        }
        if whole < channels {
            self.vector::<S, TAPS, false>(simd, seen, out, whole..channels);
        }
    }

    /// Some channels of some results, a whole vector or less.
    #[inline(always)]
    fn vector<S: Simd, const TAPS: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        seen: &[[&[f32]; REACH]],
        out: Range<usize>,
        own: Range<usize>,
    ) {
        let channels = self.shape.channels;
        let mut sums = [simd.splat_f32s(0.0); BLOCK];
        if !self.bias.is_empty() {
            sums.fill(part::<S, WHOLE>(simd, self.bias, &own));
        }
        for (seen, kernel) in seen.iter().zip(self.kernel.chunks_exact(TAPS * channels)) {
            let mut taps = [simd.splat_f32s(0.0); TAPS];
            let mut places = [simd.splat_f32s(0.0); REACH];
            for (tap, kernel) in taps.iter_mut().zip(kernel.chunks_exact(channels)) {
                *tap = part::<S, WHOLE>(simd, kernel, &own);
            }
            for (place, seen) in places.iter_mut().zip(seen).take(BLOCK + TAPS - 1) {
                *place = part::<S, WHOLE>(simd, seen, &own);
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                for (tap, &weight) in taps.iter().enumerate() {
                    *sum = simd.mul_add_f32s(places[i + tap], weight, *sum);
                }
            }
        }
        for (out, sum) in self.y[out].chunks_exact_mut(channels).zip(sums) {
            store(simd, &mut out[own.clone()], sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{all, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_sums_over_taps(images in 1usize..4, channels in 1usize..40, down in 1usize..8, across in 1usize..4,
                             input in [1usize..20, 1usize..20], pads in [0usize..4, 0usize..4],
                             more in [0usize..4, 0usize..4], biased: bool) {
            let taps = [down, 2 * across + 1];
            let output = [0, 1].map(|i| (input[i] + pads[i] + more[i] + 1).saturating_sub(taps[i]));
            prop_assume!(output[0] > 0 && output[1] > 0);
            let shape = Shape { channels, taps, input, pads, output };
            let x = numbers(images * input[0] * input[1] * channels, 1);
            let kernel = numbers(taps[0] * taps[1] * channels, 2);
            let bias = numbers(if biased { channels } else { 0 }, 3);
            let expected = |place: usize| {
                let (channel, column) = (place % channels, place / channels % output[1]);
                let (image, row) = (place / channels / output[1] / output[0], place / channels / output[1] % output[0]);
                let mut sum = f64::from(bias.get(channel).copied().unwrap_or(0.0));
                for tap in 0..taps[0] * taps[1] {
                    let [i, j] = [row + tap / taps[1], column + tap % taps[1]];
                    let (i, j) = (i.wrapping_sub(pads[0]), j.wrapping_sub(pads[1]));
                    if i < input[0] && j < input[1] {
                        let x = x[((image * input[0] + i) * input[1] + j) * channels + channel];
                        sum += f64::from(x) * f64::from(kernel[tap * channels + channel]);
                    }
                }
                sum
            };
            let all_lines = images * output[0];
            for arch in all() {
                // Some lines alone are the same.
                for lines in [0..all_lines, all_lines / 3..all_lines - all_lines / 4] {
                    let (size, first) = (output[1] * channels, lines.start * output[1] * channels);
                    let mut y = vec![f32::NAN; lines.len() * size];
                    arch.dispatch(Lines { shape, lines, x: &x, kernel: &kernel, bias: &bias, y: &mut y });
                    for (place, y) in y.iter().enumerate() {
                        let expected = expected(first + place);
                        prop_assert!((f64::from(*y) - expected).abs() < 2e-5, "{arch:?}: {y}, expected {expected}");
                    }
                }
            }
        }
    }
}
