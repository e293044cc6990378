//! Activations and gradients packed into panels: a few columns side by side, position after position.

use super::kernel::{Line, Walk, lines};
use crate::autograd::ConvGeometry;
use std::ops::Range;

/// Rows of a matrix, `columns` of them from `first` on, each cut to a panel: `out[row][column]`.
pub(super) fn of_rows(rows: &[&[f32]], columns: Range<usize>, width: usize, out: &mut [f32]) {
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        let own = &row[columns.clone()];
        out[..own.len()].copy_from_slice(own);
    }
}

/// Planes (channels of an image) side by side: `out[place][plane]`. Lines of `length` go to where `places` says.
pub(super) fn of_planes(planes: &[&[f32]], length: usize, places: &[usize], width: usize, out: &mut [f32]) {
    // A few planes at a time, so that what is written stays in the cache.
    const PLANES: usize = 8;
    for (group, planes) in planes.chunks(PLANES).enumerate() {
        let column = group * PLANES;
        for (line, &place) in places.iter().enumerate() {
            let out = &mut out[place * width..][..length * width];
            let own = line * length..(line + 1) * length;
            if let [a, b, c, d, e, f, g, h] = planes {
                let [a, b, c, d, e, f, g, h] = [a, b, c, d, e, f, g, h].map(|plane| &plane[own.clone()]);
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    out[column..column + PLANES].copy_from_slice(&[a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]]);
                }
            } else {
                for (offset, plane) in planes.iter().enumerate() {
                    let to = out.chunks_exact_mut(width);
                    to.zip(&plane[own.clone()]).for_each(|(out, &x)| out[column + offset] = x);
                }
            }
        }
    }
}

/// Some channels of an image that has so many of them side by side: `out[place][column]`. Lines of `length` go to where
/// `places` says.
pub(super) fn of_places(
    image: &[f32],
    all: usize,
    channels: &[usize],
    length: usize,
    places: &[usize],
    width: usize,
    out: &mut [f32],
) {
    let first = channels.first().copied().unwrap_or(0);
    let neighbours = channels.iter().enumerate().all(|(i, &channel)| channel == first + i);
    for (line, &place) in image.chunks_exact(length * all).zip(places) {
        let out = out[place * width..][..length * width].chunks_exact_mut(width);
        for (seen, out) in line.chunks_exact(all).zip(out) {
            if neighbours {
                out[..channels.len()].copy_from_slice(&seen[first..][..channels.len()]);
            } else {
                out.iter_mut().zip(channels).for_each(|(out, &channel)| *out = seen[channel]);
            }
        }
    }
}

/// How a convolution sees an image that was padded.
pub(super) struct Padded {
    /// Padded sizes of the spatial axes.
    sizes: Vec<usize>,
    /// Where each line of the image (along the last axis) begins in the padded one.
    pub places: Vec<usize>,
    pub walk: Walk,
}

impl Padded {
    /// For an image of `input` spatial sizes whose convolution gives `output`.
    pub fn new(geometry: &ConvGeometry, input: &[usize], output: &[usize]) -> Padded {
        let g = geometry;
        // As far as the last position's last tap reaches, and the whole image.
        let reach = |a: usize| (output[a] - 1) * g.strides[a] + (g.kernel[a] - 1) * g.dilations[a] + 1;
        let sizes: Vec<usize> = (0..input.len()).map(|a| reach(a).max(g.pads[a] + input[a])).collect();
        let mut steps = vec![1; input.len()];
        for axis in (1..input.len()).rev() {
            steps[axis - 1] = steps[axis] * sizes[axis];
        }
        let last = input.len() - 1;
        let ones = vec![1; input.len()];
        let taps = grid(&g.kernel, &g.dilations, &steps);
        let mut outer = output.to_vec();
        outer[last] = 1;
        let starts = grid(&outer, &g.strides, &steps);
        let lines: Vec<Line> =
            starts.into_iter().flat_map(|start| lines(start, output[last], g.strides[last])).collect();
        let mut outer = input.to_vec();
        outer[last] = 1;
        let before: usize = g.pads.iter().zip(&steps).map(|(p, s)| p * s).sum();
        let places = grid(&outer, &ones, &steps).into_iter().map(|place| place + before).collect();
        Padded { sizes, places, walk: Walk { lines, step: g.strides[last], taps } }
    }

    /// Places of a padded image.
    pub fn len(&self) -> usize {
        self.sizes.iter().product()
    }
}

/// The offsets of all points of a grid of these sizes, row-major, whose neighbours along an axis lie
/// `scales · steps` apart.
fn grid(sizes: &[usize], scales: &[usize], steps: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for ((&size, &scale), &step) in sizes.iter().zip(scales).zip(steps) {
        offsets = offsets.into_iter().flat_map(|o| (0..size).map(move |i| o + i * scale * step)).collect();
    }
    offsets
}

/// What each column, a tap of the kernel on a padded plane, sees at each position: `out[position][column]`.
pub(super) fn of_columns(columns: &[&[f32]], walk: &Walk, width: usize, out: &mut [f32]) {
    let mut out = out.chunks_exact_mut(width);
    for line in &walk.lines {
        for (position, out) in (0..line.len).zip(&mut out) {
            let place = line.start + position * walk.step;
            out.iter_mut().zip(columns).for_each(|(out, column)| *out = column[place]);
        }
    }
}
