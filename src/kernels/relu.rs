//! The gradient of ReLU.

use pulp::{Simd, WithSimd};

/// `dx = dy`, but zero where `y` is not positive.
pub(crate) struct Gradient<'a> {
    pub y: &'a [f32],
    pub dy: &'a [f32],
    pub dx: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((dx, &y), &dy) in self.dx.iter_mut().zip(self.y).zip(self.dy) {
            // What is not a number hides nothing.
            *dx = if y <= 0.0 { 0.0 } else { dy };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::all;

    #[test]
    fn zero_where_it_is_closed() {
        let y = [0.0, -0.0, f32::MIN_POSITIVE, -1.0, f32::INFINITY, f32::NAN, 2.0];
        let dy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0];
        for arch in all() {
            let mut dx = [f32::NAN; 7];
            arch.dispatch(Gradient { y: &y, dy: &dy, dx: &mut dx });
            assert_eq!(dx, [0.0, 0.0, 3.0, 0.0, 5.0, 6.0, -7.0]);
        }
    }
}
