//! Operators on windows and places of images, and on sequences and matrices, with short rules of their own.

use super::{Grad, GradError, Name, Node, Tape, first};
use crate::graph::attribute;
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayD, IxDyn};

type Grads = Result<Vec<Option<Grad>>, GradError>;

/// `y` holds `x` at flat places of the whole tensor: `dx` is `dy` read there, sample by sample.
pub(super) fn max_unpool(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (from, to) = (tape.shape(node.required(0)?), tape.shape(&dy));
    let size = |shape: &[usize]| shape[1..].iter().product::<usize>();
    let places = within_samples(tape, node.required(1)?, from[0], [size(&from), size(&to)]);
    let flat = tape.reshape(&dy, &[to[0], size(&to)]);
    let kind = (tape.dtype(&dy), vec![from[0], size(&from)]);
    let dx = tape.node("GatherElements", &[&flat, &places], vec![attribute("axis", 1)], kind);
    Ok(vec![Some(tape.reshape(&dx, &from).into()), None, None])
}

/// Flat places in a whole tensor as places in each of its samples, `[samples, count]`.
pub(super) fn within_samples(tape: &mut Tape, places: &Name, samples: usize, [count, size]: [usize; 2]) -> Name {
    let offsets = ArrayD::from_shape_fn(IxDyn(&[samples, 1]), |i| (i[0] * size) as i64);
    let offsets = tape.constant(Tensor::I64(offsets));
    let places = tape.reshape(places, &[samples, count]);
    tape.sub(&places, &offsets)
}

/// `y` adds up the columns of blocks: `dx` reads `dy` at the places of each block, zero beyond the border.
pub(super) fn col2im(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let (from, to) = (tape.shape(node.required(0)?), tape.shape(&dy));
    let block = tape.integers(node, node.required(2)?)?;
    let rank = block.len();
    let list = |name: &str, length: usize, default: i64| {
        let given = node.ints(name).filter(|v| v.len() == length);
        given.map_or(vec![default; length], <[i64]>::to_vec)
    };
    let (strides, dilations) = (list("strides", rank, 1), list("dilations", rank, 1));
    let pads = list("pads", 2 * rank, 0);
    let blocks = |i: usize| {
        let covered = dilations[i] * (block[i] - 1) + 1;
        (to[i + 2] as i64 + pads[i] + pads[rank + i] - covered) / strides[i].max(1) + 1
    };
    let counts: Vec<usize> = (0..rank).map(|i| blocks(i).max(0) as usize).collect();
    let lengths: Vec<usize> = block.iter().map(|&b| b.max(0) as usize).chain(counts).collect();
    let beyond: usize = to[2..].iter().product();
    let places = ArrayD::from_shape_fn(IxDyn(&lengths), |index| {
        let place = (0..rank).try_fold(0, |place, i| {
            let at = index[rank + i] as i64 * strides[i] + index[i] as i64 * dilations[i] - pads[i];
            (0..to[i + 2] as i64).contains(&at).then(|| place * to[i + 2] as i64 + at)
        });
        place.unwrap_or(beyond as i64)
    });
    let places: Vec<i64> = places.into_iter().collect();
    let flat = tape.reshape(&dy, &[to[0], to[1], beyond]);
    let padded = tape.pad(&flat, 2, 0, 1);
    let kind = (tape.dtype(&dy), vec![to[0], to[1], places.len()]);
    let places = tape.constant_integers(&places);
    let dx = tape.node("Gather", &[&padded, &places], vec![attribute("axis", 2)], kind);
    Ok(vec![Some(tape.reshape(&dx, &from).into()), None, None])
}

/// The first elements of each sequence are reversed in `dy` as they were in `x`.
pub(super) fn reverse_sequence(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let kind = (tape.dtype(&dy), tape.shape(&dy));
    let dx = tape.node("ReverseSequence", &[&dy, node.required(1)?], node.attributes.clone(), kind);
    Ok(vec![Some(dx.into()), None])
}

/// `dx[i, j] = dy` times the cofactor of `x[i, j]`: the determinant without row `i` and column `j`, its sign
/// changing from place to place.
pub(super) fn determinant(node: &Node, grads: &[Option<Name>], tape: &mut Tape) -> Grads {
    let dy = first(node, grads)?;
    let x = node.required(0)?;
    let shape = tape.shape(x);
    let (leading, n) = (&shape[..shape.len() - 2], shape[shape.len() - 1]);
    let dy = tape.reshape(&dy, &[leading, &[1, 1]].concat());
    if n == 1 {
        return Ok(vec![Some(dy.into())]);
    }
    let skip = |k: usize, without: usize| k + usize::from(k >= without);
    let places =
        ArrayD::from_shape_fn(IxDyn(&[n, n, n - 1, n - 1]), |i| (skip(i[2], i[0]) * n + skip(i[3], i[1])) as i64);
    let places = tape.constant(Tensor::I64(places));
    let flat = tape.reshape(x, &[leading, &[n * n]].concat());
    let kind = (tape.dtype(x), [leading, &[n, n, n - 1, n - 1]].concat());
    let minors = tape.node("Gather", &[&flat, &places], vec![attribute("axis", leading.len() as i64)], kind);
    let kind = (tape.dtype(x), shape.clone());
    let minors = tape.node("Det", &[&minors], vec![], kind);
    let signs = Array2::from_shape_fn((n, n), |(i, j)| if (i + j) % 2 == 0 { 1.0 } else { -1.0 });
    let signs = tape.constant_floats(tape.dtype(x), signs.into_dyn());
    let cofactors = tape.mul(&minors, &signs);
    Ok(vec![Some(tape.mul(&dy, &cofactors).into())])
}
