//! Products of a few rows and a panel of a matrix: one or two vectors of its columns.

use super::memory::Memory;
use super::registers::{add, multiply, sizes};
use pulp::{Arch, Simd};
use std::ops::Range;

/// Terms that are added up in one register; longer sums are made of such pieces, which keeps rounding small.
const PIECE: usize = 64;

/// A matrix `[depth, columns]` by panels, `[panel, depth, column]`, of two vectors each, the last as wide as it must be.
/// `row` gives the elements of a row.
pub(crate) fn panels<E: Fn(usize) -> f32>(
    arch: Arch,
    depth: usize,
    columns: usize,
    row: impl Fn(usize) -> E,
) -> Memory {
    let lanes = sizes(arch).lanes;
    let mut packed = Memory::zeros(depth * columns.next_multiple_of(lanes));
    let mut rest = &mut packed[..];
    for columns in cut(columns, lanes) {
        let width = columns.len().next_multiple_of(lanes);
        let (panel, other) = rest.split_at_mut(depth * width);
        rest = other;
        for (own, out) in panel.chunks_exact_mut(width).enumerate() {
            out.iter_mut().zip(columns.clone().map(row(own))).for_each(|(out, element)| *out = element);
        }
    }
    packed
}

/// The columns of each panel: as many as two vectors have, in the last what is left.
pub(crate) fn cut(columns: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..columns).step_by(2 * lanes).map(move |first| first..columns.min(first + 2 * lanes))
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
