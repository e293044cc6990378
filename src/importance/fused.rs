//! Weight gradients in single precision, fused: the product over the positions of a sample, its absolute value and
//! the sum over samples in one pass over tiles of the weight that stay in registers, so that the gradient of a sample is
//! never written to memory.
//!
//! A weight is a matrix for each group, of `rows` rows and `columns · taps` columns. Its tasks are panels of columns;
//! they share nothing, and each goes through the samples in their order: the bits do not depend on the threads.

use super::ImportanceError;
use super::contract::{Part, Values, get, moved};
use super::kernel::{Products, Sizes, Walk, sizes};
use super::source::{Convolution, Product};
use crate::autograd::{Contraction, Power, Use, Weight, places};
use pulp::Arch;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of right panels that are packed at a time, so that they stay in the cache.
const CACHED: usize = 1 << 18;
/// Elements of memory that is held for the next panels, at most.
const HELD: usize = 1 << 20;

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
    match contraction {
        Contraction::Product { left, right } => {
            let Some(product) = Product::new(left, right, batch, power, values)? else { return Ok(false) };
            Fused::new(&product, power, arch).add(total);
        }
        Contraction::Conv { x, dy, geometry } => {
            let (images, grads) = (get::<f32>(values, x)?, get::<f32>(values, dy)?);
            let order = (0..samples).flat_map(|sample| Part { sample, batch }.indices(x)).collect();
            let convolution = Convolution::new(images, grads, order, samples, geometry, arch);
            match convolution.by_channel() {
                true => convolution.add_by_channel(power, total),
                false => Fused::new(&convolution, power, arch).add(total),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
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
pub(super) struct Panel {
    pub group: usize,
    pub columns: Range<usize>,
    /// Whether it is two vectors wide.
    pub wide: bool,
}

impl<'a, S: Source> Fused<'a, S> {
    fn new(source: &'a S, power: Power, arch: Arch) -> Self {
        Fused { source, power, arch, sizes: sizes(arch) }
    }

    /// Left panels of a group.
    fn lefts(&self) -> usize {
        self.source.rows().div_ceil(self.sizes.left)
    }

    fn panels(&self) -> Vec<Panel> {
        (0..self.source.groups()).flat_map(|group| cut(self.source.columns(), self.sizes.lanes, group)).collect()
    }

    fn width(&self, panel: &Panel) -> usize {
        if panel.wide { 2 * self.sizes.lanes } else { self.sizes.lanes }
    }

    fn add(&self, total: &mut [f64]) {
        let lefts = self.pack_lefts();
        let panels = self.panels();
        let owned = self.shares(&panels, total);
        panels.par_iter().zip(owned).for_each(|(panel, rows)| {
            let sums = self.sums(panel, &lefts);
            self.flush(panel, &sums, rows);
            put_back(sums);
        });
        put_back(lefts);
    }

    /// What each panel adds to of `total`, `[group, row, column, tap]`: a piece of every row of its group.
    fn shares<'t>(&self, panels: &[Panel], total: &'t mut [f64]) -> Vec<Vec<&'t mut [f64]>> {
        let (source, taps) = (self.source, self.source.walk().taps.len());
        let mut shares: Vec<Vec<&mut [f64]>> = panels.iter().map(|_| Vec::with_capacity(source.rows())).collect();
        let of_group = panels.len() / source.groups().max(1);
        for (index, mut row) in total.chunks_exact_mut(source.columns() * taps).enumerate() {
            let group = index / source.rows();
            for number in group * of_group..(group + 1) * of_group {
                let (own, rest) = row.split_at_mut(panels[number].columns.len() * taps);
                shares[number].push(own);
                row = rest;
            }
        }
        shares
    }

    /// All left panels, `[image, group, panel, position, column]`.
    fn pack_lefts(&self) -> Vec<f32> {
        let (source, width) = (self.source, self.sizes.left);
        let positions: usize = source.walk().lines.iter().map(|line| line.len).sum();
        let mut packed = zeros(source.images() * source.groups() * self.lefts() * positions * width);
        packed.par_chunks_mut((positions * width).max(1)).enumerate().for_each(|(index, out)| {
            let (rest, panel) = (index / self.lefts(), index % self.lefts());
            let first = panel * width;
            let columns = first..source.rows().min(first + width);
            source.pack_left(rest / source.groups(), rest % source.groups(), columns, width, out);
        });
        packed
    }

    /// The sums of one panel: `[left panel, tap, row, column]`.
    fn sums(&self, panel: &Panel, lefts: &[f32]) -> Vec<f32> {
        let (source, width) = (self.source, self.width(panel));
        let taps = source.walk().taps.len();
        let mut sums = zeros(self.lefts() * taps * self.sizes.left * width);
        let images = (source.images() / source.samples().max(1)).max(1);
        // The sum over images that need not be told apart may be taken in any pieces.
        let (together, power) = match source.samples() {
            1 => (1, Power::Signed),
            _ => (images, self.power),
        };
        let size = source.places() * width;
        let fit = (CACHED / (4 * size).max(1)).max(1);
        let at_once = (fit / together).max(1) * together;
        let mut buffer = zeros(at_once.min(source.images()) * size);
        let own = lefts.len() / (source.images() * source.groups()).max(1);
        let all: Vec<usize> = (0..source.images()).collect();
        for chunk in all.chunks(at_once) {
            for (&image, out) in chunk.iter().zip(buffer.chunks_exact_mut(size)) {
                source.pack_right(image, panel.group, panel.columns.clone(), width, out);
            }
            let left = |image: &usize| &lefts[(image * source.groups() + panel.group) * own..][..own];
            let (left, right): (Vec<&[f32]>, Vec<&[f32]>) =
                chunk.iter().map(left).zip(buffer.chunks_exact(size)).unzip();
            let walk = source.walk();
            let wide = panel.wide;
            let products =
                Products { left: &left, right: &right, images: together, walk, wide, power, sums: &mut sums };
            self.arch.dispatch(products);
        }
        put_back(buffer);
        sums
    }

    /// Adds the sums of a panel to its piece of each row, `[column, tap]`.
    fn flush(&self, panel: &Panel, sums: &[f32], rows: Vec<&mut [f64]>) {
        let (source, taps, width) = (self.source, self.source.walk().taps.len(), self.width(panel));
        // Of one sample the power is taken here.
        let after = if source.samples() == 1 && !source.powered() { self.power } else { Power::Signed };
        for (row, total) in rows.into_iter().enumerate() {
            let (left, row) = (row / self.sizes.left, row % self.sizes.left);
            for tap in 0..taps {
                let sums = &sums[((left * taps + tap) * self.sizes.left + row) * width..][..width];
                match (taps, after) {
                    (1, Power::Signed) => total.iter_mut().zip(sums).for_each(|(total, &g)| *total += f64::from(g)),
                    _ => {
                        let columns = total.chunks_exact_mut(taps).zip(sums);
                        columns.for_each(|(total, &g)| total[tap] += after.apply(g.into()));
                    }
                }
            }
        }
    }
}

thread_local! {
    /// Memory that panels and their sums lay in and the next ones will: new pages for each would take a good part of the time.
    static USED: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// So many zeros, in memory of [`put_back`] where there is some.
fn zeros(count: usize) -> Vec<f32> {
    let mut memory = USED.with_borrow_mut(|used| used.pop()).unwrap_or_default();
    memory.clear();
    memory.resize(count, 0.0);
    memory
}

fn put_back(memory: Vec<f32>) {
    if memory.capacity() <= HELD {
        USED.with_borrow_mut(|used| used.push(memory));
    }
}

/// Panels of the columns of a group: two vectors wide, the last as wide as it must be.
pub(super) fn cut(columns: usize, lanes: usize, group: usize) -> impl Iterator<Item = Panel> {
    (0..columns).step_by(2 * lanes).map(move |first| {
        let columns = first..columns.min(first + 2 * lanes);
        Panel { group, wide: columns.len() > lanes, columns }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{ConvGeometry, Operand};
    use crate::specialise::samples::SampleAxis;
    use crate::tensor::Tensor;
    use proptest::prelude::*;

    /// Every kind of vectors that this processor has.
    fn all() -> Vec<Arch> {
        let mut found = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        found.extend(pulp::x86::V3::try_new().map(Arch::V3));
        found
    }

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

    /// All vectors give the same.
    fn same(shape: Vec<usize>, contraction: Contraction, batch: usize) {
        let [a, b] = contraction.operands()[..] else { return };
        let (a, b) = ((a.name.clone(), numbers(&a.shape, 1)), (b.name.clone(), numbers(&b.shape, 2)));
        let values: Values = [(&*a.0, (&a.1).into()), (&*b.0, (&b.1).into())].into();
        let weight = Weight { name: "w".into(), shape, uses: vec![Use { contraction, views: vec![] }] };
        let sums = |arch| {
            let mut total = vec![0.0; weight.shape.iter().product()];
            let did = accumulate(arch, &weight, batch, &values, Power::Absolute, &mut total);
            assert!(did.is_ok_and(|did| did));
            total
        };
        let all: Vec<Vec<f64>> = all().into_iter().map(sums).collect();
        assert!(all[0].iter().any(|&sum| sum > 0.0));
        all.iter().for_each(|sums| assert_eq!(*sums, all[0]));
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
    }
}
