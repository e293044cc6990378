//! The gradient of a normalisation of rows.

use pulp::{Simd, WithSimd};

/// For each row, with `g = dy scale`: `dx = rate (g - mean(g) - normal mean(g normal))`.
pub(crate) struct Rows<'a> {
    /// `[rows, width]`
    pub dy: &'a [f32],
    /// `[width]`
    pub scale: &'a [f32],
    /// `(x - mean(x)) rate`, `[rows, width]`
    pub normal: &'a [f32],
    /// One over the standard deviation of each row, `[rows]`
    pub rate: &'a [f32],
    /// `[rows, width]`
    pub dx: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.scale.len();
        let (scale, scale_rest) = S::as_simd_f32s(self.scale);
        let share = simd.splat_f32s(1.0 / width as f32);
        let rows = self.dy.chunks_exact(width).zip(self.normal.chunks_exact(width)).zip(self.rate);
        for (((dy, normal), &rate), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let ((dy, dy_rest), (normal, normal_rest)) = (S::as_simd_f32s(dy), S::as_simd_f32s(normal));
            let (dx, dx_rest) = S::as_mut_simd_f32s(dx);
            let last = [dy_rest, scale_rest, normal_rest];
            let last =
                [simd.partial_load_f32s(last[0]), simd.partial_load_f32s(last[1]), simd.partial_load_f32s(last[2])];
            // Two sums of each kind, so that no addition waits for the one before.
            let mut sums = [[simd.splat_f32s(0.0); 2]; 2];
            for (i, ((&dy, &scale), &normal)) in dy.iter().zip(scale).zip(normal).enumerate() {
                add(simd, [dy, scale, normal], &mut sums[i & 1]);
            }
            if !dx_rest.is_empty() {
                add(simd, last, &mut sums[0]);
            }
            let mean = simd.reduce_sum_f32s(simd.add_f32s(sums[0][0], sums[1][0]));
            let along = simd.reduce_sum_f32s(simd.add_f32s(sums[0][1], sums[1][1]));
            let mean = simd.mul_f32s(simd.splat_f32s(mean), share);
            let along = simd.mul_f32s(simd.splat_f32s(along), share);
            let rate = simd.splat_f32s(rate);
            for (dx, ((&dy, &scale), &normal)) in dx.iter_mut().zip(dy.iter().zip(scale).zip(normal)) {
                *dx = projected(simd, [dy, scale, normal], mean, along, rate);
            }
            if !dx_rest.is_empty() {
                simd.partial_store_f32s(dx_rest, projected(simd, last, mean, along, rate));
            }
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, [dy, scale, normal]: [S::f32s; 3], [mean, along]: &mut [S::f32s; 2]) {
    let g = simd.mul_f32s(dy, scale);
    *mean = simd.add_f32s(*mean, g);
    *along = simd.mul_add_f32s(g, normal, *along);
}

#[inline(always)]
fn projected<S: Simd>(
    simd: S,
    [dy, scale, normal]: [S::f32s; 3],
    mean: S::f32s,
    along: S::f32s,
    rate: S::f32s,
) -> S::f32s {
    let rest = simd.sub_f32s(simd.mul_f32s(dy, scale), mean);
    simd.mul_f32s(rate, simd.sub_f32s(rest, simd.mul_f32s(normal, along)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{all, numbers};

    #[test]
    fn as_its_formula() {
        for (rows, width) in [(3, 1), (5, 16), (4, 96), (7, 101)] {
            let size = rows * width;
            let (dy, normal) = (numbers(size, 1), numbers(size, 2));
            let (scale, rate) = (numbers(width, 3), numbers(rows, 4));
            for arch in all() {
                let mut dx = vec![f32::NAN; size];
                arch.dispatch(Rows { dy: &dy, scale: &scale, normal: &normal, rate: &rate, dx: &mut dx });
                for (row, dx) in dx.chunks(width).enumerate() {
                    let own = |i: usize| row * width + i;
                    let g = |i: usize| f64::from(dy[own(i)]) * f64::from(scale[i]);
                    let n = |i: usize| f64::from(normal[own(i)]);
                    let mean = (0..width).map(g).sum::<f64>() / width as f64;
                    let along = (0..width).map(|i| g(i) * n(i)).sum::<f64>() / width as f64;
                    for (i, &dx) in dx.iter().enumerate() {
                        let expected = f64::from(rate[row]) * (g(i) - mean - n(i) * along);
                        assert!(
                            (f64::from(dx) - expected).abs() < 1e-6,
                            "{rows} × {width}, {i}: {dx}, expected {expected}"
                        );
                    }
                }
            }
        }
    }
}
