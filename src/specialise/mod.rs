//! A graph for one batch size: every shape known, everything that does not depend on data or
//! parameters computed once.
//!
//! Shapes are not inferred operator by operator. The forward graph is run once on real data with every
//! value as an output, and the runtime says what it computed: exact for every operator it knows.

mod control;
pub mod samples;
mod settle;

use crate::error::{Kind, printable};
use crate::graph::{Graph, Input, Name, Node};
use crate::session::{Feed, Runtime, SessionError};
use crate::tensor::Tensor;
use samples::{Facts, Layout};
use settle::settle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum SpecialiseError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the data has no values for input '{name}'")]
    MissingInput { name: String },
    #[error("input '{name}' does not have the samples on its first axis: shape {shape:?} with a batch of {batch}")]
    NotBatched { name: String, shape: Vec<usize>, batch: usize },
    #[error("{node}: {reason}; it cannot be unrolled")]
    Control { node: String, reason: String },
    #[error("the loops of the model unrolled give more than {limit} nodes")]
    Unrolled { limit: usize },
}

impl SpecialiseError {
    pub fn kind(&self) -> Kind {
        match self {
            SpecialiseError::Session(e) => e.kind(),
            SpecialiseError::Control { .. } => Kind::Unsupported,
            SpecialiseError::Unrolled { .. } => Kind::Limit,
            SpecialiseError::MissingInput { .. } | SpecialiseError::NotBatched { .. } => Kind::Malformed,
        }
    }
}

/// A graph for one batch size.
#[derive(Clone, Debug)]
pub struct Specialised {
    pub graph: Graph,
    pub facts: Facts,
}

/// Operators whose output depends on shapes alone.
const OF_SHAPES: [&str; 3] = ["EyeLike", "Shape", "Size"];
const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"];

/// Whether a node gives other values at every run.
pub(crate) fn is_random(node: &Node) -> bool {
    RANDOM.contains(&node.op.as_str())
}

/// Specialises `graph` to the shapes in `feed`, a batch of `batch` samples on the first axis of every
/// input; in a batch of one everything belongs to the one sample, on whatever axes. Values that depend neither on data nor on `parameters` become constants.
///
/// # Errors
/// The runtime cannot run the graph on this data, or an input has no batch axis.
pub fn specialise(
    graph: &Graph,
    parameters: &BTreeSet<Name>,
    feed: &Feed,
    batch: usize,
    runtime: &Runtime,
) -> Result<Specialised, SpecialiseError> {
    let mut graph = graph.clone();
    let mut facts = Facts { batch, ..Default::default() };
    for input in &mut graph.inputs {
        fix(input, feed, batch, &mut facts)?;
    }
    graph.prune();
    let choices = unroll(&mut graph, parameters, feed, runtime)?;
    for (name, tensor) in &graph.constants {
        facts.kinds.insert(name.clone(), (tensor.dtype(), tensor.shape().to_vec()));
        facts.layouts.insert(name.clone(), Layout::Shared);
    }
    let fixed = fixed_values(&graph, parameters);
    observe(&mut graph, &mut facts, &fixed, feed, runtime)?;
    graph.nodes.iter_mut().for_each(|node| settle(node, &facts, &graph.constants));
    for (node, [a, b]) in choices {
        if facts.kinds.get(&a) != facts.kinds.get(&b) {
            let reason = "its branches give values of different shapes and data tells which is taken".into();
            return Err(SpecialiseError::Control { node, reason });
        }
    }
    graph.nodes.retain(|node| !node.outputs.iter().flatten().all(|o| fixed.contains(o)));
    graph.prune();
    facts.constants = graph.constants.clone();
    Ok(Specialised { graph, facts })
}

/// Takes the shape of an input from the data.
fn fix(input: &mut Input, feed: &Feed, batch: usize, facts: &mut Facts) -> Result<(), SpecialiseError> {
    let name = || printable(&input.name);
    let tensor = feed.get(&*input.name).ok_or_else(|| SpecialiseError::MissingInput { name: name() })?;
    let shape = tensor.shape().to_vec();
    if batch != 1 && shape.first() != Some(&batch) {
        return Err(SpecialiseError::NotBatched { name: name(), shape, batch });
    }
    let layout = if batch == 1 { Layout::Shared } else { Layout::Samples { stride: samples::stride(&shape, 0) } };
    facts.layouts.insert(input.name.clone(), layout);
    facts.kinds.insert(input.name.clone(), (tensor.dtype(), shape.clone()));
    input.shape = shape.into_iter().map(Some).collect();
    Ok(())
}

/// Replaces control flow by what it runs, round by round: what one round replaces may tell the conditions of the next.
///
/// # Errors
/// What is not known in the end; a loop beside the gradient's way that may not end.
fn unroll(
    graph: &mut Graph,
    parameters: &BTreeSet<Name>,
    feed: &Feed,
    runtime: &Runtime,
) -> Result<Vec<control::Choice>, SpecialiseError> {
    let mut choices = Vec::new();
    while graph.nodes.iter().any(control::is_control) {
        let fixed = fixed_values(graph, parameters);
        let shapes = fold(graph, &fixed, feed, runtime)?;
        let known = control::Known { fixed: &fixed, shapes: &shapes, parameters, runtime };
        if !control::expand(graph, &known, &mut choices)? {
            break;
        }
        graph.prune();
    }
    control::check_rest(graph, parameters)?;
    Ok(choices)
}

/// Computes what no open control flow comes before: fixed values become constants; gives the shapes of what control
/// flow reads.
fn fold(
    graph: &mut Graph,
    fixed: &BTreeSet<Name>,
    feed: &Feed,
    runtime: &Runtime,
) -> Result<BTreeMap<Name, Vec<usize>>, SpecialiseError> {
    let (mut late, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for node in &graph.nodes {
        let mut inputs = node.inputs.iter().flatten().cloned().chain(node.captured());
        let outputs = node.outputs.iter().flatten().cloned();
        let ends =
            node.outputs.iter().flatten().all(|o| fixed.contains(o)) && control::is_bounded(node, &graph.constants);
        if (control::is_control(node) && !ends) || inputs.any(|i| late.contains(&i)) {
            late.extend(outputs);
        }
    }
    for node in &graph.nodes {
        let read = node.inputs.iter().flatten().filter(|_| control::is_control(node)).cloned();
        let known = node.outputs.iter().flatten().filter(|o| fixed.contains(*o)).cloned();
        wanted.extend(read.chain(known).filter(|name| !late.contains(name)));
    }
    let made: BTreeSet<&Name> = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten()).collect();
    let outputs: Vec<Name> = wanted.iter().filter(|name| made.contains(name)).cloned().collect();
    let mut shapes: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
    shapes.extend(graph.constants.iter().map(|(name, t)| (name.clone(), t.shape().to_vec())));
    shapes.extend(feed.iter().map(|(name, t)| (Name::from(name.as_str()), t.shape().to_vec())));
    if !outputs.is_empty() {
        let mut watched = Graph { outputs: outputs.clone(), ..graph.clone() };
        watched.prune();
        let values = runtime.observer(&watched)?.run(feed)?;
        for (name, value) in outputs.into_iter().zip(values) {
            shapes.insert(name.clone(), value.shape().to_vec());
            if fixed.contains(&name) {
                keep(graph, name, value);
            }
        }
    }
    let Graph { nodes, constants, .. } = graph;
    nodes.retain(|node| !node.outputs.iter().flatten().all(|o| constants.contains_key(o)));
    Ok(shapes)
}

/// Names of node outputs that depend neither on data nor on parameters.
fn fixed_values(graph: &Graph, parameters: &BTreeSet<Name>) -> BTreeSet<Name> {
    let mut fixed: BTreeSet<Name> = graph.constants.keys().filter(|c| !parameters.contains(*c)).cloned().collect();
    let mut outputs = BTreeSet::new();
    for node in &graph.nodes {
        let of_shapes = node.domain.is_empty() && OF_SHAPES.contains(&node.op.as_str());
        let from_fixed = node.inputs.iter().flatten().chain(&node.captured()).all(|i| fixed.contains(i));
        if of_shapes || (from_fixed && !is_random(node)) {
            fixed.extend(node.outputs.iter().flatten().cloned());
            outputs.extend(node.outputs.iter().flatten().cloned());
        }
    }
    outputs
}

/// Nodes whose values are in memory at the same time while the graph is observed.
const OBSERVED: usize = 64;

/// Runs the graph once, some nodes at a time with every value as an output; notes kinds, and keeps the values of
/// `fixed` as constants.
fn observe(
    graph: &mut Graph,
    facts: &mut Facts,
    fixed: &BTreeSet<Name>,
    feed: &Feed,
    runtime: &Runtime,
) -> Result<(), SpecialiseError> {
    let nodes = graph.nodes.clone();
    let mut live = feed.clone();
    for (index, part) in nodes.chunks(OBSERVED).enumerate() {
        let read = read_by(part);
        let later = read_by(&nodes[OBSERVED.saturating_mul(index + 1).min(nodes.len())..]);
        let made: Vec<Name> = part.iter().flat_map(|n| n.outputs.iter().flatten().cloned()).collect();
        let input = |name: &Name| {
            let tensor = live.get(&**name).filter(|_| !graph.constants.contains_key(name))?;
            let shape = tensor.shape().iter().map(|&d| Some(d)).collect();
            Some(Input { name: name.clone(), dtype: tensor.dtype(), shape })
        };
        let watched = Graph {
            nodes: part.to_vec(),
            constants: read.iter().filter_map(|n| Some((n.clone(), graph.constants.get(n)?.clone()))).collect(),
            inputs: read.iter().filter_map(input).collect(),
            outputs: made.clone(),
            opsets: graph.opsets.clone(),
            ir_version: graph.ir_version,
        };
        let mut kept = Vec::new();
        runtime.observer(&watched)?.show(&live, &mut |outputs| {
            for (name, output) in made.iter().zip(outputs) {
                facts.kinds.insert(name.clone(), output.kind());
                if fixed.contains(name) || later.contains(name) {
                    kept.push((name.clone(), output.into_tensor()));
                }
            }
        })?;
        for (name, value) in kept {
            if fixed.contains(&name) {
                facts.layouts.insert(name.clone(), Layout::Shared);
                keep(graph, name, value);
            } else {
                live.insert(name.to_string(), value);
            }
        }
        live.retain(|name, _| later.contains(name.as_str()));
    }
    Ok(())
}

/// All values that nodes and the graphs within them read.
fn read_by(nodes: &[Node]) -> BTreeSet<Name> {
    nodes.iter().flat_map(|node| node.inputs.iter().flatten().cloned().chain(node.captured())).collect()
}

fn keep(graph: &mut Graph, name: Name, value: Tensor) {
    graph.constants.insert(name, Arc::new(value));
}
