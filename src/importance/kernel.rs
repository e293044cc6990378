//! Products of packed panels in registers: the inner loops of weight gradients, for whatever vectors the processor
//! has.
//!
//! A panel holds a few columns of a matrix side by side, position after position, so that one step of the product
//! reads two short runs of memory: `R` numbers of the left panel and one or two vectors of the right one.

use crate::autograd::Power;
use crate::kernels::registers::{FEW, MANY, add, multiply};
use pulp::{Simd, WithSimd};

/// Positions that are added up in one register; longer sums are made of such pieces, which keeps rounding small.
const PIECE: usize = 512;

/// A run of positions: consecutive in the left panel; in the right one from `start`, with the walk's step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub start: usize,
    pub len: usize,
}

/// Lines from `start` of so many positions, cut where they are longer than a piece.
pub(super) fn lines(start: usize, len: usize, step: usize) -> impl Iterator<Item = Line> {
    (0..len).step_by(PIECE).map(move |first| Line { start: start + first * step, len: PIECE.min(len - first) })
}

/// How the right panel is walked: the same lines for each tap of a kernel, moved by the tap's offset.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    pub lines: Vec<Line>,
    pub step: usize,
    pub taps: Vec<usize>,
}

/// The products of all left panels with one right panel, for some samples:
/// `sums[panel][tap][row][column] += power(Σ over positions of left · right)`, sample after sample.
pub(super) struct Products<'a> {
    /// For each image its left panels, one after the other: `[panels, positions, left]`.
    pub left: &'a [&'a [f32]],
    /// For each image its right panel: `[places, columns]`.
    pub right: &'a [&'a [f32]],
    /// Images of one sample.
    pub images: usize,
    pub walk: &'a Walk,
    /// Whether the right panel is two vectors wide.
    pub wide: bool,
    pub power: Power,
    /// `[panels, taps, left, columns]`
    pub sums: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::REGISTER_COUNT >= 32, self.wide) {
            (true, true) => self.run::<S, MANY, 2>(simd),
            (true, false) => self.run::<S, MANY, 1>(simd),
            (false, true) => self.run::<S, FEW, 2>(simd),
            (false, false) => self.run::<S, FEW, 1>(simd),
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let positions: usize = self.walk.lines.iter().map(|line| line.len).sum();
        let tiles = S::as_mut_simd_f32s(self.sums).0.as_chunks_mut::<V>().0.as_chunks_mut::<R>().0;
        let samples = self.left.chunks_exact(self.images).zip(self.right.chunks_exact(self.images));
        for (left, right) in samples {
            for (panel, taps) in tiles.chunks_exact_mut(self.walk.taps.len()).enumerate() {
                for (sums, &tap) in taps.iter_mut().zip(&self.walk.taps) {
                    let mut product = [[simd.splat_f32s(0.0); V]; R];
                    for (left, right) in left.iter().zip(right) {
                        let left = &left.as_chunks::<R>().0[panel * positions..][..positions];
                        let right = S::as_simd_f32s(right).0.as_chunks::<V>().0;
                        add_product(simd, left, right, self.walk, tap, &mut product);
                    }
                    add_power(simd, self.power, &product, sums);
                }
            }
        }
    }
}

#[inline(always)]
fn add_product<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut left: &[[f32; R]],
    right: &[[S::f32s; V]],
    walk: &Walk,
    tap: usize,
    total: &mut [[S::f32s; V]; R],
) {
    let step = walk.step;
    let (mut piece, mut count) = ([[simd.splat_f32s(0.0); V]; R], 0);
    for line in &walk.lines {
        if count + line.len > PIECE {
            add(simd, &piece, total);
            (piece, count) = ([[simd.splat_f32s(0.0); V]; R], 0);
        }
        count += line.len;
        let (own, rest) = left.split_at(line.len);
        left = rest;
        let right = &right[line.start + tap..][..(line.len - 1) * step + 1];
        if step == 1 {
            own.iter().zip(right).for_each(|(l, r)| multiply(simd, l, r, &mut piece));
        } else {
            own.iter().zip(right.iter().step_by(step)).for_each(|(l, r)| multiply(simd, l, r, &mut piece));
        }
    }
    add(simd, &piece, total);
}

#[inline(always)]
fn add_power<S: Simd, const V: usize>(simd: S, power: Power, product: &[[S::f32s; V]], sums: &mut [[S::f32s; V]]) {
    for (sums, product) in sums.iter_mut().zip(product) {
        for (sum, &g) in sums.iter_mut().zip(product) {
            *sum = match power {
                Power::Absolute => simd.add_f32s(*sum, simd.abs_f32s(g)),
                Power::Square => simd.mul_add_f32s(g, g, *sum),
                Power::Signed => simd.add_f32s(*sum, g),
            };
        }
    }
}

/// The products of two panels element by element, for each channel a column, some taps of the kernel at a time:
/// `sums[tap][column] += power(Σ over positions of dy · x)`, sample after sample.
pub(super) struct Channels<'a> {
    /// For each image its gradient: `[positions, columns]`.
    pub dy: &'a [&'a [f32]],
    /// For each image `[places, columns]`.
    pub x: &'a [&'a [f32]],
    pub images: usize,
    pub walk: &'a Walk,
    pub wide: bool,
    pub power: Power,
    /// `[taps, columns]`
    pub sums: &'a mut [f32],
}

impl WithSimd for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.wide { self.run::<S, 2>(simd) } else { self.run::<S, 1>(simd) }
    }
}

impl Channels<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(mut self, simd: S) {
        let sums = std::mem::take(&mut self.sums);
        let (mut taps, mut sums) = (&self.walk.taps[..], S::as_mut_simd_f32s(sums).0.as_chunks_mut::<V>().0);
        while let Some((own, rest)) = taps.split_first_chunk::<4>() {
            let (out, other) = sums.split_at_mut(own.len());
            self.taps::<S, 4, V>(simd, own, out);
            (taps, sums) = (rest, other);
        }
        for (tap, out) in taps.iter().zip(sums.chunks_exact_mut(1)) {
            self.taps::<S, 1, V>(simd, &[*tap], out);
        }
    }

    #[inline(always)]
    fn taps<S: Simd, const T: usize, const V: usize>(&self, simd: S, taps: &[usize; T], sums: &mut [[S::f32s; V]]) {
        for (dy, x) in self.dy.chunks_exact(self.images).zip(self.x.chunks_exact(self.images)) {
            let mut product = [[simd.splat_f32s(0.0); V]; T];
            for (dy, x) in dy.iter().zip(x) {
                let (mut dy, x) = (S::as_simd_f32s(dy).0.as_chunks::<V>().0, S::as_simd_f32s(x).0.as_chunks::<V>().0);
                for line in &self.walk.lines {
                    let (own, rest) = dy.split_at(line.len);
                    dy = rest;
                    let seen = taps.map(|tap| &x[line.start + tap..][..(line.len - 1) * self.walk.step + 1]);
                    let mut piece = [[simd.splat_f32s(0.0); V]; T];
                    for (position, dy) in own.iter().enumerate() {
                        for (piece, x) in piece.iter_mut().zip(&seen) {
                            let x = &x[position * self.walk.step];
                            for (v, piece) in piece.iter_mut().enumerate() {
                                *piece = simd.mul_add_f32s(dy[v], x[v], *piece);
                            }
                        }
                    }
                    add(simd, &piece, &mut product);
                }
            }
            add_power(simd, self.power, &product, sums);
        }
    }
}
