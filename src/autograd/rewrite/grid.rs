//! Coordinates of a transformed image.

use super::{GradError, Node, Tape, Values, one};
use ndarray::ArrayD;

/// `grid = θ (x, y, …, 1)ᵀ` at the positions of an image of `size`, each coordinate from -1 to 1.
pub(crate) fn affine(node: &Node, tape: &mut Tape) -> Values {
    let theta = node.required(0)?;
    let size = tape.integers(node, node.required(1)?)?;
    let size: Vec<usize> = size.iter().map(|&s| s.max(0) as usize).collect();
    let Some(([batch, _], space)) = size.split_first_chunk::<2>() else { return Err(node.bad("input 1").into()) };
    let rank = space.len();
    let corners = node.int("align_corners").unwrap_or(0) != 0;
    if corners && space.contains(&1) {
        return Err(GradError::unsupported(node, "corners are aligned along an axis of one element"));
    }
    // A row for each position: its coordinates, the last axis first, and one.
    let count: usize = space.iter().product();
    let positions = ArrayD::from_shape_fn(vec![count, rank + 1], |at| {
        let Some(axis) = (rank - 1).checked_sub(at[1]) else { return 1.0 };
        let index = at[0] / space[axis + 1..].iter().product::<usize>() % space[axis];
        coordinate(index, space[axis], corners)
    });
    let positions = tape.constant_floats(tape.dtype(theta), positions);
    let turned = tape.swap_last(theta);
    let grid = tape.matmul(&positions, &turned);
    one(tape.reshape(&grid, &[&[*batch], space, &[rank]].concat()))
}

/// The place of an element along an axis: that of its middle, or with the outermost ones at -1 and 1.
fn coordinate(index: usize, length: usize, corners: bool) -> f64 {
    match corners {
        true => 2.0 * index as f64 / (length - 1) as f64 - 1.0,
        false => (2 * index + 1) as f64 / length as f64 - 1.0,
    }
}
