//! Weight gradients in single precision, fused: the product over the positions of a sample, its absolute value and
//! the sum over samples in one pass over tiles of the weight that stay in registers, so that the gradient of a sample is
//! never written to memory.
//!
//! A weight is a matrix for each group, of `rows` rows and `columns · taps` columns. Its tasks are panels of columns;
//! they share nothing, and each goes through the samples in their order: the bits do not depend on the threads.

use super::ImportanceError;
use super::contract::{Part, Values, get, moved};
use super::flush::Flush;
use super::held::{put_back, zeros};
use super::kernel::{Products, Walk};
use super::source::{Convolution, Product};
use super::tiles::Tiles;
use crate::autograd::{Contraction, Power, Use, Weight, places};
use crate::kernels::memory::Memory;
use crate::kernels::product;
use crate::kernels::registers::{Sizes, sizes};
use ndarray::{ArrayViewMut2, ArrayViewMut3, Axis};
use pulp::Arch;
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of right panels that are packed at a time, so that they stay in the cache.
const CACHED: usize = 1 << 18;
/// Bytes of left panels that are packed at a time, so that they stay in the cache that threads share.
const SHARED: usize = 1 << 23;
/// Columns and taps of neighbouring panels that one thread has the sums of, in panels: what it reads and adds to of a row
/// lies together.
const TOGETHER: usize = 4;

/// Adds what a batch contributes, where the weight has one use whose contraction is a product or a convolution; says
/// whether it did.
///
/// # Errors
/// As [`super::accumulate`].
pub(super) fn accumulate(
    arch: Arch,
    weight: &Weight,
    batch: usize,
    values: &Values,
    power: Power,
    total: &mut [f64],
) -> Result<bool, ImportanceError> {
    let [Use { contraction, views }] = &weight.uses[..] else { return Ok(false) };
    if total.is_empty() {
        return Ok(false);
    }
    if moved(views) {
        // Elements that are seen once each are added where they are from.
        let places = places(&weight.shape, views);
        let mut free = vec![true; total.len()];
        if !places.iter().all(|&place| std::mem::replace(&mut free[place], false)) {
            return Ok(false);
        }
        let mut seen = vec![0.0; places.len()];
        let uses = vec![Use { contraction: contraction.clone(), views: vec![] }];
        let straight = Weight { name: weight.name.clone(), shape: places.shape().to_vec(), uses };
        let did = accumulate(arch, &straight, batch, values, power, &mut seen)?;
        places.iter().zip(seen).for_each(|(&place, sum)| total[place] += sum);
        return Ok(did);
    }
    let apart = contraction.operands().iter().any(|o| o.samples.is_some());
    let samples = if apart { batch } else { 1 };
    Ok(match contraction {
        Contraction::Product { left, right } => {
            let Some(product) = Product::new(left, right, batch, power, values)? else { return Ok(false) };
            Fused::new(&product, power, arch).add(total)
        }
        Contraction::Conv { x, dy, geometry } => {
            let (images, grads) = (get::<f32>(values, x)?, get::<f32>(values, dy)?);
            let order = (0..samples).flat_map(|sample| Part { sample, batch }.indices(x)).collect();
            let made = Convolution::new(images, grads, order, samples, geometry, arch);
            let Some(convolution) = made else { return Ok(false) };
            match Tiles::new(&convolution, arch).filter(|_| !apart) {
                Some(tiles) => Fused::new(&convolution, power, arch).add_tiles(&tiles, total),
                None if convolution.by_channel() => {
                    convolution.add_by_channel(power, total);
                    true
                }
                None => Fused::new(&convolution, power, arch).add(total),
            }
        }
        _ => false,
    })
}

/// What is multiplied: for each image a left matrix and a right one, whose columns are packed on demand.
pub(super) trait Source: Sync {
    fn groups(&self) -> usize;
    /// Columns of the left matrix in a group.
    fn rows(&self) -> usize;
    /// Columns of the right matrix in a group.
    fn columns(&self) -> usize;
    fn samples(&self) -> usize;
    /// Images in all samples together.
    fn images(&self) -> usize;
    /// Places in a right panel.
    fn places(&self) -> usize;
    fn walk(&self) -> &Walk;
    /// Packs columns of the left matrix of an image, `[positions, width]`; `out` comes zeroed.
    fn pack_left(&self, image: usize, group: usize, columns: Range<usize>, width: usize, out: &mut [f32]);
    /// Packs columns of the right matrix of an image, `[places, width]`; `out` is zero outside what it writes.
    fn pack_right(&self, image: usize, group: usize, columns: Range<usize>, width: usize, out: &mut [f32]);
    /// Whether the power has been taken of the operands already.
    fn powered(&self) -> bool {
        false
    }
}

struct Fused<'a, S> {
    source: &'a S,
    power: Power,
    arch: Arch,
    sizes: Sizes,
}

/// A panel of columns of a group.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub group: usize,
    pub columns: Range<usize>,
    /// Whether it is two vectors wide.
    pub wide: bool,
}

impl Panel {
    pub fn width(&self, lanes: usize) -> usize {
        if self.wide { 2 * lanes } else { lanes }
    }
}

/// Some images on their way into the sums of panels.
pub(super) struct Step<'a> {
    pub images: Range<usize>,
    /// What was prepared of the left matrices.
    pub lefts: &'a [f32],
}

impl<'a, S: Source> Fused<'a, S> {
    fn new(source: &'a S, power: Power, arch: Arch) -> Self {
        Fused { source, power, arch, sizes: sizes(arch) }
    }

    /// Left panels of a group.
    fn lefts(&self) -> usize {
        self.source.rows().div_ceil(self.sizes.left)
    }

    /// Panels of a group that are neighbours, the work of one thread at a time.
    fn runs(&self) -> Vec<Vec<Panel>> {
        let (source, lanes) = (self.source, self.sizes.lanes);
        let fit = CACHED / (4 * source.places() * 2 * lanes).max(1);
        let share = source.groups() * source.columns() / (2 * lanes) / (4 * rayon::current_num_threads());
        let length = (TOGETHER / source.walk().taps.len().max(1)).min(fit).min(share).max(1);
        let of_group = |group| {
            let panels: Vec<_> = cut(source.columns(), lanes, group).collect();
            panels.chunks(length).map(<[Panel]>::to_vec).collect::<Vec<_>>()
        };
        (0..source.groups()).flat_map(of_group).collect()
    }

    /// Images that may be told apart no further, and what is taken of their sum.
    fn together(&self) -> (usize, Power) {
        match self.source.samples() {
            // The sum over images that need not be told apart may be taken in any pieces.
            0 | 1 => (1, Power::Signed),
            samples => ((self.source.images() / samples).max(1), self.power),
        }
    }

    fn add(&self, total: &mut [f64]) -> bool {
        let positions: usize = self.source.walk().lines.iter().map(|line| line.len).sum();
        let left = self.source.groups() * self.lefts() * positions * self.sizes.left;
        self.add_by(left, |images| self.pack_lefts(images), |run, step, sums| self.add_products(run, step, sums), total)
    }

    fn add_tiles(mut self, tiles: &Tiles, total: &mut [f64]) -> bool {
        self.sizes.left = tiles.left();
        let add = |run: &[Panel], step: &Step, sums: &mut [Memory]| {
            run.iter().zip(sums).for_each(|(panel, sums)| tiles.add(panel, step, sums));
        };
        self.add_by(tiles.size(), |images| tiles.lefts(images), add, total)
    }

    /// Adds what `add` adds to the sums of each panel, for as many images at a time as `prepare` keeps in the cache,
    /// of which one takes so many elements; not where `total` is not the weight's.
    fn add_by(
        &self,
        size: usize,
        prepare: impl Fn(Range<usize>) -> Memory,
        add: impl Fn(&[Panel], &Step, &mut [Memory]) + Sync,
        total: &mut [f64],
    ) -> bool {
        let (source, together) = (self.source, self.together().0);
        let (left, taps) = (self.sizes.left, source.walk().taps.len());
        // Of one sample the power is taken at the end.
        let after = if source.samples() == 1 && !source.powered() { self.power } else { Power::Signed };
        let runs = self.runs();
        let Some(pieces) = self.pieces(&runs, total) else { return false };
        let mut owned: Vec<_> = pieces.into_iter().map(|piece| (Some(piece), vec![])).collect();
        let at_once = (SHARED / (4 * size * together).max(1)).max(1) * together;
        for first in (0..source.images()).step_by(at_once) {
            let images = first..source.images().min(first + at_once);
            let lefts = prepare(images.clone());
            let step = Step { images, lefts: &lefts };
            runs.par_iter().zip(&mut owned).for_each(|(run, (rows, sums))| {
                if sums.is_empty() {
                    let size = |panel: &Panel| self.lefts() * taps * left * panel.width(self.sizes.lanes);
                    sums.extend(run.iter().map(|panel| zeros(size(panel))));
                }
                add(run, &step, sums);
                if step.images.end == source.images()
                    && let Some(rows) = rows.take()
                {
                    self.arch.dispatch(Flush { sums, left, taps, columns: 2 * self.sizes.lanes, after, rows });
                    sums.drain(..).for_each(put_back);
                }
            });
            put_back(lefts);
        }
        true
    }

    /// What each run adds to of `total`, `[group, row, (column, tap)]`: a piece of every row of its group.
    fn pieces<'t>(&self, runs: &[Vec<Panel>], total: &'t mut [f64]) -> Option<Vec<ArrayViewMut2<'t, f64>>> {
        let (source, taps) = (self.source, self.source.walk().taps.len());
        let shape = (source.groups(), source.rows(), source.columns() * taps);
        let mut pieces = Vec::new();
        let mut groups = ArrayViewMut3::from_shape(shape, total).ok()?.into_outer_iter_mut();
        for of_group in runs.chunk_by(|one, other| one[0].group == other[0].group) {
            let mut rest = groups.next()?;
            for run in of_group {
                let columns: usize = run.iter().map(|panel| panel.columns.len()).sum();
                let (own, other) = rest.split_at(Axis(1), columns * taps);
                pieces.push(own);
                rest = other;
            }
        }
        Some(pieces)
    }

    /// All left panels of some images, `[image, group, panel, position, column]`.
    fn pack_lefts(&self, images: Range<usize>) -> Memory {
        let (source, width) = (self.source, self.sizes.left);
        let positions: usize = source.walk().lines.iter().map(|line| line.len).sum();
        let mut packed = zeros(images.len() * source.groups() * self.lefts() * positions * width);
        packed.par_chunks_mut((positions * width).max(1)).enumerate().for_each(|(index, out)| {
            let (rest, panel) = (index / self.lefts(), index % self.lefts());
            let first = panel * width;
            let columns = first..source.rows().min(first + width);
            let image = images.start + rest / source.groups();
            source.pack_left(image, rest % source.groups(), columns, width, out);
        });
        packed
    }

    /// The sums of some panels: `[left panel, tap, row, column]`.
    fn add_products(&self, run: &[Panel], step: &Step, sums: &mut [Memory]) {
        let source = self.source;
        let (together, power) = self.together();
        let sizes = run.iter().map(|panel| source.places() * panel.width(self.sizes.lanes));
        let all: usize = sizes.clone().sum();
        let fit = (CACHED / (4 * all).max(1)).max(1);
        let at_once = (fit / together).max(1) * together;
        let mut buffer = zeros(at_once.min(step.images.len()) * all);
        let own = step.lefts.len() / (step.images.len() * source.groups()).max(1);
        for chunk in Vec::from_iter(step.images.clone()).chunks(at_once) {
            for (&image, mut rest) in chunk.iter().zip(buffer.chunks_exact_mut(all)) {
                for (panel, size) in run.iter().zip(sizes.clone()) {
                    let (out, other) = rest.split_at_mut(size);
                    let width = panel.width(self.sizes.lanes);
                    source.pack_right(image, panel.group, panel.columns.clone(), width, out);
                    rest = other;
                }
            }
            let mut first = 0;
            for ((panel, size), sums) in run.iter().zip(sizes.clone()).zip(&mut *sums) {
                let left = |image: &usize| {
                    &step.lefts[((image - step.images.start) * source.groups() + panel.group) * own..][..own]
                };
                let right = buffer.chunks_exact(all).map(|all| &all[first..first + size]);
                let (left, right): (Vec<&[f32]>, Vec<&[f32]>) = chunk.iter().map(left).zip(right).unzip();
                let (walk, wide) = (source.walk(), panel.wide);
                self.arch.dispatch(Products { left: &left, right: &right, images: together, walk, wide, power, sums });
                first += size;
            }
        }
        put_back(buffer);
    }
}

/// Panels of the columns of a group: two vectors wide, the last as wide as it must be.
pub(super) fn cut(columns: usize, lanes: usize, group: usize) -> impl Iterator<Item = Panel> {
    product::cut(columns, lanes).map(move |columns| Panel { group, wide: columns.len() > lanes, columns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{ConvGeometry, Operand};
    use crate::importance::contract::Value;
    use crate::kernels::{all, numbers as between};
    use crate::specialise::samples::SampleAxis;
    use crate::tensor::Tensor;
    use proptest::prelude::*;

    /// Small integers, whose sums are exact in any order.
    fn numbers(shape: &[usize], seed: u64) -> Tensor {
        let mut state = seed;
        Tensor::F32(ndarray::ArrayD::from_shape_simple_fn(shape, || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % 5) as f32 - 2.0
        }))
    }

    fn operand(name: &str, shape: Vec<usize>) -> Operand {
        Operand { name: name.into(), shape, samples: Some(SampleAxis { axis: 0, outer: 1, inner: 1 }) }
    }

    /// The same images, with their channels last in memory.
    fn last(mut images: ndarray::ArrayD<f32>) -> ndarray::ArrayD<f32> {
        let axes = images.ndim();
        (1..axes - 1).for_each(|axis| images.swap_axes(axis, axis + 1));
        let mut images = images.as_standard_layout().into_owned();
        (1..axes - 1).rev().for_each(|axis| images.swap_axes(axis, axis + 1));
        images
    }

    /// All vectors give the same, and so do images with their channels last.
    fn same(shape: Vec<usize>, contraction: Contraction, batch: usize) {
        let [a, b] = contraction.operands()[..] else { return };
        let (a, b) = ((a.name.clone(), numbers(&a.shape, 1)), (b.name.clone(), numbers(&b.shape, 2)));
        let values: Values = [(&*a.0, (&a.1).into()), (&*b.0, (&b.1).into())].into();
        let images = matches!(contraction, Contraction::Conv { .. });
        let weight = Weight { name: "w".into(), shape, uses: vec![Use { contraction, views: vec![] }] };
        let sums = |values: &Values, arch| {
            let mut total = vec![0.0; weight.shape.iter().product()];
            let did = accumulate(arch, &weight, batch, values, Power::Absolute, &mut total);
            assert!(did.is_ok_and(|did| did));
            total
        };
        let found: Vec<Vec<f64>> = all().into_iter().map(|arch| sums(&values, arch)).collect();
        assert!(found[0].iter().any(|&sum| sum > 0.0));
        found.iter().for_each(|sums| assert_eq!(*sums, found[0]));
        if images {
            let [x, dy] = [&a.1, &b.1].map(|tensor| last(tensor.array::<f32>().unwrap().clone()));
            let values: Values = [(&*a.0, Value::Single(x.view())), (&*b.0, Value::Single(dy.view()))].into();
            assert_eq!(sums(&values, Arch::new()), found[0]);
        }
    }

    /// Panels of any vectors are worked at by several, the last of them narrow.
    #[test]
    fn neighbours() {
        let panels = 8 * TOGETHER * rayon::current_num_threads();
        let [rows, left] = [20, 3];
        for arch in all() {
            let lanes = sizes(arch).lanes;
            let right = panels * 2 * lanes + lanes.div_ceil(2);
            let [l, r] = [left, right].map(|columns| operand("l", vec![2, rows, columns]));
            let r = Operand { name: "r".into(), ..r };
            same(vec![left, right], Contraction::Product { left: l, right: r }, 2);
        }
    }

    /// Of samples that are told apart, even one alone, what no tap brings together stays at exactly zero.
    #[test]
    fn zeros_of_a_sample_stay() {
        let corner = |shape: &[usize], place: usize, seed| {
            let mut tensor = ndarray::ArrayD::<f32>::zeros(shape);
            let values = between(shape[1], seed);
            values.into_iter().enumerate().for_each(|(channel, value)| tensor[[0, channel, place, place]] = value);
            Tensor::F32(tensor)
        };
        let [x, dy] = ["x", "dy"].map(|name| operand(name, vec![1, 32, 8, 8]));
        let (first, fourth) = (corner(&x.shape, 0, 1), corner(&dy.shape, 3, 2));
        let values: Values = [("x", (&first).into()), ("dy", (&fourth).into())].into();
        let [kernel, strides, dilations, pads] = [3, 1, 1, 1].map(|n| vec![n; 2]);
        let contraction =
            Contraction::Conv { x, dy, geometry: ConvGeometry { group: 1, kernel, strides, dilations, pads } };
        let weight =
            Weight { name: "w".into(), shape: vec![32, 32, 3, 3], uses: vec![Use { contraction, views: vec![] }] };
        let mut total = vec![0.0; 32 * 32 * 9];
        assert!(accumulate(Arch::new(), &weight, 1, &values, Power::Absolute, &mut total).unwrap());
        assert!(total.iter().all(|&sum| sum == 0.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn products(rows in 20usize..1300, left in 1usize..20, right in 1usize..70) {
            let [l, r] = [left, right].map(|columns| vec![2, rows, columns]);
            same(vec![left, right], Contraction::Product { left: operand("l", l), right: operand("r", r) }, 2);
        }

        #[test]
        fn convolutions(group in 1usize..3, outputs in 1usize..20, channels in 1usize..40, size in 20usize..700,
                        stride in 1usize..3) {
            let [kernel, strides, dilations, pads] = [3, stride, 2, 2].map(|n| vec![n]);
            let geometry = ConvGeometry { group, kernel, strides, dilations, pads };
            let x = operand("x", vec![2, group * channels, size]);
            let dy = operand("dy", vec![2, group * outputs, (size - 1) / stride + 1]);
            same(vec![group * outputs, channels, 3], Contraction::Conv { x, dy, geometry }, 2);
        }

        /// The sum over images of a kernel of 3×3 taps, by tiles where they are large enough, against the sum over taps.
        #[test]
        fn tiles(images in 1usize..30, channels in 1usize..40, outputs in 1usize..40, input in [6usize..18, 6usize..18],
                 pads in [0usize..3, 0usize..3], more in [0usize..3, 0usize..3]) {
            let output = [0, 1].map(|i| input[i] + pads[i] + more[i] - 2);
            let geometry = ConvGeometry {
                group: 1, kernel: vec![3; 2], strides: vec![1; 2], dilations: vec![1; 2], pads: pads.to_vec(),
            };
            let (x_shape, dy_shape) = ([images, channels, input[0], input[1]], [images, outputs, output[0], output[1]]);
            let x = between(x_shape.iter().product(), 1);
            let dy = between(dy_shape.iter().product(), 2);
            let view = |shape, values| ndarray::ArrayView::from_shape(ndarray::IxDyn(shape), values).unwrap();
            for arch in all() {
                let order = (0..images).collect();
                let [first, second] = [view(&x_shape, &x), view(&dy_shape, &dy)];
                let convolution = Convolution::new(first, second, order, 1, &geometry, arch).unwrap();
                if Tiles::new(&convolution, arch).is_none() {
                    continue;
                }
                let sums = |convolution: &Convolution, by_tiles: bool| {
                    let mut total = vec![0.0; outputs * channels * 9];
                    let fused = Fused::new(convolution, Power::Absolute, arch);
                    let tiles = Tiles::new(convolution, arch).unwrap();
                    assert!(if by_tiles { fused.add_tiles(&tiles, &mut total) } else { fused.add(&mut total) });
                    total
                };
                let (found, expected) = (sums(&convolution, true), sums(&convolution, false));
                let moved = [view(&x_shape, &x), view(&dy_shape, &dy)].map(|images| last(images.to_owned()));
                let [x, dy] = moved.each_ref().map(|images| images.view());
                let order = (0..images).collect();
                let convolution = Convolution::new(x, dy, order, 1, &geometry, arch).unwrap();
                prop_assert_eq!(&sums(&convolution, true), &found);
                let largest = expected.iter().fold(0.0, |max: f64, &sum| max.max(sum));
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() <= 1e-5 * largest, "{found}, expected {expected} of {largest}");
                }
            }
        }
    }
}
