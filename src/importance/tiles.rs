//! The weight gradient of a convolution with 3×3 taps by [Winograd's method](crate::kernels::winograd): for each place of a
//! tile a product over the tiles, which are few in place of many positions.
//!
//! Only for the sum over all images: a gradient that is zero because the tap never meets a gradient of the output gets
//! rounding instead, which a sum of absolute values of single samples would keep.

use super::fused::{Panel, Source, Step};
use super::held::{put_back, zeros};
use super::source::Convolution;
use crate::kernels::memory::Memory;
use crate::kernels::registers::{multiply, sizes};
use crate::kernels::winograd::{FourGradient, FourInput, FourTaps, TAPS, Transform};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Results and inputs along each axis of a tile, and its places.
const OUT: usize = 4;
const TILE: usize = 6;
const PLACES: usize = TILE * TILE;
/// Bytes of right panels that are transformed at a time.
const CACHED: usize = 1 << 18;
/// Left panels that are multiplied with a right one while it is in the cache.
const AT_ONCE: usize = 4;

/// How the images of a convolution are cut into tiles.
pub(super) struct Tiles<'a> {
    convolution: &'a Convolution<'a>,
    arch: Arch,
    /// Along each axis.
    counts: [usize; 2],
}

impl<'a> Tiles<'a> {
    /// None where a sum over positions is as fast, or what is computed is no such convolution.
    pub fn new(convolution: &'a Convolution<'a>, arch: Arch) -> Option<Self> {
        let g = convolution.geometry;
        let near = g.strides.iter().chain(&g.dilations).all(|&step| step == 1);
        let [height, width] = convolution.result[..] else { return None };
        let lanes = sizes(arch).lanes;
        if g.kernel != [TAPS; 2] || !near || g.group != 1 || convolution.channels.min(convolution.outputs) < lanes {
            return None;
        }
        let counts = [height, width].map(|size| size.div_ceil(OUT));
        // In multiplications: for each place, and about as long as those for the transforms of a sample.
        let tiles = 1.15 * (PLACES * counts[0] * counts[1]) as f64 + 125.0;
        (tiles < (TAPS * TAPS * height * width) as f64).then_some(Tiles { convolution, arch, counts })
    }

    fn len(&self) -> usize {
        self.counts.iter().product()
    }

    fn lanes(&self) -> usize {
        sizes(self.arch).lanes
    }

    /// Columns of a left panel: as many of them fill a vector.
    pub fn left(&self) -> usize {
        rows(self.lanes())
    }

    /// Elements of the left panels of an image.
    pub fn size(&self) -> usize {
        self.convolution.rows().next_multiple_of(self.lanes()) * PLACES * self.len()
    }

    /// `A dY Aᵀ` of some images, `[image, place, vector of outputs, tile, output]`.
    pub fn lefts(&self, images: Range<usize>) -> Memory {
        let (lanes, outputs) = (self.lanes(), self.convolution.rows());
        let vectors = outputs.div_ceil(lanes);
        let [_, across] = self.counts;
        let [count, length] = self.convolution.result[..] else { return Memory::default() };
        let lines = lines(OUT * across, [0, 0], count);
        let mut packed = zeros(images.len() * self.size());
        packed.par_chunks_mut(self.size()).zip(images).for_each(|(out, image)| {
            let mut planes = zeros(self.len() * OUT * OUT * lanes);
            for vector in 0..vectors {
                let columns = vector * lanes..outputs.min((vector + 1) * lanes);
                if columns.len() < lanes {
                    planes.fill(0.0);
                }
                let outputs: Vec<usize> = columns.collect();
                self.convolution.pack_gradient(image, &outputs, length, &lines, lanes, &mut planes);
                let (place, first) = (vectors * self.len() * lanes, vector * self.len() * lanes);
                self.arch.dispatch(Squares {
                    planes: &planes,
                    width: OUT * across,
                    counts: self.counts,
                    vectors: 1,
                    out: &mut out[first..],
                    place,
                    transform: PhantomData::<FourGradient>,
                });
            }
            put_back(planes);
        });
        packed
    }

    /// Adds what some images contribute to the sums of a panel.
    pub fn add(&self, panel: &Panel, step: &Step, sums: &mut [f32]) {
        let convolution = self.convolution;
        let width = panel.width(self.lanes());
        let [down, across] = self.counts;
        let (&[above, left], &[count, length]) = (&convolution.geometry.pads[..], &convolution.image[..]) else {
            return;
        };
        // As wide as tiles and image reach.
        let across = (OUT * across + TILE - OUT).max(left + length);
        let down = (OUT * down + TILE - OUT).max(above + count);
        let lines = lines(across, [above, left], count);
        let mut planes = zeros(down * across * width);
        let size = PLACES * self.len() * width;
        let at_once = (CACHED / (4 * size).max(1)).max(1);
        let mut rights = zeros(at_once.min(step.images.len()) * size);
        let mut products = zeros(AT_ONCE * self.left() * PLACES * width);
        let of_image = self.size();
        let channels: Vec<usize> = panel.columns.clone().collect();
        let all: Vec<usize> = step.images.clone().collect();
        for chunk in all.chunks(at_once) {
            for (&image, out) in chunk.iter().zip(rights.chunks_exact_mut(size)) {
                convolution.pack_input(image, &channels, &lines, width, &mut planes);
                self.arch.dispatch(Squares {
                    planes: &planes,
                    width: across,
                    counts: self.counts,
                    vectors: width / self.lanes(),
                    out,
                    place: self.len() * width,
                    transform: PhantomData::<FourInput>,
                });
            }
            let first = (chunk[0] - step.images.start) * of_image;
            let lefts: Vec<&[f32]> = step.lefts[first..].chunks_exact(of_image).take(chunk.len()).collect();
            let rights: Vec<&[f32]> = rights.chunks_exact(size).take(chunk.len()).collect();
            let (tiles, wide, products) = (self.len(), panel.wide, &mut products[..]);
            self.arch.dispatch(Contract { lefts: &lefts, rights: &rights, tiles, wide, products, sums });
        }
        put_back(planes);
        put_back(rights);
        put_back(products);
    }
}

/// Where so many lines of an image begin among lines of `width`, with zeros above and left of it.
fn lines(width: usize, [above, left]: [usize; 2], count: usize) -> Vec<usize> {
    (0..count).map(|line| (above + line) * width + left).collect()
}

/// Columns of a left panel, where a vector has so many elements: a divisor, for which registers are enough.
fn rows(lanes: usize) -> usize {
    if lanes < 16 { lanes.min(4) } else { 8 }
}

/// Transforms all tiles of an image, `[line, column, vector]`, to `[place, tile, vector]`.
struct Squares<'a, T, const I: usize> {
    planes: &'a [f32],
    /// Columns of a line.
    width: usize,
    counts: [usize; 2],
    vectors: usize,
    out: &'a mut [f32],
    /// Elements from place to place.
    place: usize,
    transform: PhantomData<T>,
}

impl<T: Transform<I, TILE>, const I: usize> WithSimd for Squares<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (planes, _) = S::as_simd_f32s(self.planes);
        let [down, across] = self.counts;
        for tile in 0..down * across {
            let corner = (tile / across * self.width + tile % across) * OUT;
            for vector in 0..self.vectors {
                let mut square = [[simd.splat_f32s(0.0); I]; I];
                for (i, row) in square.iter_mut().enumerate() {
                    let seen = planes[(corner + i * self.width) * self.vectors + vector..].iter().step_by(self.vectors);
                    row.iter_mut().zip(seen).for_each(|(element, &x)| *element = x);
                }
                let square = T::square(simd, &square);
                let first = (tile * self.vectors + vector) * S::F32_LANES;
                for (out, &value) in self.out[first..].chunks_mut(self.place).zip(square.as_flattened()) {
                    S::as_mut_simd_f32s(&mut out[..S::F32_LANES]).0[0] = value;
                }
            }
        }
    }
}

/// Adds the gradient of some images.
struct Contract<'a> {
    /// For each image `[place, vector of outputs, tile, output]`.
    lefts: &'a [&'a [f32]],
    /// For each image `[place, tile, column]`.
    rights: &'a [&'a [f32]],
    tiles: usize,
    wide: bool,
    /// `[left panel, place, row, column]`, of some left panels.
    products: &'a mut [f32],
    /// `[left panel, tap, row, column]`, of all.
    sums: &'a mut [f32],
}

impl WithSimd for Contract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (rows(S::F32_LANES), self.wide) {
            (8, true) => self.run::<S, 8, 2>(simd),
            (8, false) => self.run::<S, 8, 1>(simd),
            (4, true) => self.run::<S, 4, 2>(simd),
            (4, false) => self.run::<S, 4, 1>(simd),
            (_, true) => self.run::<S, 1, 2>(simd),
            (_, false) => self.run::<S, 1, 1>(simd),
        }
    }
}

impl Contract<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let vector = self.tiles * S::F32_LANES;
        let products = S::as_mut_simd_f32s(self.products).0.as_chunks_mut::<V>().0.as_chunks_mut::<R>().0;
        let sums = S::as_mut_simd_f32s(self.sums).0.as_chunks_mut::<V>().0.as_chunks_mut::<R>().0;
        for (group, sums) in sums.chunks_mut(AT_ONCE * TAPS * TAPS).enumerate() {
            let panels = sums.len() / (TAPS * TAPS);
            for place in 0..PLACES {
                for panel in 0..panels {
                    let mut product = [[simd.splat_f32s(0.0); V]; R];
                    for (left, right) in self.lefts.iter().zip(self.rights) {
                        let column = (group * AT_ONCE + panel) * R;
                        let first = place * (left.len() / PLACES) + column / S::F32_LANES * vector;
                        let left = left[first + column % S::F32_LANES..].chunks(S::F32_LANES);
                        let right = S::as_simd_f32s(right).0.as_chunks::<V>().0;
                        let right = &right[place * self.tiles..][..self.tiles];
                        for (left, right) in left.zip(right) {
                            if let Some(left) = left.first_chunk::<R>() {
                                multiply(simd, left, right, &mut product);
                            }
                        }
                    }
                    products[panel * PLACES + place] = product;
                }
            }
            for (products, sums) in products.chunks_exact(PLACES).zip(sums.chunks_exact_mut(TAPS * TAPS)) {
                for row in 0..R {
                    for v in 0..V {
                        let mut square = [[simd.splat_f32s(0.0); TILE]; TILE];
                        for (element, product) in square.as_flattened_mut().iter_mut().zip(products) {
                            *element = product[row][v];
                        }
                        let gradient = FourTaps::square(simd, &square);
                        for (sum, &g) in sums.iter_mut().zip(gradient.as_flattened()) {
                            sum[row][v] = simd.add_f32s(sum[row][v], g);
                        }
                    }
                }
            }
        }
    }
}
