//! Products that stay in registers: a few numbers of a left panel times one or two vectors of a right one.

use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// Sizes of panels on this processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    /// Columns of a left panel.
    pub left: usize,
    /// Columns of a right panel of one vector; a wide one has twice as many.
    pub lanes: usize,
}

/// Columns of a left panel where there are 32 registers, and where there are fewer.
pub(crate) const MANY: usize = 8;
pub(crate) const FEW: usize = 6;

pub(crate) fn sizes(arch: Arch) -> Sizes {
    struct Ask;
    impl WithSimd for Ask {
        type Output = Sizes;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Sizes {
            Sizes { left: if S::REGISTER_COUNT >= 32 { MANY } else { FEW }, lanes: S::F32_LANES }
        }
    }
    arch.dispatch(Ask)
}

/// Adds a piece of a sum.
#[inline(always)]
pub(crate) fn add<S: Simd, const V: usize>(simd: S, piece: &[[S::f32s; V]], total: &mut [[S::f32s; V]]) {
    for (total, piece) in total.iter_mut().zip(piece) {
        for (total, piece) in total.iter_mut().zip(piece) {
            *total = simd.add_f32s(*total, *piece);
        }
    }
}

#[inline(always)]
pub(crate) fn multiply<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: &[f32; R],
    right: &[S::f32s; V],
    out: &mut [[S::f32s; V]; R],
) {
    for (out, &l) in out.iter_mut().zip(left) {
        let l = simd.splat_f32s(l);
        for (out, &r) in out.iter_mut().zip(right) {
            *out = simd.mul_add_f32s(l, r, *out);
        }
    }
}

/// A vector, filled with zeros where there are fewer numbers.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, numbers: &[f32]) -> S::f32s {
    match S::as_simd_f32s(numbers).0.first() {
        Some(whole) => *whole,
        None => simd.partial_load_f32s(numbers),
    }
}

/// Some numbers, a whole vector or less.
#[inline(always)]
pub(crate) fn part<S: Simd, const WHOLE: bool>(simd: S, numbers: &[f32], own: &Range<usize>) -> S::f32s {
    let numbers = &numbers[own.start..own.end];
    if WHOLE { S::as_simd_f32s(&numbers[..S::F32_LANES]).0[0] } else { load(simd, numbers) }
}

/// As much of a vector as there is room for.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, numbers: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(numbers).0.first_mut() {
        Some(whole) => *whole = value,
        None => simd.partial_store_f32s(numbers, value),
    }
}
