//! Operators that run along an axis, as reductions of a row for each place.

use super::{GradError, Node, Tape, Values, one};
use crate::graph::normalise;
use crate::tensor::Tensor;
use ndarray::Array2;

/// `y[i] = Π over j <= i of x[j]` along an axis; over `j < i` where it is exclusive, over `j >= i` where it is reversed. The
/// others are ones in the product of a place.
pub(crate) fn product(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let shape = tape.shape(x);
    let axis = tape.integers(node, node.required(1)?)?.first().and_then(|&axis| normalise(axis, shape.len()));
    let axis = axis.ok_or_else(|| GradError::from(node.bad("input 1")))?;
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    let (exclusive, reversed) = (flag("exclusive"), flag("reverse"));
    let taken = Array2::from_shape_fn((shape[axis], shape[axis]), |(place, other)| {
        let (first, second) = if reversed { (place, other) } else { (other, place) };
        first < second || (first == second && !exclusive)
    });
    let taken = tape.constant(Tensor::Bool(taken.into_dyn()));
    let taken = tape.reshape(&taken, &[&[shape[axis]; 2], &vec![1; shape.len() - axis - 1][..]].concat());
    let row = tape.reshape(x, &[&shape[..axis], &[1], &shape[axis..]].concat());
    let other = tape.scalar(x, 1.0);
    let rows = tape.select(&taken, &row, &other);
    let products = tape.product(&rows, &[axis + 1]);
    one(tape.reshape(&products, &shape))
}
