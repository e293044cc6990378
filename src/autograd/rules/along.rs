//! Multiplication by constant matrices along single axes.

use super::{Name, Tape};
use ndarray::Array2;

/// `y[…, j, …] = Σ over i of x[…, i, …] matrix[i, j]` along an axis.
pub(super) fn multiplied(tape: &mut Tape, x: &Name, axis: usize, matrix: &Array2<f64>) -> Name {
    let mut shape = tape.shape(x);
    let outer = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product();
    let (from, to) = matrix.dim();
    let dtype = tape.dtype(x);
    shape[axis] = to;
    let product = if inner == 1 {
        let x = tape.reshape(x, &[outer, from]);
        let matrix = tape.constant_floats(dtype, matrix.clone().into_dyn());
        tape.matmul(&x, &matrix)
    } else {
        let x = tape.reshape(x, &[outer, from, inner]);
        let matrix = tape.constant_floats(dtype, matrix.t().as_standard_layout().into_owned().into_dyn());
        tape.matmul(&matrix, &x)
    };
    tape.reshape(&product, &shape)
}
