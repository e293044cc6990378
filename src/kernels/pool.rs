//! The largest elements of windows of a plane, and where they are.

use pulp::{Simd, WithSimd};

/// Windows over planes of two axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Windows {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Places above and left of the plane that windows begin at.
    pub pads: [usize; 2],
    pub input: [usize; 2],
    pub output: [usize; 2],
}

impl Windows {
    /// Places that a window reaches over.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Where a tap of a window lies, if it lies in the plane.
    fn place(&self, axis: usize, window: usize, tap: usize) -> Option<usize> {
        let place = (window * self.strides[axis] + tap * self.dilations[axis]).checked_sub(self.pads[axis])?;
        (place < self.input[axis]).then_some(place)
    }

    /// The first element of a window.
    fn first(&self, window: [usize; 2]) -> usize {
        let [i, j] = [0, 1].map(|a| (0..self.kernel[a]).find_map(|tap| self.place(a, window[a], tap)).unwrap_or(0));
        i * self.input[1] + j
    }
}

/// Elements of a plane whose places are exact as numbers in float32.
pub(crate) const MOST: usize = 1 << 24;

/// Finds the first of the largest elements of each window of one plane of less than [`MOST`] elements.
pub(crate) struct Maxima<'a> {
    pub windows: Windows,
    pub plane: &'a [f32],
    pub largest: &'a mut [f32],
    /// Their places, counted from `base` on, row by row.
    pub places: &'a mut [i64],
    pub base: i64,
}

impl WithSimd for Maxima<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let windows = &self.windows;
        let ([_, width], [_, across], stride) = (windows.input, windows.output, windows.strides[1]);
        let vectors = across.div_ceil(S::F32_LANES);
        // Each line taken apart by its columns modulo the stride, with less than all numbers around it.
        let length = vectors * S::F32_LANES + windows.reach(1).div_ceil(stride);
        let mut apart = vec![f32::NEG_INFINITY; windows.input[0] * stride * length];
        for (line, apart) in self.plane.chunks_exact(width).zip(apart.chunks_exact_mut(stride * length)) {
            for (phase, apart) in apart.chunks_exact_mut(length).enumerate() {
                // The first column that lies so far from a multiple of the stride, padding counted.
                let column = (phase + stride - windows.pads[1] % stride) % stride;
                let seen = line.get(column..).unwrap_or_default().iter().step_by(stride);
                let apart = apart.get_mut((column + windows.pads[1]) / stride..).unwrap_or_default();
                apart.iter_mut().zip(seen).for_each(|(apart, &x)| *apart = x);
            }
        }
        let columns: Vec<f32> = (0..vectors * S::F32_LANES).map(|i| (i * stride) as f32).collect();
        let (mut row, mut at) = (vec![0.0; columns.len()], vec![0.0; columns.len()]);
        let results = self.largest.chunks_exact_mut(across).zip(self.places.chunks_exact_mut(across));
        for (down, (largest, places)) in results.enumerate() {
            let taps = S::as_mut_simd_f32s(&mut row).0.iter_mut().zip(S::as_mut_simd_f32s(&mut at).0);
            let columns = S::as_simd_f32s(&columns).0;
            for (vector, ((row, at), &columns)) in taps.zip(columns).enumerate() {
                let (mut best, mut best_at) = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_f32s(-1.0));
                for i in 0..windows.kernel[0] {
                    let Some(line) = windows.place(0, down, i) else { continue };
                    for j in 0..windows.kernel[1] {
                        let ahead = j * windows.dilations[1];
                        let start = (line * stride + ahead % stride) * length + ahead / stride;
                        let seen = &apart[start + vector * S::F32_LANES..][..S::F32_LANES];
                        let x = S::as_simd_f32s(seen).0[0];
                        let place = (line * width + ahead) as f32 - windows.pads[1] as f32;
                        let place = simd.add_f32s(columns, simd.splat_f32s(place));
                        let larger = simd.greater_than_f32s(x, best);
                        best = simd.select_f32s(larger, x, best);
                        best_at = simd.select_f32s(larger, place, best_at);
                    }
                }
                (*row, *at) = (best, best_at);
            }
            largest.copy_from_slice(&row[..across]);
            for (column, (place, &at)) in places.iter_mut().zip(&at).enumerate() {
                // Nothing is larger than the least of all numbers.
                let at = if at < 0.0 { windows.first([down, column]) as i64 } else { at as i64 };
                *place = self.base + at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{all, numbers};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_one_by_one(kernel in [1usize..5, 1usize..5], strides in [1usize..4, 1usize..4], dilations in [1usize..3, 1usize..3],
                         pads in [0usize..3, 0usize..3], input in [1usize..40, 1usize..40], more in [0usize..3, 0usize..3]) {
            let reach = |a: usize| (kernel[a] - 1) * dilations[a] + 1;
            prop_assume!((0..2).all(|a| input[a] + pads[a] + more[a] >= reach(a)));
            let output = [0, 1].map(|a| (input[a] + pads[a] + more[a] - reach(a)) / strides[a] + 1);
            let windows = Windows { kernel, strides, dilations, pads, input, output };
            // Few numbers, so that some are equal.
            let few = |x: f32| if x < -0.6 { f32::NEG_INFINITY } else { (4.0 * x).round() };
            let plane: Vec<f32> = numbers(input[0] * input[1], 1).into_iter().map(few).collect();
            for arch in all() {
                let (mut largest, mut places) = (vec![0.0; output[0] * output[1]], vec![0; output[0] * output[1]]);
                arch.dispatch(Maxima { windows, plane: &plane, largest: &mut largest, places: &mut places, base: 1000 });
                for (number, (largest, place)) in largest.into_iter().zip(places).enumerate() {
                    let corner = [number / output[1], number % output[1]];
                    let taps = (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| [i, j]));
                    let seen = taps.filter_map(|tap| {
                        let [i, j] = [0, 1].map(|a| (corner[a] * strides[a] + tap[a] * dilations[a]).wrapping_sub(pads[a]));
                        (i < input[0] && j < input[1]).then_some(i * input[1] + j)
                    });
                    // A window that lies in the padding sees nothing.
                    let best = seen.reduce(|best, at| if plane[at] > plane[best] { at } else { best });
                    if let Some(best) = best {
                        prop_assert_eq!((plane[best], 1000 + best as i64), (largest, place));
                    }
                }
            }
        }
    }
}
