//! The sums of panels on their way to the total.

use crate::autograd::Power;
use crate::kernels::memory::Memory;
use ndarray::ArrayViewMut2;
use pulp::{Simd, WithSimd};

/// Adds the sums of neighbouring panels to their piece of the rows of a weight: a loop that is compiled for the
/// processor's vectors, as most of its time passes in waiting for rows that lie far apart.
pub(super) struct Flush<'a> {
    /// Of each panel, `[left panel, tap, row, column]`.
    pub sums: &'a [Memory],
    /// Rows of a left panel.
    pub left: usize,
    pub taps: usize,
    /// Columns of each panel but the last.
    pub columns: usize,
    /// What is taken of each sum.
    pub after: Power,
    /// `[row, (column, tap)]`
    pub rows: ArrayViewMut2<'a, f64>,
}

impl WithSimd for Flush<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Flush { sums, left, taps, columns, after, mut rows } = self;
        let of_left = left * taps * rows.nrows().div_ceil(left);
        let mut turned = vec![0.0; if taps > 1 { columns * taps } else { 0 }];
        for (row, total) in rows.outer_iter_mut().filter_map(|row| row.into_slice()).enumerate() {
            for (sums, total) in sums.iter().zip(total.chunks_mut(columns * taps)) {
                let width = sums.len() / of_left;
                let sums = &sums[(row / left * taps * left + row % left) * width..];
                if taps == 1 {
                    add(after, &sums[..width], total);
                    continue;
                }
                for (tap, sums) in sums.chunks(left * width).take(taps).enumerate() {
                    turned[tap..].iter_mut().step_by(taps).zip(&sums[..width]).for_each(|(turned, &sum)| *turned = sum);
                }
                add(after, &turned, total);
            }
        }
    }
}

#[inline(always)]
fn add(after: Power, sums: &[f32], total: &mut [f64]) {
    match after {
        Power::Absolute => each(sums, total, f64::abs),
        Power::Square => each(sums, total, |g| g * g),
        Power::Signed => each(sums, total, |g| g),
    }
}

#[inline(always)]
fn each(sums: &[f32], total: &mut [f64], power: impl Fn(f64) -> f64) {
    total.iter_mut().zip(sums).for_each(|(total, &sum)| *total += power(f64::from(sum)));
}
