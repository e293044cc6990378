//! The weight gradient of a convolution: `dY · columns(X)ᵀ`, where row `c · taps + t` of the columns is what tap
//! `t` of the kernel sees of channel `c` at every output position.

use super::contract::Real;
use crate::autograd::ConvGeometry;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2, s};
use std::ops::Range;

/// Elements of the columns that are made at a time, so that they stay in the cache until they are multiplied,
/// but at least so many positions: a matrix product over fewer is slow.
const BLOCK: usize = 1 << 16;
const POSITIONS: usize = 256;

/// One image and the gradient of the output for it.
pub(super) struct Image<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    /// Spatial sizes.
    input: &'a [usize],
    output: &'a [usize],
    /// Channels in a group.
    channels: usize,
    outputs: usize,
    geometry: &'a ConvGeometry,
}

impl<'a, T: Real> Image<'a, T> {
    /// Image `index` of a batch `[images, channels, …]`.
    pub fn of(x: &'a ArrayViewD<'a, T>, dy: &'a ArrayViewD<'a, T>, index: usize, geometry: &'a ConvGeometry) -> Self {
        let part = |array: &'a ArrayViewD<'a, T>| {
            let size: usize = array.shape()[1..].iter().product();
            array.as_slice().and_then(|all| all.get(index * size..(index + 1) * size)).unwrap_or_default()
        };
        Image {
            x: part(x),
            dy: part(dy),
            input: &x.shape()[2..],
            output: &dy.shape()[2..],
            channels: x.shape()[1] / geometry.group,
            outputs: dy.shape()[1] / geometry.group,
            geometry,
        }
    }

    /// Columns of the gradient of one group: `channels · taps`.
    pub fn width(&self) -> usize {
        self.channels * self.geometry.kernel.iter().product::<usize>()
    }

    /// Adds to `out`, `[outputs, columns]`, these columns of the gradient of a group.
    pub fn add(&self, group: usize, columns: Range<usize>, buffer: &mut Vec<T>, mut out: ArrayViewMut2<T>) {
        let taps: usize = self.geometry.kernel.iter().product();
        let plane: usize = self.input.iter().product();
        let line = self.output.last().copied().unwrap_or(1);
        let lines: usize = self.output.iter().product::<usize>() / line.max(1);
        let positions = lines * line;
        let dy = &self.dy[group * self.outputs * positions..][..self.outputs * positions];
        let Ok(dy) = ArrayView2::from_shape((self.outputs, positions), dy) else { return };
        let at_once = (BLOCK / columns.len().max(1)).max(POSITIONS).div_ceil(line.max(1));
        for first in (0..lines).step_by(at_once) {
            let block = first..lines.min(first + at_once);
            let width = block.len() * line;
            buffer.clear();
            buffer.resize(columns.len() * width, T::zero());
            for (column, row) in columns.clone().zip(buffer.chunks_exact_mut(width.max(1))) {
                let channel = group * self.channels + column / taps;
                self.shifted(&self.x[channel * plane..][..plane], column % taps, block.clone(), row);
            }
            let Ok(block_columns) = ArrayView2::from_shape((columns.len(), width), &buffer[..]) else { return };
            let dy = dy.slice(s![.., first * line..first * line + width]);
            general_mat_mul(T::one(), &dy, &block_columns.t(), T::one(), &mut out);
        }
    }

    /// What one tap of the kernel sees of a channel at the output positions of some lines (rows along the
    /// last axis); `row` comes zeroed and stays zero outside the image.
    fn shifted(&self, image: &[T], tap: usize, lines: Range<usize>, row: &mut [T]) {
        let (g, input, output) = (self.geometry, self.input, self.output);
        let last = input.len() - 1;
        // Offset of the tap along each axis, before padding.
        let mut offsets = vec![0i64; input.len()];
        let mut rest = tap;
        for axis in (0..=last).rev() {
            offsets[axis] = ((rest % g.kernel[axis]) * g.dilations[axis]) as i64 - g.pads[axis] as i64;
            rest /= g.kernel[axis];
        }
        let (stride, offset) = (g.strides[last], offsets[last]);
        // Positions of a line that lie inside the image: 0 <= position · stride + offset < length.
        let from = ((-offset).max(0) as usize).div_ceil(stride);
        let to = ((input[last] as i64 - offset).max(0) as usize).div_ceil(stride).min(output[last]);
        for (line, target) in lines.zip(row.chunks_exact_mut(output[last].max(1))) {
            let (mut rest, mut base, mut inside) = (line, 0i64, from < to);
            let mut step = input[last] as i64;
            for axis in (0..last).rev() {
                let at = (rest % output[axis] * g.strides[axis]) as i64 + offsets[axis];
                rest /= output[axis];
                inside &= (0..input[axis] as i64).contains(&at);
                base += at * step;
                step *= input[axis] as i64;
            }
            if !inside {
                continue;
            }
            let source = &image[(base + (from * stride) as i64 + offset) as usize..];
            let target = &mut target[from..to];
            match stride {
                1 => target.copy_from_slice(&source[..target.len()]),
                _ => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, &x)| *t = x),
            }
        }
    }
}
