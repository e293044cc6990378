//! New weights from importance.

use super::{Error, Opened};
use crate::dampen::dampen;
use crate::graph::{Graph, Name};
use crate::importance::Sums;
use crate::report::Parameter;
use crate::session::Feed;
use crate::tensor::Tensor;
use ndarray::ArrayD;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// New values for the weights that change.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// Tensors with at least one selected weight.
    pub tensors: BTreeMap<String, Tensor>,
    /// Every weight tensor, changed or not.
    pub parameters: Vec<Parameter>,
    pub selected: usize,
    pub total: usize,
}

/// Dampens the weights of a model, in the type that it holds them in, by their importance over the forget set and over all data.
///
/// # Errors
/// Importance of another shape than the weight's.
pub fn rewrite(opened: &Opened, forget: &Sums, full: &Sums, alpha: f64, lambda: f64) -> Result<Rewrite, Error> {
    let each = |name: &Name| {
        let tensor = &*opened.weight(name)?;
        let (omega_f, omega_d) = (forget.mean(name), full.mean(name));
        let mean = |omega: &Option<ArrayD<f64>>| omega.as_ref().and_then(|o| o.mean());
        let (importance_forget, importance_full) = (mean(&omega_f), mean(&omega_d));
        // No output depends on the weight: it has no importance and stays.
        let none = || ArrayD::zeros(tensor.shape());
        let result = dampen(tensor, &omega_f.unwrap_or_else(none), &omega_d.unwrap_or_else(none), alpha, lambda);
        let result = result.ok_or_else(|| {
            Error::Usage(format!(
                "the profile has '{}' in another shape than the model; compute it anew",
                crate::error::printable(name)
            ))
        })?;
        let parameter = Parameter {
            name: name.to_string(),
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype().to_string(),
            total: tensor.len(),
            selected: result.selected,
            norm_before: result.norm_before,
            norm_after: result.norm_after,
            importance_forget,
            importance_full,
            first_order_change: result.first_order_change,
            output_change: None,
        };
        let tensor = (result.selected > 0).then_some(result.tensor);
        Ok((parameter, tensor))
    };
    let mut out = Rewrite { tensors: BTreeMap::new(), parameters: Vec::new(), selected: 0, total: 0 };
    for (parameter, tensor) in opened.weights.par_iter().map(each).collect::<Result<Vec<_>, Error>>()? {
        out.total += parameter.total;
        out.selected += parameter.selected;
        out.tensors.extend(tensor.map(|tensor| (parameter.name.clone(), tensor)));
        out.parameters.push(parameter);
    }
    Ok(out)
}

impl Rewrite {
    /// The graph with the new weights in place of the old ones.
    pub fn apply(&self, graph: &Graph) -> Graph {
        with_weights(graph, self.values(|_| true))
    }

    /// Those of the new weights whose name is chosen, in the type that graphs are run in.
    pub(super) fn values(&self, chosen: impl Fn(&str) -> bool) -> Feed {
        let chosen = self.tensors.iter().filter(|(name, _)| chosen(name));
        chosen.map(|(name, new)| (name.clone(), new.to_single().unwrap_or_else(|| new.clone()))).collect()
    }
}

/// A graph with these weights in place of those of the same names.
pub(super) fn with_weights(graph: &Graph, weights: Feed) -> Graph {
    let mut graph = graph.clone();
    graph.constants.extend(weights.into_iter().map(|(name, new)| (name.into(), Arc::new(new))));
    graph
}

/// The largest ratio of importance on the forget set to that on all data, over all weights.
pub(super) fn largest_ratio(forget: &Sums, full: &Sums) -> f64 {
    let ratio = |(f, d): (&f64, &f64)| if *f > 0.0 { f / d } else { 0.0 };
    let of = |name: &String| {
        let (f, d) = (forget.mean(name)?, full.mean(name)?);
        f.iter().zip(&d).map(ratio).reduce(f64::max)
    };
    forget.weights.par_iter().filter_map(|(name, _)| of(name)).reduce(|| 0.0, f64::max)
}
