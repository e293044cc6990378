//! Per-sample gradients of weights from activations and gradients, and their sums.
//!
//! The gradient of one sample lives in a scratch buffer the size of the weight; what is kept is the sum
//! over samples in f64. One weight is handled by one thread from the first sample to the last, so the
//! result does not depend on the number of threads.

use super::columns::Image;
use super::{ImportanceError, fused};
use crate::autograd::{Contraction, Operand, Power, Use, View, Weight, places};
use crate::graph::normalise;
use crate::session::Output;
use crate::specialise::samples::SampleAxis;
use crate::tensor::{DType, Element, Tensor};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2, Axis, IxDyn, LinalgScalar};
use pulp::Arch;
use std::collections::BTreeMap;

/// A value that a contraction reads, wherever it lies.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Single(ArrayViewD<'a, f32>),
    Tensor(&'a Tensor),
}

impl<'a> From<&'a Tensor> for Value<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Value::Tensor(tensor)
    }
}

impl<'a> From<&'a Output<'_>> for Value<'a> {
    fn from(output: &'a Output<'_>) -> Self {
        match output {
            Output::Single(view) => Value::Single(view.view()),
            Output::Tensor(tensor) => Value::Tensor(tensor),
        }
    }
}

impl Value<'_> {
    fn borrowed(&self) -> Value<'_> {
        match self {
            Value::Single(view) => Value::Single(view.view()),
            Value::Tensor(tensor) => Value::Tensor(tensor),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Value::Single(..) => DType::F32,
            Value::Tensor(tensor) => tensor.dtype(),
        }
    }

    fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Value::Single(..) => None,
            Value::Tensor(tensor) => tensor.to_i64(),
        }
    }
}

/// The values that contractions read, by name.
pub type Values<'a> = BTreeMap<&'a str, Value<'a>>;

/// Element types that gradients are computed in.
pub trait Real: Element + LinalgScalar + Into<f64> + std::ops::AddAssign {
    fn power(self, power: Power) -> Self;
    /// The elements of a value of this type.
    fn view<'a>(value: &Value<'a>) -> Option<ArrayViewD<'a, Self>>;
}

macro_rules! real {
    ($($t:ty: $single:expr),*) => {$(
        impl Real for $t {
            fn power(self, power: Power) -> Self {
                match power {
                    Power::Absolute => self.abs(),
                    Power::Square => self * self,
                    Power::Signed => self,
                }
            }
            fn view<'a>(value: &Value<'a>) -> Option<ArrayViewD<'a, Self>> {
                match value {
                    Value::Single(view) => $single(view),
                    Value::Tensor(tensor) => tensor.array().map(|a| a.view()),
                }
            }
        }
    )*};
}
real!(f32: |view: &ArrayViewD<'a, f32>| Some(view.clone()), f64: |_| None);

/// Adds to `total` (row-major, in the weight's own shape) what one batch contributes: the sum over the
/// samples of the power of the sample's gradient. Without a sample axis the batch counts as one sample.
///
/// # Errors
/// A value that is missing or not of the expected shape or type; an index out of a table's range.
pub fn accumulate(
    weight: &Weight,
    batch: usize,
    values: &Values,
    power: Power,
    total: &mut [f64],
) -> Result<(), ImportanceError> {
    let operands = weight.uses.iter().flat_map(|u| u.contraction.operands());
    let operands = operands.filter_map(|o| Some((&*o.name, values.get(&*o.name)?.borrowed())));
    let operands: Values = operands.collect();
    let double = operands.values().any(|value| value.dtype() == DType::F64);
    let dtype = if double { DType::F64 } else { DType::F32 };
    // Half precision, or a parameter that is used in two types.
    let widened = changed(&operands, |value| widen(value, dtype));
    let operands = over(&operands, &widened);
    if !double && fused::accumulate(Arch::new(), weight, batch, &operands, power, total)? {
        return Ok(());
    }
    let straight = changed(&operands, straighten);
    let operands = over(&operands, &straight);
    match double {
        true => accumulate_as::<f64>(weight, batch, &operands, power, total),
        false => accumulate_as::<f32>(weight, batch, &operands, power, total),
    }
}

/// Those values of which a change makes others.
fn changed<'a>(values: &Values<'a>, change: impl Fn(&Value) -> Option<Tensor>) -> BTreeMap<&'a str, Tensor> {
    values.iter().filter_map(|(&name, value)| Some((name, change(value)?))).collect()
}

/// The values, others in the place of some.
fn over<'a>(values: &'a Values, others: &'a BTreeMap<&str, Tensor>) -> Values<'a> {
    let value = |(&name, value): (&&'a str, &'a Value)| (name, others.get(name).map_or(value.borrowed(), Value::from));
    values.iter().map(value).collect()
}

/// Images that have their channels last in memory, row-major; none where they are.
fn straighten(value: &Value) -> Option<Tensor> {
    match value {
        Value::Single(view) if !view.is_standard_layout() => Some(Tensor::F32(view.as_standard_layout().into_owned())),
        _ => None,
    }
}

/// A floating-point value in another type, row-major; none where it has that type.
fn widen(value: &Value, to: DType) -> Option<Tensor> {
    if value.dtype() == to {
        return None;
    }
    let array = match value {
        Value::Single(view) => view.as_standard_layout().mapv(f64::from),
        Value::Tensor(tensor) => tensor.to_f64()?,
    };
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
    if let [Use { contraction: Contraction::Rows { indices, dy, rows }, views }] = &weight.uses[..]
        && !moved(views)
    {
        let samples = (0..if apart { batch } else { 1 }).map(|sample| Part { sample, batch });
        return samples.into_iter().try_for_each(|part| part.add_rows::<T>(indices, dy, *rows, values, power, total));
    }
    let moves = |one: &Use| moved(&one.views).then(|| places(&weight.shape, &one.views));
    let uses: Vec<_> = weight.uses.iter().map(|one| (&one.contraction, moves(one))).collect();
    let mut scratch = vec![T::zero(); total.len()];
    for sample in 0..if apart { batch } else { 1 } {
        scratch.fill(T::zero());
        let part = Part { sample, batch };
        for (contraction, places) in &uses {
            match places {
                None => part.add::<T>(contraction, values, &mut scratch)?,
                Some(places) => {
                    let mut seen = vec![T::zero(); places.len()];
                    part.add::<T>(contraction, values, &mut seen)?;
                    places.iter().zip(seen).for_each(|(&place, g)| scratch[place] += g);
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

/// The elements of an operand; contiguous, row-major.
pub(super) fn get<'a, T: Real>(values: &Values<'a>, operand: &Operand) -> Result<ArrayViewD<'a, T>, ImportanceError> {
    let value = values.get(&*operand.name).ok_or_else(|| wrong(operand))?;
    let array = T::view(value).ok_or_else(|| wrong(operand))?;
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
                    let image = Image::of(&images, &grads, index, geometry);
                    let size = (out.len() / geometry.group.max(1)).max(1);
                    for (group, out) in out.chunks_exact_mut(size).enumerate() {
                        let out = matrix(out, size / image.width().max(1), image.width()).ok_or_else(|| wrong(x))?;
                        image.add(group, 0..image.width(), &mut buffer, out);
                    }
                }
            }
            Contraction::Rows { indices, dy, rows } => {
                let picked = self.picked(indices, *rows, values)?;
                let width = out.len() / (*rows).max(1);
                let dy = self.slice(get::<T>(values, dy)?, dy);
                for (&row, grads) in picked.iter().zip(dy.chunks(width.max(1))) {
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

    /// Adds to `total` the power of the gradient of a table, of which a sample reads few rows.
    fn add_rows<T: Real>(
        &self,
        indices: &Operand,
        dy: &Operand,
        rows: usize,
        values: &Values,
        power: Power,
        total: &mut [f64],
    ) -> Result<(), ImportanceError> {
        let picked = self.picked(indices, rows, values)?;
        let width = total.len() / rows.max(1);
        let dy = self.slice(get::<T>(values, dy)?, dy);
        let mut order: Vec<usize> = (0..picked.len()).collect();
        order.sort_by_key(|&at| picked[at]);
        for same in order.chunk_by(|&a, &b| picked[a] == picked[b]) {
            let mut sum = vec![T::zero(); width];
            for &at in same {
                sum.iter_mut().zip(&dy[at * width..]).for_each(|(s, &g)| *s += g);
            }
            let target = total[picked[same[0]] * width..].iter_mut();
            target.zip(sum).for_each(|(t, g)| *t += power.apply(g.into()));
        }
        Ok(())
    }

    /// The rows of a table that this sample reads, in order.
    fn picked(&self, indices: &Operand, rows: usize, values: &Values) -> Result<Vec<usize>, ImportanceError> {
        let picked = values.get(&*indices.name).and_then(Value::to_i64).ok_or_else(|| wrong(indices))?;
        let picked = ndarray::ArrayD::from_shape_vec(IxDyn(&indices.shape), picked).map_err(|_| wrong(indices))?;
        let row = |row: i64| normalise(row, rows).ok_or_else(|| wrong(indices));
        self.slice(picked.view(), indices).into_iter().map(row).collect()
    }

    /// Indices along the sample axis that belong to this sample.
    pub fn along(&self, split: SampleAxis) -> impl Iterator<Item = usize> {
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
    fn rows<'a, T: Real>(&self, array: ArrayViewD<'a, T>, operand: &Operand) -> ndarray::CowArray<'a, T, ndarray::Ix2> {
        let columns = operand.shape.last().copied().unwrap_or(1);
        let (start, len) = match operand.samples {
            None => (0, array.len()),
            Some(split) => {
                let (before, tail) = around(&operand.shape, split.axis);
                if before * split.outer != 1 {
                    let rows = self.slice(array, operand);
                    let shape = (rows.len() / columns.max(1), columns);
                    return ndarray::Array2::from_shape_vec(shape, rows)
                        .unwrap_or_else(|_| ndarray::Array2::zeros((0, columns)))
                        .into();
                }
                (self.sample * split.inner * tail, split.inner * tail)
            }
        };
        let flat = array.to_slice().and_then(|s| s.get(start..start + len)).unwrap_or_default();
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
