//! Which convolutions are computed by tiles, of what size, and their kernels.

use crate::kernels::memory::Memory;
use crate::kernels::product::cut;
use crate::kernels::registers::{Sizes, sizes};
use crate::kernels::winograd::{Filter, Four, TAPS, Two, kernel};
use pulp::Arch;

/// Of the results of whole tiles in whole vectors and rows of registers, the part that must be of use.
const OF_USE: f64 = 0.6;

/// Results along each axis of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Method {
    Two = 2,
    Four = 4,
}

impl Method {
    /// Fewer channels or outputs make the transforms as long as the products.
    fn channels(self) -> usize {
        match self {
            Method::Two => 64,
            Method::Four => 24,
        }
    }
}

/// A convolution with 3×3 taps, one apart, at all places one apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub method: Method,
    pub channels: usize,
    pub outputs: usize,
    /// Height and width.
    pub input: [usize; 2],
    /// Zeros above and left of the image.
    pub pads: [usize; 2],
    pub output: [usize; 2],
}

impl Shape {
    /// Tiles along each axis.
    pub fn tiles(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(self.method as usize))
    }

    /// Rows of results above a row of tiles, of all images one after the other.
    pub fn above(&self, row: usize) -> usize {
        let down = self.tiles()[0];
        row / down * self.output[0] + row % down * self.method as usize
    }

    /// Whether this way is faster than a sum over taps for so many images. The number of threads has no say in it: it must
    /// not change the bits of a result.
    pub fn is_worth_it(&self, images: usize, arch: Arch) -> bool {
        let Sizes { left, lanes } = sizes(arch);
        let [own, all] = [self.output, self.tiles()].map(|sizes| sizes.iter().product::<usize>());
        let tiles = (images * all).next_multiple_of(left) * (self.method as usize).pow(2);
        let computed = tiles * self.outputs.next_multiple_of(lanes);
        let of_use = (images * own * self.outputs) as f64 >= OF_USE * computed as f64;
        of_use && self.is_wide_enough()
    }

    /// Whether this way is faster for many images of any size.
    pub fn is_wide_enough(&self) -> bool {
        self.channels.min(self.outputs) >= self.method.channels()
    }

    /// Bytes of the transformed kernel, but for what fills the last panel.
    pub fn kernel_bytes(&self) -> usize {
        (self.method as usize + TAPS - 1).pow(2) * self.channels * self.outputs * size_of::<f32>()
    }
}

/// A kernel `[outputs, channels, 3, 3]` as [`Images`](super::Images) reads it: for each place `[channels, outputs]` in
/// [panels](crate::kernels::product::panels).
pub(crate) fn transformed(arch: Arch, weights: &[f32], shape: &Shape) -> Memory {
    match shape.method {
        Method::Two => packed::<Two, 2, 4>(arch, weights, shape),
        Method::Four => packed::<Four, 4, 6>(arch, weights, shape),
    }
}

fn packed<F: Filter<OUT, TILE>, const OUT: usize, const TILE: usize>(
    arch: Arch,
    weights: &[f32],
    &Shape { channels, outputs, .. }: &Shape,
) -> Memory {
    let (lanes, weights) = (sizes(arch).lanes, weights.as_chunks::<{ TAPS * TAPS }>().0);
    let size = channels * outputs.next_multiple_of(lanes);
    let mut packed = Memory::zeros(TILE * TILE * size);
    // Each weight is read once: all places of its tile are written at a time.
    for outputs in cut(outputs, lanes) {
        let (first, width) = (outputs.start * channels, outputs.len().next_multiple_of(lanes));
        for channel in 0..channels {
            for (column, output) in outputs.clone().enumerate() {
                let tile = kernel::<F, OUT, TILE>(&weights[output * channels + channel]);
                let own = packed[first + channel * width + column..].iter_mut().step_by(size);
                own.zip(tile.as_flattened()).for_each(|(own, &element)| *own = element);
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worth_it_where_tiles_are_full() {
        let shape = |method, channels, size| {
            let [input, output] = [[size; 2]; 2];
            Shape { method, channels, outputs: channels, input, pads: [1; 2], output }
        };
        let arch = Arch::new();
        assert!(shape(Method::Four, 64, 56).is_worth_it(16, arch));
        assert!(shape(Method::Two, 64, 32).is_worth_it(64, arch));
        // Few channels, a vector of tiles or tiles of which most is not of use.
        assert!(!shape(Method::Four, 3, 56).is_worth_it(16, arch));
        assert!(!shape(Method::Two, 32, 56).is_worth_it(16, arch));
        assert!(!shape(Method::Four, 64, 8).is_worth_it(1, arch));
        assert!(!shape(Method::Four, 64, 5).is_worth_it(64, arch));
    }
}
