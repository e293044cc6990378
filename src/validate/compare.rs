//! Running models on data and comparing what they give.

use super::ValidateError;
use super::metrics::{Comparison, Tally};
use crate::data::{Batch, DataSet};
use crate::graph::{Graph, Input, Name};
use crate::importance::{padded, parts};
use crate::session::{Feed, Kinds, Runtime, Session};
use crate::with_array;
use ndarray::{ArrayD, ArrayView1, Axis, Slice};
use std::collections::BTreeMap;

/// Samples in a batch where the model leaves the number open.
const BATCH: usize = 32;
/// Bytes that kept outputs of one data set may take.
const ROOM: usize = 256 << 20;

/// A model that is run on batches of any size.
pub struct Evaluator {
    session: Box<dyn Session>,
    name: String,
    /// Samples in a batch.
    pub batch: usize,
}

impl Evaluator {
    /// Prepares the first output of `graph`, with input shapes taken from `data`.
    ///
    /// # Errors
    /// The runtime refuses the model, or the data is empty or unreadable.
    pub fn new(graph: &Graph, data: &DataSet, runtime: &Runtime) -> Result<Evaluator, ValidateError> {
        Evaluator::with_inputs(graph, &[], data, runtime)
    }

    /// The same of a graph some of whose `constants` are inputs, which the data has no values for.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn with_inputs(
        graph: &Graph,
        constants: &[Name],
        data: &DataSet,
        runtime: &Runtime,
    ) -> Result<Evaluator, ValidateError> {
        let fixed = graph.fixed_batch();
        let batch = fixed.unwrap_or(BATCH.min(data.len().max(1)));
        let mut graph = graph.clone();
        graph.outputs.truncate(1);
        graph.prune();
        let name = graph.outputs.first().map(|o| crate::error::printable(o)).unwrap_or_default();
        if let Some(first) = data.batches(1).next().transpose()? {
            for input in &mut graph.inputs {
                if let Some(tensor) = first.inputs.get(&*input.name) {
                    input.shape = tensor.shape().iter().map(|&d| Some(d)).collect();
                    input.shape[0] = Some(batch);
                }
            }
        }
        for name in constants {
            if let Some(tensor) = graph.constants.remove(name) {
                let shape = tensor.shape().iter().map(|&d| Some(d)).collect();
                graph.inputs.push(Input { name: name.clone(), dtype: tensor.dtype(), shape });
            }
        }
        Ok(Evaluator { session: runtime.session(&graph, &Kinds::new())?, name, batch })
    }

    /// The output for a batch, `[samples, …]`, in f64; one of more samples than the model takes is run in parts.
    ///
    /// # Errors
    /// The runtime fails, or the output is no floating-point tensor with the samples on its first axis.
    pub fn run(&mut self, batch: &Batch) -> Result<ArrayD<f64>, ValidateError> {
        if batch.samples <= self.batch {
            return self.run_on(&padded(batch, self.batch), batch.samples);
        }
        stacked(parts(batch, self.batch).map(|part| self.run(&part)))
    }

    /// The same for the first so many samples of values for all inputs, a whole batch.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn run_on(&mut self, feed: &Feed, samples: usize) -> Result<ArrayD<f64>, ValidateError> {
        let mut outputs = self.session.run(feed)?;
        let output = outputs.swap_remove(0);
        let wrong = || ValidateError::Output {
            name: self.name.clone(),
            found: output.dtype().to_string(),
            shape: output.shape().to_vec(),
        };
        if output.shape().len() < 2 || output.shape()[0] != self.batch {
            return Err(wrong());
        }
        let kept = with_array!(&output, a => {
            a.slice_axis(Axis(0), Slice::from(..samples)).as_standard_layout().into_owned().into()
        });
        let kept: crate::tensor::Tensor = kept;
        kept.to_f64().ok_or_else(wrong)
    }
}

/// The axis that holds classes: 1 for `[batch, classes]` and images, the last for sequences.
pub fn class_axis(rank: usize) -> usize {
    if rank == 3 { 2 } else { 1 }
}

/// A data set, and what the original gives on its batches, kept as far as there is room.
pub struct Known {
    pub data: DataSet,
    outputs: BTreeMap<usize, ArrayD<f64>>,
    room: usize,
}

impl Known {
    /// At most so many samples of a data set, spread evenly over it, and those of each batch too. `outputs` are those
    /// of the original for the whole data set, where they are known.
    ///
    /// # Errors
    /// None that a caller can meet: the samples are those of the data set.
    pub fn some(
        data: &DataSet,
        most: usize,
        outputs: Option<&ArrayD<f64>>,
        original: &Evaluator,
    ) -> Result<Known, ValidateError> {
        let (all, batches) = (data.len(), most.div_ceil(original.batch));
        let chosen: Vec<usize> = match all <= most {
            true => (0..all).collect(),
            false => {
                let order = (0..batches).flat_map(|first| (first..most).step_by(batches));
                order.map(|i| i * all / most).collect()
            }
        };
        let whole = outputs.filter(|rows| rows.shape()[0] == all);
        let known = |whole: &ArrayD<f64>| {
            let batches = chosen.chunks(original.batch).map(|rows| whole.select(Axis(0), rows));
            batches.enumerate().collect()
        };
        Ok(Known { data: data.select(&chosen)?, outputs: whole.map(known).unwrap_or_default(), room: ROOM })
    }

    /// Of these samples the ones, at most so many, whose two largest outputs are nearest to each other in the original:
    /// where they are several rows, in the row where they are.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn undecided(&mut self, original: &mut Evaluator, most: usize) -> Result<Known, ValidateError> {
        let (data, mut margins) = (self.data.clone(), Vec::new());
        for (number, batch) in data.batches(original.batch).enumerate() {
            let outputs = self.output(original, number, &batch?)?;
            for row in outputs.axis_iter(Axis(0)) {
                let classes = Axis(class_axis(outputs.ndim()) - 1);
                margins.push(row.lanes(classes).into_iter().map(margin).fold(f64::INFINITY, f64::min));
            }
        }
        let mut order: Vec<usize> = (0..margins.len()).collect();
        order.sort_by(|&a, &b| margins[a].total_cmp(&margins[b]));
        order.truncate(most);
        let size = original.batch;
        let row = |&i: &usize| Some(self.outputs.get(&(i / size))?.index_axis(Axis(0), i % size));
        let of_batch = |chosen: &[usize]| {
            let rows = chosen.iter().map(row).collect::<Option<Vec<_>>>()?;
            ndarray::stack(Axis(0), &rows).ok()
        };
        let outputs = order.chunks(size).map(of_batch).enumerate();
        let outputs = outputs.filter_map(|(number, output)| Some((number, output?))).collect();
        Ok(Known { data: data.select(&order)?, outputs, room: ROOM })
    }

    /// The original's output for a batch, by its number.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn output(
        &mut self,
        original: &mut Evaluator,
        number: usize,
        batch: &Batch,
    ) -> Result<ArrayD<f64>, ValidateError> {
        if let Some(known) = self.outputs.get(&number) {
            return Ok(known.clone());
        }
        let output = original.run(batch)?;
        if let Some(left) = self.room.checked_sub(output.len() * size_of::<f64>()) {
            self.room = left;
            self.outputs.insert(number, output.clone());
        }
        Ok(output)
    }
}

/// How far the largest output of a row is above the next.
fn margin(row: ArrayView1<f64>) -> f64 {
    let [mut first, mut second] = [f64::NEG_INFINITY; 2];
    for &x in row {
        (first, second) = if x > first { (x, first) } else { (first, second.max(x)) };
    }
    first - second
}

/// Compares a new model with the original over a data set, batch by batch.
///
/// # Errors
/// As [`Evaluator::run`]; outputs of different shapes.
pub fn compare(before: &mut Evaluator, known: &mut Known, after: &mut Evaluator) -> Result<Comparison, ValidateError> {
    compare_with_first(before, known, after).map(|(found, _)| found)
}

/// The same, and what the new model gives for the first batch.
///
/// # Errors
/// As [`compare`].
pub(crate) fn compare_with_first(
    before: &mut Evaluator,
    known: &mut Known,
    after: &mut Evaluator,
) -> Result<(Comparison, ArrayD<f64>), ValidateError> {
    let mut first = None;
    let tally = tally(before, known, after, |_, output| {
        first.get_or_insert_with(|| output.clone());
        false
    })?;
    Ok((tally.finish(), first.unwrap_or_default()))
}

/// Whether the share of rows with the same largest output is at least `least` among `samples` samples, if those beside
/// the given ones do not change. No more is computed once it cannot be.
///
/// # Errors
/// As [`compare`].
pub fn agrees(
    before: &mut Evaluator,
    known: &mut Known,
    after: &mut Evaluator,
    samples: usize,
    least: f64,
) -> Result<bool, ValidateError> {
    let lost = |tally: &Tally| tally.differing() > (1.0 - least) * samples as f64 * tally.rows_per_sample();
    Ok(!lost(&tally(before, known, after, |tally, _| lost(tally))?))
}

fn tally(
    before: &mut Evaluator,
    known: &mut Known,
    after: &mut Evaluator,
    mut stop: impl FnMut(&Tally, &ArrayD<f64>) -> bool,
) -> Result<Tally, ValidateError> {
    let mut tally = Tally::default();
    let data = known.data.clone();
    for (number, batch) in data.batches(before.batch).enumerate() {
        let batch = batch?;
        let (a, b) = (known.output(before, number, &batch)?, after.run(&batch)?);
        if a.shape() != b.shape() {
            return Err(ValidateError::Different(format!("outputs have shapes {:?} and {:?}", a.shape(), b.shape())));
        }
        tally.add(&a, &b, class_axis(a.ndim()), batch.labels.as_deref());
        if stop(&tally, &b) {
            break;
        }
    }
    Ok(tally)
}

/// The outputs of a model over a data set, `[samples, …]`.
///
/// # Errors
/// As [`Evaluator::run`].
pub fn predict(model: &mut Evaluator, data: &DataSet) -> Result<ArrayD<f64>, ValidateError> {
    stacked(data.batches(model.batch).map(|batch| model.run(&batch?)))
}

/// Outputs one after the other.
fn stacked(parts: impl Iterator<Item = Result<ArrayD<f64>, ValidateError>>) -> Result<ArrayD<f64>, ValidateError> {
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(0), &views).map_err(|e| ValidateError::Different(e.to_string()))
}
