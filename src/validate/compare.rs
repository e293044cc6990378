//! Running models on data and comparing what they give.

use super::ValidateError;
use super::metrics::{Comparison, Tally};
use crate::data::{Batch, DataSet};
use crate::graph::Graph;
use crate::importance::padded;
use crate::session::{Kinds, Runtime, Session};
use crate::with_array;
use ndarray::{ArrayD, Axis, Slice};

/// Samples in a batch where the model leaves the number open.
const BATCH: usize = 32;

/// A model that is run on batches of any size up to its own.
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
        Ok(Evaluator { session: runtime.session(&graph, &Kinds::new())?, name, batch })
    }

    /// The output for a batch, `[samples, …]`, in f64.
    ///
    /// # Errors
    /// The runtime fails, or the output is no floating-point tensor with the samples on its first axis.
    pub fn run(&mut self, batch: &Batch) -> Result<ArrayD<f64>, ValidateError> {
        let mut outputs = self.session.run(&padded(batch, self.batch))?;
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
            a.slice_axis(Axis(0), Slice::from(..batch.samples)).as_standard_layout().into_owned().into()
        });
        let kept: crate::tensor::Tensor = kept;
        kept.to_f64().ok_or_else(wrong)
    }
}

/// The axis that holds classes: 1 for `[batch, classes]` and images, the last for sequences.
pub fn class_axis(rank: usize) -> usize {
    if rank == 3 { 2 } else { 1 }
}

/// Compares two models over a data set, batch by batch.
///
/// # Errors
/// As [`Evaluator::run`]; outputs of different shapes.
pub fn compare(before: &mut Evaluator, after: &mut Evaluator, data: &DataSet) -> Result<Comparison, ValidateError> {
    let mut tally = Tally::default();
    for batch in data.batches(before.batch) {
        let batch = batch?;
        let (a, b) = (before.run(&batch)?, after.run(&batch)?);
        if a.shape() != b.shape() {
            return Err(ValidateError::Different(format!("outputs have shapes {:?} and {:?}", a.shape(), b.shape())));
        }
        tally.add(&a, &b, class_axis(a.ndim()), batch.labels.as_deref());
    }
    Ok(tally.finish())
}

/// The outputs of a model over a data set, `[samples, …]`.
///
/// # Errors
/// As [`Evaluator::run`].
pub fn predict(model: &mut Evaluator, data: &DataSet) -> Result<ArrayD<f64>, ValidateError> {
    let parts = data.batches(model.batch).map(|batch| model.run(&batch?)).collect::<Result<Vec<_>, ValidateError>>()?;
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    ndarray::concatenate(Axis(0), &views).map_err(|e| ValidateError::Different(e.to_string()))
}
