//! Gelu, `x Φ(x)`, and its gradient, `dy (Φ(x) + x φ(x))`: the normal distribution and its density.
//!
//! With `a = |x|` and `t = 1 / (1 + 0.32 a)`, `1 - Φ(a) = e^(-a²/2) t P(t)`; `P` is the polynomial of the ninth degree
//! whose relative error is least, 3.2e-8, as Hastings (Approximations for Digital Computers, 1955) has it with fewer
//! terms. So both ends of the distribution are exact to the rounding of float32.

use pulp::{Simd, WithSimd, bytemuck};

const RATE: f32 = 0.32;
/// Coefficients of `P`, that of the highest power first.
const TAIL: [f32; 10] = [
    -0.021078272,
    0.09540772,
    -0.14670832,
    0.06532889,
    -0.009378066,
    0.05865413,
    0.08782907,
    0.11462236,
    0.12766095,
    0.12766153,
];

/// Vectors side by side: what is computed of one is a long chain, of which each step waits for the one before.
const SIDE: usize = 2;

/// What is computed of each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form<'a> {
    Value,
    /// The gradient of `x`, from that of the value.
    Gradient(&'a [f32]),
}

/// Computes it; all have the same length.
pub(crate) struct Gelu<'a> {
    pub form: Form<'a>,
    pub x: &'a [f32],
    pub out: &'a mut [f32],
}

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Gelu { form, x, out } = self;
        let (x, x_rest) = S::as_simd_f32s(x);
        let (out, out_rest) = S::as_mut_simd_f32s(out);
        let ((x, x_last), (out, out_last)) = (x.as_chunks::<SIDE>(), out.as_chunks_mut::<SIDE>());
        match form {
            Form::Value => {
                x.iter().zip(out).for_each(|(x, out)| *out = value(simd, x));
                x_last.iter().zip(out_last).for_each(|(&x, out)| [*out] = value(simd, &[x]));
                if !x_rest.is_empty() {
                    let [last] = value(simd, &[simd.partial_load_f32s(x_rest)]);
                    simd.partial_store_f32s(out_rest, last);
                }
            }
            Form::Gradient(dy) => {
                let (dy, dy_rest) = S::as_simd_f32s(dy);
                let (dy, dy_last) = dy.as_chunks::<SIDE>();
                x.iter().zip(dy).zip(out).for_each(|((x, dy), out)| *out = gradient(simd, x, dy));
                let last = x_last.iter().zip(dy_last).zip(out_last);
                last.for_each(|((&x, &dy), out)| [*out] = gradient(simd, &[x], &[dy]));
                if !x_rest.is_empty() {
                    let [x, dy] = [simd.partial_load_f32s(x_rest), simd.partial_load_f32s(dy_rest)];
                    let [last] = gradient(simd, &[x], &[dy]);
                    simd.partial_store_f32s(out_rest, last);
                }
            }
        }
    }
}

#[inline(always)]
fn value<S: Simd, const N: usize>(simd: S, x: &[S::f32s; N]) -> [S::f32s; N] {
    let (mut out, _) = normal(simd, x);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = simd.mul_f32s(x, *out);
    }
    out
}

#[inline(always)]
fn gradient<S: Simd, const N: usize>(simd: S, x: &[S::f32s; N], dy: &[S::f32s; N]) -> [S::f32s; N] {
    let (mut out, bell) = normal(simd, x);
    for i in 0..N {
        let density = simd.mul_f32s(bell[i], simd.splat_f32s(0.3989423));
        out[i] = simd.mul_f32s(dy[i], simd.mul_add_f32s(x[i], density, out[i]));
    }
    out
}

/// `Φ(x)` and `e^(-x²/2)`.
#[inline(always)]
fn normal<S: Simd, const N: usize>(simd: S, x: &[S::f32s; N]) -> ([S::f32s; N], [S::f32s; N]) {
    let one = simd.splat_f32s(1.0);
    let (mut t, mut exponent, mut tail) = ([one; N], [one; N], [simd.splat_f32s(TAIL[0]); N]);
    for i in 0..N {
        exponent[i] = simd.mul_f32s(simd.mul_f32s(x[i], x[i]), simd.splat_f32s(-0.5));
        t[i] = simd.div_f32s(one, simd.mul_add_f32s(simd.abs_f32s(x[i]), simd.splat_f32s(RATE), one));
    }
    let bell = exp(simd, &exponent);
    for coefficient in &TAIL[1..] {
        for i in 0..N {
            tail[i] = simd.mul_add_f32s(tail[i], t[i], simd.splat_f32s(*coefficient));
        }
    }
    for i in 0..N {
        let beyond = simd.mul_f32s(simd.mul_f32s(bell[i], t[i]), tail[i]);
        let negative = simd.less_than_f32s(x[i], simd.splat_f32s(0.0));
        tail[i] = simd.select_f32s(negative, beyond, simd.sub_f32s(one, beyond));
    }
    (tail, bell)
}

/// `eˣ` for `x` up to 0, `2ⁿ e^r` with `|r|` up to `ln √2`; never less than the least normal number.
#[inline(always)]
fn exp<S: Simd, const N: usize>(simd: S, x: &[S::f32s; N]) -> [S::f32s; N] {
    // Numbers of this size have no digits after the point, and count up by one in their last bit.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let (mut power, mut r, mut series) = (*x, *x, [simd.splat_f32s(1.0 / 720.0); N]);
    for i in 0..N {
        let x = simd.max_f32s(x[i], simd.splat_f32s(-87.0));
        power[i] = simd.mul_add_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
        let n = simd.sub_f32s(power[i], simd.splat_f32s(ROUND));
        r[i] = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2[0]), x);
        r[i] = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2[1]), r[i]);
    }
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        for i in 0..N {
            series[i] = simd.mul_add_f32s(series[i], r[i], simd.splat_f32s(coefficient));
        }
    }
    for i in 0..N {
        let exponent = simd.add_u32s(bytemuck::cast(power[i]), simd.splat_u32s(127));
        let scale = simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23));
        series[i] = simd.mul_f32s(series[i], bytemuck::cast(scale));
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::all;

    /// `Φ(x)` and `φ(x)` in float64: the density by its formula, its integral by Simpson's rule.
    fn exact(x: f64) -> (f64, f64) {
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        // From the far end of the side that x lies on, whose part is small.
        let (end, steps) = (x.abs() + 12.0, 4000);
        let step = (end - x.abs()) / steps as f64;
        let weight = |i| {
            if i == 0 || i == steps {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            }
        };
        let beyond: f64 = (0..=steps).map(|i| weight(i) * density(x.abs() + i as f64 * step)).sum::<f64>() * step / 3.0;
        (if x < 0.0 { beyond } else { 1.0 - beyond }, density(x))
    }

    #[test]
    fn as_its_formula() {
        // No multiple of the length of a vector.
        let x: Vec<f32> = (0..1003).map(|i| (i as f32 - 501.0) / 40.0).collect();
        let dy: Vec<f32> = (0..x.len()).map(|i| 0.5 + (i % 7) as f32).collect();
        for arch in all() {
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            arch.dispatch(Gelu { form: Form::Value, x: &x, out: &mut y });
            arch.dispatch(Gelu { form: Form::Gradient(&dy), x: &x, out: &mut dx });
            for (((&x, y), dy), dx) in x.iter().zip(y).zip(&dy).zip(dx) {
                let (x, y, dy, dx) = (f64::from(x), f64::from(y), f64::from(*dy), f64::from(dx));
                let (cumulative, density) = exact(x);
                // Of what the rounding of x² leaves of the bell, and of float32 itself.
                let rounding = (3.0 + x * x / 2.0) * f64::from(f32::EPSILON);
                let (value, slope) = (x * cumulative, cumulative + x * density);
                assert!((y - value).abs() <= rounding * value.abs() + 1e-36, "Gelu({x}) = {value}, found {y}");
                let size = dy * (cumulative + (x * density).abs());
                assert!((dx - dy * slope).abs() <= rounding * size + 1e-36, "slope at {x}: {}, found {dx}", dy * slope);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for arch in all() {
            let mut out = [0.0];
            arch.dispatch(Gelu { form: Form::Value, x: &[f32::NAN], out: &mut out });
            assert!(out[0].is_nan());
            arch.dispatch(Gelu { form: Form::Gradient(&[1.0]), x: &[f32::NAN], out: &mut out });
            assert!(out[0].is_nan());
        }
    }
}
