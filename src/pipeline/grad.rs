//! The gradient graph of a model, written as a model.

use super::{Common, Error, Observer, check_target, data_files, open::open_for, runtime, tell_fallback};
use crate::autograd::Seed;
use crate::autograd::objective::Objective;
use crate::autograd::roles::{self, RoleError};
use crate::data::DataSet;
use crate::error::printable;
use crate::gradient::{GradientGraph, ProbeError, SUFFIX, Shapes, gradient_graph, probe};
use crate::graph::Name;
use crate::session::Feed;
use crate::write::write_all;
use protobuf::Message;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What the gradient graph of a model is made of.
#[derive(Clone, Debug)]
pub struct Grad {
    pub model: PathBuf,
    pub output: PathBuf,
    pub seed: Seed,
    /// Patterns of initializer names; the weights where empty.
    pub wrt: Vec<String>,
    /// Gradients of the inputs too.
    pub wrt_inputs: bool,
    /// Shapes of inputs whose dimensions the model leaves open.
    pub shapes: Shapes,
    /// Data to take values and shapes of inputs from; made up where absent.
    pub data: Option<PathBuf>,
}

/// What a gradient graph holds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GradSummary {
    pub output: PathBuf,
    pub nodes: usize,
    /// Nodes that the outputs of the model need; the others are the backward pass.
    pub forward_nodes: usize,
    pub inputs: Vec<String>,
    /// Outputs of the model, then gradients.
    pub outputs: Vec<String>,
    /// Open, or the size that is fixed.
    pub batch: Option<usize>,
}

/// Writes the gradient graph of a model.
///
/// # Errors
/// As [`gradient_graph`]; a model or data that cannot be read; an output that cannot be written; more than 2 GiB.
pub fn grad(job: &Grad, common: &Common, observer: &mut dyn Observer) -> Result<GradSummary, Error> {
    if job.seed == Seed::Mean(Objective::Fisher) {
        return Err(Error::Usage(
            "--objective fisher needs labels, which a gradient graph does not take; use --seed-input".into(),
        ));
    }
    let opened = open_for(&job.model, common, |verdicts| match roles::differentiable(verdicts, &job.wrt) {
        Err(RoleError::NoWeights) if job.wrt_inputs => Ok(BTreeSet::new()),
        chosen => chosen,
    })?;
    let (graph, mut inputs) = (&opened.graph, opened.files());
    let data = job.data.as_ref().map(|path| opened.data(path, common)).transpose()?;
    if let (Some(set), Some(path)) = (&data, &job.data) {
        inputs.extend(data_files(set, "data"));
        if set.is_empty() {
            return Err(Error::EmptySet { what: "data", path: path.clone() });
        }
    }
    check_target(&job.output, &inputs)?;
    let mut wrt: Vec<Name> = opened.weights.iter().cloned().collect();
    if job.wrt_inputs {
        wrt.extend(graph.inputs.iter().filter(|i| i.dtype.is_float()).map(|i| i.name.clone()));
    }
    let runtime = runtime(common, None, observer)?;
    let feed = |batch: usize| match &data {
        Some(set) => rows(set, batch),
        None => probe(graph, batch, &job.shapes),
    };
    let made = gradient_graph(graph, &wrt, job.seed, &feed, &runtime)?;
    tell_fallback(&runtime, observer);
    if let Some((size, reason)) = &made.fixed {
        observer.warning(&format!("the batch is fixed at {size}: {reason}"));
    }
    let too_large = || Error::TooLarge { path: job.output.clone() };
    let bytes = made.to_model_proto().write_to_bytes().map_err(|_| too_large())?;
    if i32::try_from(bytes.len()).is_err() {
        return Err(too_large());
    }
    write_all(&[(job.output.clone(), bytes)])?;
    Ok(summary(job, &made))
}

fn summary(job: &Grad, made: &GradientGraph) -> GradSummary {
    let names = |names: &mut dyn Iterator<Item = &Name>| names.map(|n| printable(n)).collect();
    GradSummary {
        output: job.output.clone(),
        nodes: made.graph.nodes.len(),
        forward_nodes: made.forward_nodes(),
        inputs: names(&mut made.graph.inputs.iter().map(|i| &i.name)),
        outputs: names(&mut made.graph.outputs.iter()),
        batch: made.fixed.as_ref().map(|(size, _)| *size),
    }
}

impl GradSummary {
    /// Number of gradients among the outputs.
    pub fn gradients(&self) -> usize {
        self.outputs.iter().filter(|name| name.ends_with(SUFFIX)).count()
    }
}

/// The first samples of a data set, from the start again where there are too few.
fn rows(set: &DataSet, batch: usize) -> Result<Feed, ProbeError> {
    let indices: Vec<usize> = (0..batch).map(|i| i % set.len()).collect();
    let chosen = set.select(&indices)?;
    let first = chosen.batches(batch).next().transpose()?;
    Ok(first.map(|batch| batch.inputs).unwrap_or_default())
}
