//! Winograd's minimal filtering with kernels of 3×3 taps (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", arXiv 1509.09308): a tile of results from as many products as the tile of inputs has elements, 16 in place of
//! 36 for 2×2 results and 36 in place of 144 for 4×4.
//!
//! A convolution is `Y = Aᵀ ((G g Gᵀ) ⊙ (Bᵀ d B)) A` for a tile `d` of inputs and a kernel `g`; the gradient of the kernel,
//! its transpose, is `Gᵀ ((A dY Aᵀ) ⊙ (Bᵀ d B)) G`. The matrices are those that multiply polynomials by their values at some
//! points and at infinity.

use pulp::Simd;

pub(crate) const TAPS: usize = 3;

/// Tiles of `OUT`×`OUT` results and `TILE`×`TILE` inputs.
pub(crate) trait Filter<const OUT: usize, const TILE: usize> {
    /// `Bᵀ d`
    type Input: Transform<TILE, TILE>;
    /// `Aᵀ m`
    type Output: Transform<TILE, OUT>;

    /// `G g`
    fn kernel(g: [f64; TAPS]) -> [f64; TILE];
}

/// 2×2 results, by the points 0 and ±1: rounds as a sum over taps does.
pub(crate) struct Two;

/// 4×4 results, by the points 0, ±5/8 and ±3/2, in float32 with about four times the rounding of a sum over taps; half of
/// what the points 0, ±1 and ±2 give.
pub(crate) struct Four;

/// A linear map of vectors side by side.
pub(crate) trait Transform<const I: usize, const O: usize> {
    fn line<S: Simd>(simd: S, x: [S::f32s; I]) -> [S::f32s; O];

    /// Of the columns, then of the rows, of a square.
    #[inline(always)]
    fn square<S: Simd>(simd: S, square: &[[S::f32s; I]; I]) -> [[S::f32s; O]; O] {
        let zero = simd.splat_f32s(0.0);
        let mut turned = [[zero; I]; O];
        for column in 0..I {
            let mut line = [zero; I];
            for row in 0..I {
                line[row] = square[row][column];
            }
            let line = Self::line(simd, line);
            for row in 0..O {
                turned[row][column] = line[row];
            }
        }
        let mut out = [[zero; O]; O];
        for row in 0..O {
            out[row] = Self::line(simd, turned[row]);
        }
        out
    }
}

// These are functions and not closures so that they are compiled for the vectors of their caller.

#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s, sum: S::f32s) -> S::f32s {
    simd.mul_add_f32s(simd.splat_f32s(factor), x, sum)
}

#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// `even ± point · odd`
#[inline(always)]
fn pair<S: Simd>(simd: S, even: S::f32s, point: f32, odd: S::f32s) -> [S::f32s; 2] {
    let odd = scaled(simd, point, odd);
    [simd.add_f32s(even, odd), simd.sub_f32s(even, odd)]
}

/// `[x + y, x - y]`
#[inline(always)]
fn both<S: Simd>(simd: S, x: S::f32s, y: S::f32s) -> [S::f32s; 2] {
    [simd.add_f32s(x, y), simd.sub_f32s(x, y)]
}

/// `Bᵀ d` of [`Two`].
pub(crate) struct TwoInput;

impl Transform<4, 4> for TwoInput {
    #[inline(always)]
    fn line<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
        let [sum, difference] = both(simd, d[2], d[1]);
        [simd.sub_f32s(d[0], d[2]), sum, difference, simd.sub_f32s(d[1], d[3])]
    }
}

/// `Aᵀ m` of [`Two`].
pub(crate) struct TwoOutput;

impl Transform<4, 2> for TwoOutput {
    #[inline(always)]
    fn line<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
        let [sum, difference] = both(simd, m[1], m[2]);
        [simd.add_f32s(m[0], sum), simd.sub_f32s(difference, m[3])]
    }
}

impl Filter<2, 4> for Two {
    type Input = TwoInput;
    type Output = TwoOutput;

    fn kernel(g: [f64; TAPS]) -> [f64; 4] {
        let even = g[0] + g[2];
        [g[0], (even + g[1]) / 2.0, (even - g[1]) / 2.0, g[2]]
    }
}

/// The points of [`Four`] other than 0 and infinity, and their squares: all have few bits.
const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// What makes the polynomials of the points 0, ±a and ±b one where they do not vanish.
const AT_0: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 0.5 / (A2 * (A2 - B2));
const AT_B: f32 = 0.5 / (B2 * (B2 - A2));

impl Filter<4, 6> for Four {
    type Input = FourInput;
    type Output = FourOutput;

    fn kernel(g: [f64; TAPS]) -> [f64; 6] {
        let at = |point: f32, by: f32| f64::from(by) * (g[0] + f64::from(point) * (g[1] + f64::from(point) * g[2]));
        [at(0.0, AT_0), at(A, AT_A), at(-A, AT_A), at(B, AT_B), at(-B, AT_B), g[2]]
    }
}

/// `Bᵀ d` of [`Four`].
pub(crate) struct FourInput;

impl Transform<6, 6> for FourInput {
    #[inline(always)]
    fn line<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let first = times(simd, A2 * B2, d[0], times(simd, -A2 - B2, d[2], d[4]));
        let last = times(simd, A2 * B2, d[1], times(simd, -A2 - B2, d[3], d[5]));
        let [a, b] = pair(simd, times(simd, -B2, d[2], d[4]), A, times(simd, -B2, d[1], d[3]));
        let [c, e] = pair(simd, times(simd, -A2, d[2], d[4]), B, times(simd, -A2, d[1], d[3]));
        [first, a, b, c, e, last]
    }
}

/// `Aᵀ m` of [`Four`].
pub(crate) struct FourOutput;

impl Transform<6, 4> for FourOutput {
    #[inline(always)]
    fn line<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
        let ([a, c], [b, d]) = (both(simd, m[1], m[2]), both(simd, m[3], m[4]));
        [
            simd.add_f32s(m[0], simd.add_f32s(a, b)),
            times(simd, A, c, scaled(simd, B, d)),
            times(simd, A2, a, scaled(simd, B2, b)),
            times(simd, A * A2, c, times(simd, B * B2, d, m[5])),
        ]
    }
}

/// `A y` of [`Four`].
pub(crate) struct FourGradient;

impl Transform<4, 6> for FourGradient {
    #[inline(always)]
    fn line<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
        let [a, b] = pair(simd, times(simd, A2, y[2], y[0]), A, times(simd, A2, y[3], y[1]));
        let [c, d] = pair(simd, times(simd, B2, y[2], y[0]), B, times(simd, B2, y[3], y[1]));
        [y[0], a, b, c, d, y[3]]
    }
}

/// `Gᵀ m` of [`Four`].
pub(crate) struct FourTaps;

impl Transform<6, TAPS> for FourTaps {
    #[inline(always)]
    fn line<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; TAPS] {
        let ([a, c], [b, d]) = (both(simd, m[1], m[2]), both(simd, m[3], m[4]));
        [
            times(simd, AT_A, a, times(simd, AT_B, b, scaled(simd, AT_0, m[0]))),
            times(simd, A * AT_A, c, scaled(simd, B * AT_B, d)),
            times(simd, A2 * AT_A, a, times(simd, B2 * AT_B, b, m[5])),
        ]
    }
}

/// `G g Gᵀ` of a kernel.
pub(crate) fn kernel<F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
    g: &[f32; TAPS * TAPS],
) -> [[f32; TILE]; TILE] {
    let rows: [[f64; TILE]; TAPS] =
        std::array::from_fn(|row| F::kernel(std::array::from_fn(|i| g[row * TAPS + i].into())));
    let columns: [[f64; TILE]; TILE] = std::array::from_fn(|column| F::kernel(rows.map(|row| row[column])));
    std::array::from_fn(|row| columns.map(|column| column[row] as f32))
}
