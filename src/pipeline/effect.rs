//! Where in the model the change has its effect.

use super::{Error, Rewrite};
use crate::graph::Graph;
use crate::session::Runtime;
use crate::validate::{Evaluator, Known};
use ndarray::{Axis, Slice};

/// Samples of the forget set that the effect is measured on, at most.
const SAMPLES: usize = 8;
/// Tensors whose effect is measured: those with the largest effect to first order.
const TENSORS: usize = 16;

/// Measures for each changed tensor how far the outputs on the forget set move when it alone is
/// dampened, relative to the move when all are (root mean squares), and notes it in `change`.
/// The shares need not add up to one: the tensors act together.
pub(super) fn measure_effect(
    graph: &Graph,
    change: &mut Rewrite,
    original: &mut Evaluator,
    forget: &mut Known,
    runtime: &Runtime,
) -> Result<(), Error> {
    let size = graph.fixed_batch().unwrap_or(SAMPLES.min(original.batch));
    let few = forget.data.select(&(0..forget.data.len().min(size)).collect::<Vec<_>>())?;
    let Some(first) = forget.data.batches(original.batch).next().transpose()? else { return Ok(()) };
    let mut before = forget.output(original, 0, &first)?;
    before.slice_axis_inplace(Axis(0), Slice::from(..few.len()));
    let moved = |graph: &Graph| -> Result<f64, Error> {
        let mut changed = Evaluator::new(graph, &few, runtime)?;
        let batch = few.batches(changed.batch).next().transpose()?;
        let after = batch.map(|batch| changed.run(&batch)).transpose()?;
        Ok(after.map_or(0.0, |after| (after - &before).iter().map(|x| x * x).sum::<f64>().sqrt()))
    };
    let all = moved(&change.apply(graph))?;
    if all == 0.0 {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..change.parameters.len()).filter(|&i| change.parameters[i].selected > 0).collect();
    order.sort_by(|&a, &b| change.parameters[b].first_order_change.total_cmp(&change.parameters[a].first_order_change));
    for index in order.into_iter().take(TENSORS) {
        let name = change.parameters[index].name.clone();
        let alone = change.apply_some(graph, |other| other == name);
        change.parameters[index].output_change = Some(moved(&alone)? / all);
    }
    Ok(())
}
