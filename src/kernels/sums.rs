//! Sums of rows.

use pulp::{Simd, WithSimd};

/// Rows that are added up in float32 at a time, which keeps rounding small.
pub(crate) const ROWS: usize = 256;

/// The sum of up to [`ROWS`] rows.
pub(crate) struct Rows<'a> {
    pub rows: &'a [f32],
    /// One row, `[width]`.
    pub sum: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Rows { rows, sum } = self;
        let width = sum.len();
        sum.fill(0.0);
        let fours = rows.chunks_exact(4 * width);
        let rest = fours.remainder().chunks_exact(width);
        for four in fours {
            let (ab, cd) = four.split_at(2 * width);
            let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
            for ((((sum, a), b), c), d) in sum.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum += (a + b) + (c + d);
            }
        }
        rest.for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{all, numbers};

    #[test]
    fn as_one_by_one() {
        for (count, width) in [(1, 16), (4, 49), (7, 33), (256, 96)] {
            let rows = numbers(count * width, 3);
            for arch in all() {
                let mut sum = vec![f32::NAN; width];
                arch.dispatch(Rows { rows: &rows, sum: &mut sum });
                for (column, sum) in sum.into_iter().enumerate() {
                    let expected: f64 = rows.iter().skip(column).step_by(width).map(|&x| f64::from(x)).sum();
                    assert!(
                        (f64::from(sum) - expected).abs() <= 1e-5,
                        "{count} rows of {width}: {sum}, expected {expected}"
                    );
                }
            }
        }
    }
}
