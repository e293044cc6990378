//! Control flow replaced by what it runs: the branch that is taken, every iteration of a loop. What cannot be
//! replaced is refused by name before anything of it runs, so that no endless loop is ever started.

mod trips;
mod unroll;

use super::SpecialiseError;
use crate::graph::{Graph, Name, Node, nodes_within};
use crate::session::Runtime;
use crate::tensor::Tensor;
use onnx_protobuf::GraphProto;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use unroll::Expansion;

/// Nodes that a graph may have after its loops were unrolled, and iterations of a loop that is run as it is.
const MOST_NODES: usize = 50_000;
const MOST_ITERATIONS: i64 = 100_000;

/// Two values of which one is chosen by data: the branches of the node described.
pub(super) type Choice = (String, [Name; 2]);

pub(super) fn is_control(node: &Node) -> bool {
    node.domain.is_empty() && ["If", "Loop", "Scan"].contains(&node.op.as_str())
}

/// Whether every loop in a node, itself included, ends soon: trip counts are constants and their product is small.
pub(super) fn is_bounded(node: &Node, constants: &BTreeMap<Name, Arc<Tensor>>) -> bool {
    let inner = nodes_within(node);
    let given = |name: &Name| {
        let made = inner.iter().find(|n| n.op == "Constant" && n.outputs.first() == Some(&Some(name.clone())));
        let value = || made.and_then(|n| n.attribute("value")).and_then(|a| scalar(&a.t));
        constants.get(name).and_then(|t| t.to_i64()?.first().copied()).or_else(value)
    };
    let mut loops = inner.iter().chain([node]).filter(|n| is_control(n) && n.op == "Loop");
    let trips = loops.try_fold(1i64, |all, n| all.checked_mul(n.input(0).and_then(given)?.max(1)));
    trips.is_some_and(|trips| trips <= MOST_ITERATIONS)
}

/// The one integer or truth value of a tensor.
fn scalar(tensor: &onnx_protobuf::TensorProto) -> Option<i64> {
    let raw = || match tensor.raw_data.len() {
        1 => Some(tensor.raw_data[0].into()),
        _ => tensor.raw_data.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes)),
    };
    tensor.int64_data.first().copied().or(tensor.int32_data.first().map(|&v| v.into())).or_else(raw)
}

/// What is known before the control flow of a graph runs.
pub(super) struct Known<'a> {
    /// Values that will be known once other control flow is replaced.
    pub fixed: &'a BTreeSet<Name>,
    pub shapes: &'a BTreeMap<Name, Vec<usize>>,
    pub parameters: &'a BTreeSet<Name>,
    /// Counts the iterations of loops that their own conditions end.
    pub runtime: &'a Runtime,
}

/// Replaces the control flow between parameters and outputs whose conditions and trip counts are known. Gives
/// whether anything was replaced.
///
/// # Errors
/// A condition or trip count that depends on data, where nothing can stand for it; too many nodes.
pub(super) fn expand(graph: &mut Graph, known: &Known, choices: &mut Vec<Choice>) -> Result<bool, SpecialiseError> {
    let (mut reached, mut out, mut changed) = (known.parameters.clone(), Expansion::default(), false);
    for node in std::mem::take(&mut graph.nodes) {
        let depends = node.inputs.iter().flatten().chain(&node.captured()).any(|i| reached.contains(i));
        if depends {
            reached.extend(node.outputs.iter().flatten().cloned());
        }
        let replaced = match node.op.as_str() {
            _ if !depends || !is_control(&node) => false,
            "If" => out.branch(&node, graph, known, choices)?,
            "Loop" => out.iterate(&node, graph, known)?,
            _ => out.scan(&node, known)?,
        };
        changed |= replaced;
        if !replaced {
            out.nodes.push(node);
        }
        if changed && out.nodes.len() > MOST_NODES {
            return Err(SpecialiseError::Unrolled { limit: MOST_NODES });
        }
    }
    graph.nodes = out.nodes;
    graph.constants.extend(out.constants);
    Ok(changed)
}

fn refused<T>(node: &Node, reason: &str) -> Result<T, SpecialiseError> {
    Err(SpecialiseError::Control { node: node.describe(), reason: reason.into() })
}

/// A sub-graph of a node.
fn body<'a>(node: &'a Node, name: &str) -> Result<&'a GraphProto, SpecialiseError> {
    match node.attribute(name).and_then(|a| a.g.as_ref()) {
        Some(graph) if graph.sparse_initializer.is_empty() => Ok(graph),
        Some(_) => refused(node, "its body has sparse initializers"),
        None => refused(node, "it has no body"),
    }
}

/// Checks that the control flow that is left needs no gradient and ends.
///
/// # Errors
/// Control flow between parameters and outputs; a loop whose trip count is not a small constant.
pub(super) fn check_rest(graph: &Graph, parameters: &BTreeSet<Name>) -> Result<(), SpecialiseError> {
    let mut reached = parameters.clone();
    for node in &graph.nodes {
        let depends = node.inputs.iter().flatten().chain(&node.captured()).any(|i| reached.contains(i));
        if depends {
            reached.extend(node.outputs.iter().flatten().cloned());
        }
        if is_control(node) && depends {
            return refused(node, "another loop computes what it depends on");
        }
        if !is_bounded(node, &graph.constants) {
            return refused(node, "a loop in it may not end");
        }
    }
    Ok(())
}

/// What a condition or a trip count is.
enum Scalar {
    Known(i64),
    /// Known once other control flow is replaced.
    Later,
    OfData,
}

fn value(graph: &Graph, known: &Known, name: &Name) -> Scalar {
    let tensor = graph.constants.get(name).filter(|_| !known.parameters.contains(name));
    let number = tensor.and_then(|tensor| match &**tensor {
        Tensor::Bool(a) => a.first().map(|&on| i64::from(on)),
        other => other.to_i64().and_then(|v| v.first().copied()),
    });
    match number {
        Some(number) => Scalar::Known(number),
        None if known.fixed.contains(name) => Scalar::Later,
        None => Scalar::OfData,
    }
}

/// Whether the condition that a loop's body puts out is always true.
fn goes_on(body: &GraphProto, graph: &Graph) -> bool {
    let Some(mut name) = body.output.first().map(|o| o.name.as_str()) else { return false };
    for node in body.node.iter().rev() {
        if !node.output.iter().any(|o| o == name) {
            continue;
        }
        match (node.op_type.as_str(), node.input.first()) {
            ("Identity" | "Cast", Some(input)) => name = input,
            ("Constant", _) => {
                let value = node.attribute.iter().find(|a| a.name == "value");
                return value.and_then(|a| scalar(&a.t)) == Some(1);
            }
            _ => return false,
        }
    }
    let initializer = body.initializer.iter().find(|t| t.name == name).and_then(scalar);
    let outside = matches!(graph.constants.get(name).map(|t| &**t), Some(Tensor::Bool(a)) if a.iter().all(|&on| on));
    body.input.get(1).is_some_and(|condition| condition.name == name) || initializer == Some(1) || outside
}
