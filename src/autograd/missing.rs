//! Operators on the way of a gradient that have none.

use super::GradError;
use super::rules::{self, Gradient};
use crate::error::printable;
use crate::graph::{Graph, Name, Node};
use onnx_protobuf::GraphProto;
use std::collections::{BTreeMap, BTreeSet};

/// Every operator between the parameters and the outputs that has no gradient rule, with its number of nodes.
pub fn missing_rules(graph: &Graph, parameters: &BTreeSet<Name>) -> BTreeMap<String, usize> {
    let mut graph = graph.clone();
    graph.prune();
    let mut missing = BTreeMap::new();
    note_missing(&graph.nodes, graph.opset(), &mut parameters.clone(), &mut missing);
    missing
}

fn note_missing(nodes: &[Node], opset: i64, reached: &mut BTreeSet<Name>, missing: &mut BTreeMap<String, usize>) {
    for node in nodes {
        if !node.inputs.iter().flatten().chain(&node.captured()).any(|i| reached.contains(i)) {
            continue;
        }
        match rules::find(node, opset).map(|row| &row.gradient) {
            Some(Gradient::Zero(_)) => continue,
            Some(Gradient::Rule(_) | Gradient::Rewrite(_)) => {}
            // Which branch of If is taken shows when the graph is specialised.
            Some(Gradient::Unrolled) if node.op == "If" => {}
            Some(Gradient::Unrolled) => {
                for body in node.attributes.iter().filter_map(|a| a.g.as_ref()) {
                    note_missing_within(node, body, opset, reached, missing);
                }
            }
            other => {
                let reason = match other {
                    Some(Gradient::Refused(reason)) => format!(": {reason}"),
                    _ => String::new(),
                };
                let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
                *missing.entry(printable(&format!("{domain}{}{reason}", node.op))).or_default() += 1;
            }
        }
        reached.extend(node.outputs.iter().flatten().cloned());
    }
}

/// The same in a body, whose inputs are given from outside and, in a loop, by the iteration before.
fn note_missing_within(
    node: &Node,
    body: &GraphProto,
    opset: i64,
    reached: &BTreeSet<Name>,
    missing: &mut BTreeMap<String, usize>,
) {
    let nodes: Vec<Node> = body.node.iter().map(Node::from).collect();
    let formals: Vec<Name> = body.input.iter().map(|i| i.name.as_str().into()).collect();
    let mut reached = reached.clone();
    let given =
        node.inputs.iter().zip(&formals).filter(|(actual, _)| actual.as_ref().is_some_and(|a| reached.contains(a)));
    let given: Vec<Name> = given.map(|(_, formal)| formal.clone()).collect();
    reached.extend(given);
    note_missing(&nodes, opset, &mut reached, &mut BTreeMap::new());
    let first = usize::from(node.op == "Loop");
    let again = body.output.iter().zip(formals.iter().skip(first)).filter(|(o, _)| reached.contains(o.name.as_str()));
    let again: Vec<Name> = again.map(|(_, formal)| formal.clone()).collect();
    reached.extend(again);
    note_missing(&nodes, opset, &mut reached, missing);
}

/// Checks that every operator between the parameters and the outputs has a gradient rule.
///
/// # Errors
/// All that have none in one message, each with its number of nodes.
pub fn check_rules(graph: &Graph, parameters: &BTreeSet<Name>) -> Result<(), GradError> {
    let missing = missing_rules(graph, parameters);
    if missing.is_empty() {
        return Ok(());
    }
    let nodes = |n: usize| if n == 1 { "1 node".to_string() } else { format!("{n} nodes") };
    let list = missing.iter().map(|(op, n)| format!("{op} ({})", nodes(*n))).collect::<Vec<_>>().join(", ");
    Err(GradError::MissingRules { list })
}
