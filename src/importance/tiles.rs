//! Wide weights, tile by tile: a tile of the weight stays in the cache while all samples of a batch pass
//! over it, so that the gradient of a sample is never written to memory. Tiles do not share anything, and each is
//! handled by one thread from the first sample to the last: the result does not depend on the threads.

use super::ImportanceError;
use super::columns::Image;
use super::contract::{Part, Power, Real, Values, get, moved};
use crate::autograd::{Contraction, Weight};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayViewMut2, s};
use rayon::prelude::*;
use std::ops::Range;

/// Weights in a tile: 256 KiB of sums in f64 and 128 KiB for the gradient of a sample in f32.
pub(super) const TILE: usize = 1 << 15;

/// Some columns of the gradient of one group, a matrix of `rows` rows.
struct Tile {
    group: usize,
    columns: Range<usize>,
}

/// Adds what a batch contributes, where samples are kept apart and the weight has one use that is a matrix
/// product or a convolution with groups larger than a tile; says whether it did.
///
/// # Errors
/// As [`super::accumulate`].
pub(super) fn accumulate<T: Real>(
    weight: &Weight,
    batch: usize,
    values: &Values,
    power: Power,
    tile: usize,
    total: &mut [f64],
) -> Result<bool, ImportanceError> {
    let [only] = &weight.uses[..] else { return Ok(false) };
    let apart = only.contraction.operands().iter().any(|o| o.samples.is_some());
    if !apart || moved(&only.views) {
        return Ok(false);
    }
    let (groups, rows, width) = match &only.contraction {
        Contraction::Product { left, right } => {
            (1, left.shape.last().copied().unwrap_or(1), right.shape.last().copied().unwrap_or(1))
        }
        Contraction::Conv { dy, geometry, .. } => {
            let rows = dy.shape[1] / geometry.group;
            (geometry.group, rows, total.len() / dy.shape[1].max(1))
        }
        _ => return Ok(false),
    };
    if rows * width <= tile || groups * rows * width != total.len() {
        return Ok(false);
    }
    let at_once = (tile / rows).max(1);
    let starts = |group| (0..width).step_by(at_once).map(move |start| (group, start));
    let tiles: Vec<Tile> = (0..groups)
        .flat_map(starts)
        .map(|(group, start)| Tile { group, columns: start..width.min(start + at_once) })
        .collect();
    let sum = |tile: &Tile| {
        let size = rows * tile.columns.len();
        let (mut sums, mut scratch, mut buffer) = (vec![0.0; size], vec![T::zero(); size], Vec::new());
        for sample in 0..batch {
            scratch.fill(T::zero());
            let part = Part { sample, batch };
            if let Ok(out) = ArrayViewMut2::from_shape((rows, tile.columns.len()), &mut scratch[..]) {
                add(&only.contraction, &part, values, tile, &mut buffer, out)?;
            }
            sums.iter_mut().zip(&scratch).for_each(|(sum, &g)| *sum += power.apply(g.into()));
        }
        Ok::<_, ImportanceError>(sums)
    };
    let sums: Vec<Vec<f64>> = tiles.par_iter().map(sum).collect::<Result<_, _>>()?;
    for (tile, sums) in tiles.iter().zip(sums) {
        let group = &mut total[tile.group * rows * width..][..rows * width];
        for (row, sums) in group.chunks_exact_mut(width).zip(sums.chunks_exact(tile.columns.len())) {
            row[tile.columns.clone()].iter_mut().zip(sums).for_each(|(total, &sum)| *total += sum);
        }
    }
    Ok(true)
}

/// Adds the gradient of one sample for one tile to `out`.
fn add<T: Real>(
    contraction: &Contraction,
    part: &Part,
    values: &Values,
    tile: &Tile,
    buffer: &mut Vec<T>,
    mut out: ArrayViewMut2<T>,
) -> Result<(), ImportanceError> {
    match contraction {
        Contraction::Product { left, right } => {
            let (l, r) = (part.rows(get::<T>(values, left)?, left), part.rows(get::<T>(values, right)?, right));
            let r = r.slice(s![.., tile.columns.clone()]);
            general_mat_mul(T::one(), &l.t(), &r, T::one(), &mut out);
        }
        Contraction::Conv { x, dy, geometry } => {
            for index in part.indices(x) {
                let image = Image::of(get::<T>(values, x)?, get::<T>(values, dy)?, index, geometry);
                image.add(tile.group, tile.columns.clone(), buffer, out.view_mut());
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{ConvGeometry, Operand, Use};
    use crate::specialise::samples::SampleAxis;
    use crate::tensor::Tensor;
    use proptest::prelude::*;

    const BATCH: usize = 3;

    /// Numbers that look random, the same every time.
    fn numbers(shape: &[usize], seed: u64) -> Tensor {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1 << 23) as f64 - 1.0
        };
        Tensor::F64(ndarray::ArrayD::from_shape_simple_fn(shape, &mut next))
    }

    fn operand(name: &str, shape: Vec<usize>) -> Operand {
        let samples = Some(SampleAxis { axis: 0, outer: 1, inner: 1 });
        Operand { name: name.into(), shape, samples }
    }

    /// Tiles of any size give what one tile gives.
    fn same(shape: Vec<usize>, contraction: Contraction, tile: usize) {
        let [a, b] = contraction.operands()[..] else { return };
        let (a, b) = ((a.name.clone(), numbers(&a.shape, 1)), (b.name.clone(), numbers(&b.shape, 2)));
        let values: Values = [(&*a.0, &a.1), (&*b.0, &b.1)].into();
        let weight = Weight { name: "w".into(), shape, uses: vec![Use { contraction, views: vec![] }] };
        let len = weight.shape.iter().product();
        let (mut tiled, mut whole) = (vec![0.0; len], vec![0.0; len]);
        let did = accumulate::<f64>(&weight, BATCH, &values, Power::Absolute, tile, &mut tiled);
        assert!(did.is_ok_and(|did| did));
        assert!(super::super::accumulate(&weight, BATCH, &values, Power::Absolute, &mut whole).is_ok());
        tiled.iter().zip(&whole).for_each(|(a, b)| assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}"));
    }

    proptest! {
        #[test]
        fn products(rows in 1usize..4, left in 2usize..6, right in 2usize..9, tile in 1usize..3) {
            let contraction = Contraction::Product {
                left: operand("l", vec![BATCH, rows, left]),
                right: operand("r", vec![BATCH, rows, right]),
            };
            same(vec![left, right], contraction, tile);
        }

        #[test]
        fn convolutions(group in 1usize..3, outputs in 1usize..4, channels in 1usize..4, kernel in 2usize..4,
                        stride in 1usize..3, dilation in 1usize..3, pad in 0usize..3, tile in 1usize..3) {
            let size = 7;
            let reach = dilation * (kernel - 1) + 1;
            let out = (size + 2 * pad - reach) / stride + 1;
            let geometry = ConvGeometry {
                group,
                kernel: vec![kernel; 2],
                strides: vec![stride; 2],
                dilations: vec![dilation; 2],
                pads: vec![pad; 2],
            };
            let contraction = Contraction::Conv {
                x: operand("x", vec![BATCH, group * channels, size, size]),
                dy: operand("dy", vec![BATCH, group * outputs, out, out]),
                geometry,
            };
            same(vec![group * outputs, channels, kernel, kernel], contraction, tile);
        }
    }
}
