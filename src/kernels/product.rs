//! Products of a few rows and a panel of a matrix: one or two vectors of its columns.

use super::registers::{add, multiply, sizes};
use pulp::{Arch, Simd};

/// Terms that are added up in one register; longer sums are made of such pieces, which keeps rounding small.
const PIECE: usize = 64;

/// A matrix `[depth, columns]` by panels, `[panel, depth, column]`, of two vectors each, the last as wide as it must be.
pub(crate) fn panels(arch: Arch, depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let lanes = sizes(arch).lanes;
    let all = columns.next_multiple_of(lanes);
    let mut packed = Vec::with_capacity(depth * all);
    for start in (0..all).step_by(2 * lanes) {
        for row in 0..depth {
            let own = start..all.min(start + 2 * lanes);
            packed.extend(own.map(|column| if column < columns { element(row, column) } else { 0.0 }));
        }
    }
    packed
}

/// The product of some rows and a panel of `V` vectors.
#[inline(always)]
pub(crate) fn product<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    right: &[S::f32s],
) -> [[S::f32s; V]; R] {
    let right = right.as_chunks::<V>().0;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for start in (0..right.len()).step_by(PIECE) {
        let len = PIECE.min(right.len() - start);
        let right = &right[start..][..len];
        let mut own = rows;
        for row in &mut own {
            *row = &row[start..][..len];
        }
        let mut piece = [[simd.splat_f32s(0.0); V]; R];
        for (term, right) in right.iter().enumerate() {
            let mut left = [0.0; R];
            for (left, row) in left.iter_mut().zip(&own) {
                *left = row[term];
            }
            multiply(simd, &left, right, &mut piece);
        }
        add(simd, &piece, &mut sums);
    }
    sums
}
