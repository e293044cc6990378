//! Where in the model the change has its effect.

use super::{Error, Rewrite};
use crate::data::DataSet;
use crate::graph::Graph;
use crate::session::Runtime;
use crate::validate::{Evaluator, predict};
use ndarray::ArrayD;

/// Samples of the forget set that the effect is measured on.
const SAMPLES: usize = 32;
/// Tensors whose effect is measured: those with the largest effect to first order.
const TENSORS: usize = 24;

/// Measures for each changed tensor how far the outputs on the forget set move when it alone is
/// dampened, relative to the move when all are (root mean squares), and notes it in `change`.
/// The shares need not add up to one: the tensors act together.
pub(super) fn measure_effect(
    graph: &Graph,
    change: &mut Rewrite,
    forget: &DataSet,
    runtime: &Runtime,
) -> Result<(), Error> {
    let few = forget.select(&(0..forget.len().min(SAMPLES)).collect::<Vec<_>>())?;
    let outputs = |graph: &Graph| -> Result<ArrayD<f64>, Error> {
        Ok(predict(&mut Evaluator::new(graph, &few, runtime)?, &few)?)
    };
    let before = outputs(graph)?;
    let moved = |after: ArrayD<f64>| (after - &before).iter().map(|x| x * x).sum::<f64>().sqrt();
    let all = moved(outputs(&change.apply(graph))?);
    if all == 0.0 {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..change.parameters.len()).filter(|&i| change.parameters[i].selected > 0).collect();
    order.sort_by(|&a, &b| change.parameters[b].first_order_change.total_cmp(&change.parameters[a].first_order_change));
    for index in order.into_iter().take(TENSORS) {
        let name = change.parameters[index].name.clone();
        let alone = change.apply_some(graph, |other| other == name);
        change.parameters[index].output_change = Some(moved(outputs(&alone)?) / all);
    }
    Ok(())
}
