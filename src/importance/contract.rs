//! Per-sample gradients of weights from activations and gradients, and their sums.
//!
//! The gradient of one sample lives in a scratch buffer the size of the weight; what is kept is the sum
//! over samples in f64. One weight is handled by one thread from the first sample to the last, so the
//! result does not depend on the number of threads.

use super::columns::Image;
use super::{ImportanceError, tiles};
use crate::autograd::{Contraction, Operand, Use, View, Weight};
use crate::graph::normalise;
use crate::specialise::samples::SampleAxis;
use crate::tensor::{DType, Element, Tensor};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayD, ArrayView2, ArrayViewD, ArrayViewMut2, Axis, IxDyn, LinalgScalar};
use std::collections::BTreeMap;

/// What of a sample's gradient is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// `|g|`
    Absolute,
    /// `g²`
    Square,
    /// `g` itself
    Signed,
}

impl Power {
    pub(super) fn apply(self, g: f64) -> f64 {
        match self {
            Power::Absolute => g.abs(),
            Power::Square => g * g,
            Power::Signed => g,
        }
    }
}

/// The values that contractions read, by name.
pub type Values<'a> = BTreeMap<&'a str, &'a Tensor>;

/// Element types that gradients are computed in.
pub trait Real: Element + LinalgScalar + Into<f64> + std::ops::AddAssign {
    fn power(self, power: Power) -> Self;
}

macro_rules! real {
    ($($t:ty),*) => {$(
        impl Real for $t {
            fn power(self, power: Power) -> Self {
                match power {
                    Power::Absolute => self.abs(),
                    Power::Square => self * self,
                    Power::Signed => self,
                }
            }
        }
    )*};
}
real!(f32, f64);

/// Adds to `total` (row-major, in the weight's own shape) what one batch contributes: the sum over the
/// samples of the power of the sample's gradient. Without a sample axis the batch counts as one sample.
///
/// # Errors
/// A value that is missing or not of the expected shape or type; an index out of a table's range.
pub fn accumulate<'w>(
    weight: &'w Weight,
    batch: usize,
    values: &Values,
    power: Power,
    total: &mut [f64],
) -> Result<(), ImportanceError> {
    let operands = || weight.uses.iter().flat_map(|u| u.contraction.operands());
    let double = operands().any(|o| values.get(&*o.name).is_some_and(|t| matches!(t, Tensor::F64(_))));
    let dtype = if double { DType::F64 } else { DType::F32 };
    // Half precision, or a parameter that is used in two types.
    let widened = operands().filter_map(|o| Some((&*o.name, widen(values.get(&*o.name)?, dtype)?)));
    let widened: BTreeMap<&str, Tensor> = widened.collect();
    let read = |o: &'w Operand| Some((&*o.name, widened.get(&*o.name).or_else(|| values.get(&*o.name).copied())?));
    let values: Values = operands().filter_map(read).collect();
    match double {
        true => accumulate_as::<f64>(weight, batch, &values, power, total),
        false => accumulate_as::<f32>(weight, batch, &values, power, total),
    }
}

/// A floating-point tensor in another type; none where it has that type.
fn widen(tensor: &Tensor, to: DType) -> Option<Tensor> {
    if tensor.dtype() == to {
        return None;
    }
    let array = tensor.to_f64()?;
    Some(if to == DType::F64 { Tensor::F64(array) } else { Tensor::F32(array.mapv(|x| x as f32)) })
}

fn accumulate_as<T: Real>(
    weight: &Weight,
    batch: usize,
    values: &Values,
    power: Power,
    total: &mut [f64],
) -> Result<(), ImportanceError> {
    let apart = weight.uses.iter().any(|u| u.contraction.operands().iter().any(|o| o.samples.is_some()));
    if let [Use { contraction: Contraction::Product { left, right }, views }] = &weight.uses[..]
        && apart
        && rows_per_sample(left, batch) == 1
        && !moved(views)
    {
        return rank_one::<T>(left, right, values, power, total);
    }
    if tiles::accumulate::<T>(weight, batch, values, power, tiles::TILE, total)? {
        return Ok(());
    }
    let mut scratch = vec![T::zero(); total.len()];
    for sample in 0..if apart { batch } else { 1 } {
        for (index, one) in weight.uses.iter().enumerate() {
            if index == 0 {
                scratch.fill(T::zero());
            }
            let part = Part { sample, batch };
            match moved(&one.views) {
                false => part.add::<T>(&one.contraction, values, &mut scratch)?,
                true => {
                    let mut seen = vec![T::zero(); seen_shape(&weight.shape, &one.views).iter().product()];
                    part.add::<T>(&one.contraction, values, &mut seen)?;
                    let moved = undo(seen, &weight.shape, &one.views);
                    scratch.iter_mut().zip(moved.iter()).for_each(|(s, &m)| *s += m);
                }
            }
        }
        for (total, &g) in total.iter_mut().zip(&scratch) {
            *total += power.apply(g.into());
        }
    }
    Ok(())
}

/// Whether elements are seen in another order or number than the parameter has them.
pub(super) fn moved(views: &[View]) -> bool {
    views.iter().any(|v| !matches!(v, View::Reshape { .. }))
}

fn rows_per_sample(operand: &Operand, batch: usize) -> usize {
    let columns = operand.shape.last().copied().unwrap_or(1).max(1);
    operand.shape.iter().product::<usize>() / columns / batch.max(1)
}

/// One row for each sample: `Σ |l r| = |l|ᵀ |r|` exactly, one matrix product for the whole batch.
fn rank_one<T: Real>(
    left: &Operand,
    right: &Operand,
    values: &Values,
    power: Power,
    total: &mut [f64],
) -> Result<(), ImportanceError> {
    let rows = |operand: &Operand| -> Result<ndarray::Array2<T>, ImportanceError> {
        let array = get::<T>(values, operand)?;
        let columns = operand.shape.last().copied().unwrap_or(1);
        let flat = array.mapv(|x| x.power(power));
        flat.into_shape_with_order((array.len() / columns.max(1), columns)).map_err(|_| wrong(operand))
    };
    let product = rows(left)?.t().dot(&rows(right)?);
    total.iter_mut().zip(product.iter()).for_each(|(t, &g)| *t += g.into());
    Ok(())
}

/// Brings a gradient of a parameter seen through views back to the parameter's own order.
fn undo<T: Real>(seen: Vec<T>, weight: &[usize], views: &[View]) -> ArrayD<T> {
    let mut array = reshaped(ndarray::Array1::from_vec(seen).into_dyn(), &seen_shape(weight, views));
    for view in views.iter().rev() {
        match view {
            View::Reshape { from, .. } => array = reshaped(array, from),
            View::Permute(perm) => {
                let inverse: Vec<usize> =
                    (0..perm.len()).map(|a| perm.iter().position(|&p| p == a).unwrap_or(a)).collect();
                array = array.permuted_axes(IxDyn(&inverse));
            }
            View::Pick { from, positions, .. } => {
                let mut whole = vec![T::zero(); from.iter().product()];
                for (&position, &g) in positions.iter().zip(array.iter()) {
                    if let Some(target) = whole.get_mut(position) {
                        *target += g;
                    }
                }
                array = reshaped(ndarray::Array1::from_vec(whole).into_dyn(), from);
            }
        }
    }
    array
}

/// The shape in which a parameter is seen at the end of its views.
fn seen_shape(weight: &[usize], views: &[View]) -> Vec<usize> {
    let mut shape = weight.to_vec();
    for view in views {
        match view {
            View::Reshape { to, .. } | View::Pick { to, .. } => shape = to.clone(),
            View::Permute(perm) => shape = perm.iter().map(|&p| shape.get(p).copied().unwrap_or(1)).collect(),
        }
    }
    shape
}

fn reshaped<T: Real>(array: ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
    let standard = array.as_standard_layout().into_owned();
    standard.clone().into_shape_with_order(IxDyn(shape)).unwrap_or(standard)
}

pub(super) fn get<'a, T: Real>(values: &Values<'a>, operand: &Operand) -> Result<&'a ArrayD<T>, ImportanceError> {
    let tensor = values.get(&*operand.name).ok_or_else(|| wrong(operand))?;
    let array = tensor.array::<T>().ok_or_else(|| wrong(operand))?;
    if array.shape() == operand.shape { Ok(array) } else { Err(wrong(operand)) }
}

fn wrong(operand: &Operand) -> ImportanceError {
    ImportanceError::Value { name: operand.name.to_string(), shape: operand.shape.clone() }
}

/// One sample of a batch.
pub(super) struct Part {
    pub sample: usize,
    pub batch: usize,
}

impl Part {
    fn add<T: Real>(&self, contraction: &Contraction, values: &Values, out: &mut [T]) -> Result<(), ImportanceError> {
        match contraction {
            Contraction::Product { left, right } => {
                let (l, r) = (self.rows(get::<T>(values, left)?, left), self.rows(get::<T>(values, right)?, right));
                let mut out = matrix(out, l.ncols(), r.ncols()).ok_or_else(|| wrong(left))?;
                general_mat_mul(T::one(), &l.t(), &r, T::one(), &mut out);
            }
            Contraction::Conv { x, dy, geometry } => {
                let (images, grads, mut buffer) = (get::<T>(values, x)?, get::<T>(values, dy)?, Vec::new());
                for index in self.indices(x) {
                    let image = Image::of(images, grads, index, geometry);
                    let size = (out.len() / geometry.group.max(1)).max(1);
                    for (group, out) in out.chunks_exact_mut(size).enumerate() {
                        let out = matrix(out, size / image.width().max(1), image.width()).ok_or_else(|| wrong(x))?;
                        image.add(group, 0..image.width(), &mut buffer, out);
                    }
                }
            }
            Contraction::Rows { indices, dy, rows } => {
                let picked = values.get(&*indices.name).and_then(|t| t.to_i64()).ok_or_else(|| wrong(indices))?;
                let picked =
                    ndarray::ArrayD::from_shape_vec(IxDyn(&indices.shape), picked).map_err(|_| wrong(indices))?;
                let picked = self.slice(picked.view(), indices);
                let width = out.len() / (*rows).max(1);
                let dy = self.slice(get::<T>(values, dy)?.view(), dy);
                for (&row, grads) in picked.iter().zip(dy.chunks(width.max(1))) {
                    let row = normalise(row, *rows).ok_or_else(|| wrong(indices))?;
                    let target = out.get_mut(row * width..(row + 1) * width).ok_or_else(|| wrong(indices))?;
                    target.iter_mut().zip(grads).for_each(|(t, &g)| *t += g);
                }
            }
            Contraction::Sum { dy, .. } => {
                let array = get::<T>(values, dy)?;
                let Some(split) = dy.samples else {
                    out.iter_mut().zip(array.iter()).for_each(|(o, &g)| *o += g);
                    return Ok(());
                };
                let (before, tail) = around(&dy.shape, split.axis);
                let flat = array.as_slice().ok_or_else(|| wrong(dy))?;
                for b in 0..before {
                    let out = out.get_mut(b * tail..(b + 1) * tail).ok_or_else(|| wrong(dy))?;
                    for index in self.along(split) {
                        let at = (b * dy.shape[split.axis] + index) * tail;
                        out.iter_mut().zip(&flat[at..at + tail]).for_each(|(o, &g)| *o += g);
                    }
                }
            }
        }
        Ok(())
    }

    /// Indices along the sample axis that belong to this sample.
    fn along(&self, split: SampleAxis) -> impl Iterator<Item = usize> {
        let (sample, batch) = (self.sample, self.batch);
        (0..split.outer).flat_map(move |o| (0..split.inner).map(move |i| (o * batch + sample) * split.inner + i))
    }

    /// Indices along the first axis that belong to this sample.
    pub fn indices(&self, operand: &Operand) -> Vec<usize> {
        match operand.samples {
            Some(split) => self.along(split).collect(),
            None => (0..operand.shape[0]).collect(),
        }
    }

    /// The elements that belong to this sample, in order.
    fn slice<T: Copy>(&self, array: ArrayViewD<T>, operand: &Operand) -> Vec<T> {
        match operand.samples {
            None => array.iter().copied().collect(),
            Some(split) => {
                let indices: Vec<usize> = self.along(split).collect();
                array.select(Axis(split.axis), &indices).iter().copied().collect()
            }
        }
    }

    /// The rows (all axes but the last) that belong to this sample: a view where they lie together, else a copy.
    pub fn rows<'a, T: Real>(&self, array: &'a ArrayD<T>, operand: &Operand) -> ndarray::CowArray<'a, T, ndarray::Ix2> {
        let columns = operand.shape.last().copied().unwrap_or(1);
        let (start, len) = match operand.samples {
            None => (0, array.len()),
            Some(split) => {
                let (before, tail) = around(&operand.shape, split.axis);
                if before * split.outer != 1 {
                    let rows = self.slice(array.view(), operand);
                    let shape = (rows.len() / columns.max(1), columns);
                    return ndarray::Array2::from_shape_vec(shape, rows)
                        .unwrap_or_else(|_| ndarray::Array2::zeros((0, columns)))
                        .into();
                }
                (self.sample * split.inner * tail, split.inner * tail)
            }
        };
        let flat = array.as_slice().and_then(|s| s.get(start..start + len)).unwrap_or_default();
        match ArrayView2::from_shape((len / columns.max(1), columns), flat) {
            Ok(view) => view.into(),
            Err(_) => ndarray::Array2::zeros((0, columns)).into(),
        }
    }
}

/// Numbers of elements before and after an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis + 1..].iter().product())
}

fn matrix<T>(out: &mut [T], rows: usize, columns: usize) -> Option<ArrayViewMut2<'_, T>> {
    ArrayViewMut2::from_shape((rows, columns), out).ok()
}
