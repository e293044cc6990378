//! Where in the model the change has its effect.

use super::rewrite::with_weights;
use super::{Error, Rewrite};
use crate::data::{Batch, DataSet};
use crate::graph::{Graph, Name};
use crate::importance::padded;
use crate::session::{Feed, Runtime};
use crate::tensor::Tensor;
use crate::validate::Evaluator;
use ndarray::ArrayD;

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
    forget: &DataSet,
    runtime: &Runtime,
) -> Result<(), Error> {
    let size = graph.fixed_batch().unwrap_or(SAMPLES).min(forget.len());
    let few = forget.select(&(0..size).collect::<Vec<_>>())?;
    let Some(batch) = few.batches(size.max(1)).next().transpose()? else { return Ok(()) };
    let mut trial = Trial::new(graph, change, &few, batch, runtime);
    let before = trial.outputs(&Feed::new())?;
    let mut moved = |weights: Feed| -> Result<f64, Error> {
        let after = trial.outputs(&weights)?;
        Ok((after - &before).iter().map(|x| x * x).sum::<f64>().sqrt())
    };
    let all = moved(change.values(|_| true))?;
    if all == 0.0 {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..change.parameters.len()).filter(|&i| change.parameters[i].selected > 0).collect();
    order.sort_by(|&a, &b| change.parameters[b].first_order_change.total_cmp(&change.parameters[a].first_order_change));
    for index in order.into_iter().take(TENSORS) {
        let alone = change.values(|name| name == change.parameters[index].name);
        change.parameters[index].output_change = Some(moved(alone)? / all);
    }
    Ok(())
}

/// A model on one batch, with other weights each time. To make a session costs more than to run it on a few samples:
/// one takes the weights as inputs, where the runtime can have them so.
struct Trial<'a> {
    graph: &'a Graph,
    data: &'a DataSet,
    runtime: &'a Runtime,
    batch: Batch,
    shared: Option<(Evaluator, Feed)>,
}

impl<'a> Trial<'a> {
    fn new(graph: &'a Graph, change: &Rewrite, data: &'a DataSet, batch: Batch, runtime: &'a Runtime) -> Trial<'a> {
        let names: Vec<Name> = change.tensors.keys().map(|name| name.as_str().into()).collect();
        let shared = Evaluator::with_inputs(graph, &names, data, runtime).ok().map(|model| {
            let mut feed = padded(&batch, model.batch);
            let old = |name: &Name| Some((name.to_string(), Tensor::clone(graph.constants.get(name)?)));
            feed.extend(names.iter().filter_map(old));
            (model, feed)
        });
        Trial { graph, data, runtime, batch, shared }
    }

    /// The output with these weights in place of the old ones.
    fn outputs(&mut self, weights: &Feed) -> Result<ArrayD<f64>, Error> {
        let samples = self.batch.samples;
        let Some((model, feed)) = &mut self.shared else {
            let graph = with_weights(self.graph, weights.clone());
            return Ok(Evaluator::new(&graph, self.data, self.runtime)?.run(&self.batch)?);
        };
        let old: Vec<_> = weights.iter().map(|(name, new)| (name, feed.insert(name.clone(), new.clone()))).collect();
        let output = model.run_on(feed, samples);
        feed.extend(old.into_iter().filter_map(|(name, old)| Some((name.clone(), old?))));
        Ok(output?)
    }
}
