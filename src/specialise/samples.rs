//! Which elements of a value belong to which sample of the batch.
//!
//! In a row-major tensor of a batch of `n`, the element at flat position `p` belongs to sample
//! `(p / stride) % n`. A reshape keeps the flat order and thus the stride; every other operator
//! has one small rule below. What no rule proves is [`Layout::Mixed`].

pub mod axes;
mod bounds;

pub use bounds::Bounds;

use crate::graph::{Name, Node, normalise};
use crate::session::Kinds;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the elements of a value relate to the samples of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The value does not depend on the samples; in a batch of one, every value.
    Shared,
    /// The element at flat position `p` depends on sample `(p / stride) % n` alone.
    Samples { stride: usize },
    /// Not proven: elements may depend on several samples.
    Mixed,
}

/// The axis that holds the samples, seen as `outer × n × inner`: index `i` along it belongs to
/// sample `(i / inner) % n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleAxis {
    pub axis: usize,
    pub outer: usize,
    pub inner: usize,
}

/// What is known of the values of a graph for one batch size.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Samples in a batch.
    pub batch: usize,
    pub kinds: Kinds,
    pub layouts: BTreeMap<Name, Layout>,
    pub constants: BTreeMap<Name, Arc<Tensor>>,
    /// Of integers that depend on data, as far as something tells.
    pub bounds: BTreeMap<Name, Bounds>,
}

/// Number of elements between neighbours along `axis`.
pub fn stride(shape: &[usize], axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

/// The one axis that holds the samples under a layout, where there is one.
pub fn locate(shape: &[usize], sample_stride: usize, batch: usize) -> Option<SampleAxis> {
    (0..shape.len()).find_map(|axis| {
        let step = stride(shape, axis);
        let whole = sample_stride.is_multiple_of(step) && (step * shape[axis]).is_multiple_of(sample_stride * batch);
        if step == 0 || sample_stride == 0 || !whole {
            return None;
        }
        let inner = sample_stride / step;
        let outer = shape[axis] / (inner * batch);
        (outer > 0).then_some(SampleAxis { axis, outer, inner })
    })
}

impl Facts {
    pub fn shape(&self, value: &Name) -> &[usize] {
        self.kinds.get(value).map(|(_, shape)| shape.as_slice()).unwrap_or_default()
    }

    pub fn layout(&self, value: &Name) -> Layout {
        self.layouts.get(value).copied().unwrap_or(Layout::Mixed)
    }

    /// The elements of an integer constant, row-major.
    pub fn integers(&self, value: &Name) -> Option<Vec<i64>> {
        self.constants.get(value).and_then(|t| t.to_i64())
    }

    /// The axis of `value` that holds the samples, where its layout has one.
    pub fn sample_axis(&self, value: &Name) -> Option<SampleAxis> {
        match self.layout(value) {
            Layout::Samples { stride } => locate(self.shape(value), stride, self.batch),
            _ => None,
        }
    }

    /// The layout of an output of a node, by its operator's rule. A node whose inputs are all independent of the
    /// samples gives outputs that are; one with a mixed input gives mixed ones. What its bodies read are inputs.
    pub fn propagate(&self, node: &Node, output: &Name, rule: Option<SampleRule>) -> Layout {
        // Where there are no elements, none depends on a sample.
        if self.shape(output).contains(&0) {
            return Layout::Shared;
        }
        let captured = node.captured();
        let mut layouts = node.inputs.iter().flatten().chain(&captured).map(|i| self.layout(i));
        if layouts.clone().all(|l| l == Layout::Shared) {
            return Layout::Shared;
        }
        if layouts.any(|l| l == Layout::Mixed) {
            return Layout::Mixed;
        }
        let shape = self.shape(output);
        let found = rule.and_then(|rule| {
            let located = rule(node, self, shape)?;
            let fits = shape.get(located.axis) == Some(&(located.outer * self.batch * located.inner));
            fits.then(|| Layout::Samples { stride: located.inner * stride(shape, located.axis) })
        });
        found.unwrap_or(Layout::Mixed)
    }
}

/// Gives the axis that holds the samples in an output of the given shape, or none where the
/// operator mixes samples. It is called only where some input depends on samples and none is mixed.
pub type SampleRule = fn(&Node, &Facts, &[usize]) -> Option<SampleAxis>;

/// All candidates that are located agree on one axis.
fn agree(mut found: impl Iterator<Item = Option<SampleAxis>>) -> Option<SampleAxis> {
    let first = found.next()??;
    found.all(|other| other == Some(first)).then_some(first)
}

/// The inputs that depend on samples: position, name.
fn dependent<'a>(node: &'a Node, facts: &'a Facts) -> impl Iterator<Item = (usize, &'a Name)> {
    node.inputs
        .iter()
        .enumerate()
        .filter_map(|(i, n)| n.as_ref().map(|n| (i, n)))
        .filter(|(_, n)| facts.layout(n) != Layout::Shared)
}

/// The first input alone depends on samples; its axis.
fn first_only(node: &Node, facts: &Facts) -> Option<SampleAxis> {
    let mut inputs = dependent(node, facts);
    match (inputs.next(), inputs.next()) {
        (Some((0, name)), None) => facts.sample_axis(name),
        _ => None,
    }
}

/// Element by element, with broadcasting.
pub fn elementwise(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    agree(dependent(node, facts).map(|(_, name)| {
        let found = facts.sample_axis(name)?;
        let shape = facts.shape(name);
        let axis = found.axis + out.len().checked_sub(shape.len())?;
        (out[axis] == shape[found.axis]).then_some(SampleAxis { axis, ..found })
    }))
}

/// The flat order of elements is kept.
pub fn flat_order(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let input = node.input(0)?;
    match facts.layout(input) {
        Layout::Samples { stride } if dependent(node, facts).count() == 1 => locate(out, stride, facts.batch),
        _ => None,
    }
}

/// Axes are permuted by the attribute `perm`.
pub fn transpose(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let found = first_only(node, facts)?;
    let axis = node.order(out.len()).iter().position(|&p| p == found.axis)?;
    Some(SampleAxis { axis, ..found })
}

/// A matrix product with broadcast leading axes; an operand of one axis is a row (left) or a column (right),
/// whose axis the output drops.
pub fn matmul(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let vector = |i: usize| node.input(i).is_some_and(|name| facts.shape(name).len() == 1);
    let rank = out.len() + usize::from(vector(0)) + usize::from(vector(1));
    agree(dependent(node, facts).map(|(position, name)| {
        let shape = facts.shape(name);
        let found = facts.sample_axis(name)?;
        if shape.len() < 2 {
            return None;
        }
        let contracted = if position == 0 { shape.len() - 1 } else { shape.len() - 2 };
        let axis = found.axis + rank.checked_sub(shape.len())?;
        let axis = if vector(0) && axis + 1 == rank { axis - 1 } else { axis };
        let kept = found.axis != contracted && out.get(axis) == Some(&shape[found.axis]);
        kept.then_some(SampleAxis { axis, ..found })
    }))
}

/// The general matrix product of two matrices and an addend, with optional transposition.
pub fn gemm(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    agree(dependent(node, facts).map(|(position, name)| {
        let found = facts.sample_axis(name)?;
        let shape = facts.shape(name);
        let swapped = |flag: &str| node.int(flag).unwrap_or(0) != 0;
        let axis = match position {
            0 if swapped("transA") => (found.axis == 1).then_some(0),
            0 => (found.axis == 0).then_some(0),
            1 if swapped("transB") => (found.axis == 0).then_some(1),
            1 => (found.axis == 1).then_some(1),
            _ => Some(found.axis + 2usize.checked_sub(shape.len())?),
        }?;
        (out[axis] == shape[found.axis]).then_some(SampleAxis { axis, ..found })
    }))
}

/// The first axis of the first input holds the samples and stays; the other inputs are shared.
/// Convolution and pooling.
pub fn first_axis(node: &Node, facts: &Facts, _out: &[usize]) -> Option<SampleAxis> {
    first_only(node, facts).filter(|found| found.axis == 0)
}

/// Axis 1 holds channels that are treated alike, every other axis stays: batch normalisation.
pub fn not_channels(node: &Node, facts: &Facts, _out: &[usize]) -> Option<SampleAxis> {
    first_only(node, facts).filter(|found| found.axis != 1)
}

/// Everything along the attribute `axis` is mixed, the shape stays.
pub fn mixes_axis(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let mixed = node.axis("axis", -1, out.len()).ok()?;
    first_only(node, facts).filter(|found| found.axis != mixed)
}

/// Everything from the attribute `axis` to the last is mixed, the shape stays.
pub fn mixes_from_axis(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let mixed = node.axis("axis", -1, out.len()).ok()?;
    first_only(node, facts).filter(|found| found.axis < mixed)
}

/// Axes are reduced; with `keepdims` 0 they vanish. Read off the shapes, so that it serves every opset.
pub fn reduction(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let found = first_only(node, facts)?;
    let shape = facts.shape(node.input(0)?);
    if shape.len() == out.len() {
        return (shape[found.axis] == out[found.axis]).then_some(found);
    }
    let axes = reduced_axes(node, facts, shape.len())?;
    let before = axes.iter().filter(|&&a| a < found.axis).count();
    (!axes.contains(&found.axis)).then(|| SampleAxis { axis: found.axis - before, ..found })
}

/// Axes of a reduction given by the attribute `axes` or the attribute `axis`; none where an input gives them
/// (the tape writes those with `keepdims`).
fn reduced_axes(node: &Node, facts: &Facts, rank: usize) -> Option<Vec<usize>> {
    let axes: Vec<i64> = match (node.ints("axes"), node.int("axis")) {
        (Some(axes), _) => axes.to_vec(),
        (None, Some(axis)) => vec![axis],
        (None, None) => facts.integers(node.input(1)?)?,
    };
    axes.into_iter().map(|a| normalise(a, rank)).collect()
}

/// Values are put side by side or cut along the attribute `axis`: Concat, Split.
pub fn along_axis(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let cut = node.axis("axis", 0, out.len()).ok()?;
    agree(dependent(node, facts).map(|(_, name)| facts.sample_axis(name))).filter(|found| found.axis != cut)
}

/// Borders are added along other axes than the one of the samples.
pub fn pad(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let found = first_only(node, facts)?;
    let axes = match node.input(3) {
        Some(axes) => facts.integers(axes)?,
        None => (0..out.len() as i64).collect(),
    };
    let pads = facts.integers(node.input(1)?)?;
    let mut touched = axes.iter().zip(pads.iter().zip(pads.get(axes.len()..)?)).filter(|(_, pads)| *pads != (&0, &0));
    (!touched.any(|(&axis, _)| normalise(axis, out.len()) == Some(found.axis))).then_some(found)
}

/// Slices: the axis of the samples is not among the sliced ones, or is taken whole and forwards.
pub fn slice(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let found = first_only(node, facts)?;
    let shape = facts.shape(node.input(0)?);
    let axes = match node.input(3) {
        Some(axes) => facts.integers(axes)?,
        None => (0..facts.shape(node.input(1)?).first().copied()? as i64).collect(),
    };
    let Some(sliced) = axes.iter().position(|&a| normalise(a, shape.len()) == Some(found.axis)) else {
        return Some(found);
    };
    let step = match node.input(4) {
        Some(steps) => facts.integers(steps)?.get(sliced).copied()?,
        None => 1,
    };
    (out[found.axis] == shape[found.axis] && step > 0).then_some(found)
}

/// Entries are picked along an axis of shared data by the samples' indices, of the samples' data by shared indices, or
/// by each sample from its own.
pub fn gather(node: &Node, facts: &Facts, _out: &[usize]) -> Option<SampleAxis> {
    let (data, indices) = (node.input(0)?, node.input(1)?);
    let picked = node.axis("axis", 0, facts.shape(data).len()).ok()?;
    match (facts.layout(data), facts.layout(indices)) {
        (Layout::Samples { .. }, Layout::Shared) => {
            let found = facts.sample_axis(data)?;
            let axis = match found.axis.cmp(&picked) {
                std::cmp::Ordering::Less => found.axis,
                std::cmp::Ordering::Equal => return picked_samples(found, data, indices, facts),
                std::cmp::Ordering::Greater => found.axis + facts.shape(indices).len() - 1,
            };
            Some(SampleAxis { axis, ..found })
        }
        (Layout::Shared, Layout::Samples { .. }) => {
            let found = facts.sample_axis(indices)?;
            Some(SampleAxis { axis: found.axis + picked, ..found })
        }
        _ if picked == 0 => facts.own_entries(data, indices).map(|(found, _)| found),
        _ => None,
    }
}

/// Entries are picked along the axis of the samples itself: known indices that leave the samples one after another.
fn picked_samples(found: SampleAxis, data: &Name, indices: &Name, facts: &Facts) -> Option<SampleAxis> {
    let length = facts.shape(data)[found.axis];
    let owner = |&index: &i64| {
        let index = if index < 0 { index + length as i64 } else { index };
        usize::try_from(index).ok().map(|index| (index / found.inner) % facts.batch)
    };
    let owners = facts.integers(indices)?.iter().map(owner).collect::<Option<Vec<_>>>()?;
    let inner = owners.iter().position(|owner| Some(owner) != owners.first())?;
    let in_order = owners.iter().enumerate().all(|(place, &owner)| owner == (place / inner) % facts.batch);
    let located = in_order.then(|| locate(facts.shape(indices), inner, facts.batch)).flatten()?;
    Some(SampleAxis { axis: located.axis + found.axis, ..located })
}

/// Updates are written along `axis`; all inputs that depend on samples hold them on the same other axis.
pub fn scatter_elements(node: &Node, facts: &Facts, out: &[usize]) -> Option<SampleAxis> {
    let written = node.axis("axis", 0, out.len()).ok()?;
    let same =
        |found: &SampleAxis, name: &Name| found.axis != written && out[found.axis] == facts.shape(name)[found.axis];
    agree(dependent(node, facts).map(|(_, name)| facts.sample_axis(name).filter(|found| same(found, name))))
}

/// Nothing is proven.
pub fn never(_node: &Node, _facts: &Facts, _out: &[usize]) -> Option<SampleAxis> {
    None
}
