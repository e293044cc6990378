//! Selective synaptic dampening of weights by their importance (arXiv 2308.07707, 2402.19308).

use crate::tensor::Tensor;
use half::{bf16, f16};
use ndarray::ArrayD;

/// A tensor after dampening.
#[derive(Clone, Debug, PartialEq)]
pub struct Dampened {
    /// Same type and shape as before.
    pub tensor: Tensor,
    /// Weights with `Omega_Df > alpha Omega_D`.
    pub selected: usize,
    /// Euclidean norms.
    pub norm_before: f64,
    pub norm_after: f64,
    /// `Σ forget |after - before|`: to first order, a bound on what the change does to the objective of a
    /// sample of the forget set.
    pub first_order_change: f64,
}

/// Multiplies every weight with `forget > alpha * full` by `min(lambda * full / forget, 1)`; the others
/// keep their bits. No weight grows or changes sign. `forget` and `full` are the importance over the forget set
/// and over all data, in the shape of the tensor.
///
/// Gives none where shapes differ or the tensor is not floating point.
pub fn dampen(tensor: &Tensor, forget: &ArrayD<f64>, full: &ArrayD<f64>, alpha: f64, lambda: f64) -> Option<Dampened> {
    if forget.shape() != tensor.shape() || full.shape() != tensor.shape() {
        return None;
    }
    let (mut selected, mut squares, mut first_order_change) = (0, [0.0f64; 2], 0.0);
    macro_rules! apply {
        ($array:expr, $from:expr, $to:expr) => {{
            let mut array = $array.clone();
            for ((x, &forget), &full) in array.iter_mut().zip(forget).zip(full) {
                let before: f64 = $from(*x);
                squares[0] += before * before;
                if forget > alpha * full {
                    selected += 1;
                    *x = $to(before * (lambda * full / forget).min(1.0));
                }
                let after: f64 = $from(*x);
                squares[1] += after * after;
                first_order_change += forget * (after - before).abs();
            }
            array.into()
        }};
    }
    let after: Tensor = match tensor {
        Tensor::F32(a) => apply!(a, f64::from, |x| x as f32),
        Tensor::F64(a) => apply!(a, |x: f64| x, |x| x),
        Tensor::F16(a) => apply!(a, f64::from, f16::from_f64),
        Tensor::BF16(a) => apply!(a, f64::from, bf16::from_f64),
        _ => return None,
    };
    let [norm_before, norm_after] = squares.map(f64::sqrt);
    Some(Dampened { tensor: after, selected, norm_before, norm_after, first_order_change })
}
