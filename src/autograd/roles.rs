//! Which constants are weights: those read by an operator in a role that training would fit.

use super::rules;
use crate::error::{Kind, printable};
use crate::graph::{Graph, Name, Node, nodes_within};
use crate::tensor::Tensor;
use globset::{Glob, GlobMatcher};
use std::collections::{BTreeMap, BTreeSet};

/// A constant of the model with the verdict on it.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Verdict {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: String,
    /// Whether it is a weight.
    pub weight: bool,
    /// Its role as a weight, or why it is none.
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("--{option} '{pattern}': not a pattern: {reason}")]
    Pattern { option: &'static str, pattern: String, reason: String },
    #[error("--{option} '{pattern}' matches no weight; 'onnx-unlearn inspect' lists them")]
    NoMatch { option: &'static str, pattern: String },
    #[error("the model has no weights left to change; 'onnx-unlearn inspect' tells why each is out")]
    NoWeights,
}

impl RoleError {
    pub fn kind(&self) -> Kind {
        match self {
            RoleError::NoWeights => Kind::Unsupported,
            _ => Kind::Usage,
        }
    }
}

/// The verdict on every constant of a graph, by name.
pub fn verdicts(graph: &Graph) -> Vec<Verdict> {
    let inner: Vec<Node> = graph.nodes.iter().flat_map(nodes_within).collect();
    let readers = readers_of(graph.nodes.iter().chain(&inner));
    let known = independent(graph);
    graph
        .constants
        .iter()
        .map(|(name, tensor)| {
            let verdict = judge(name, tensor, graph, &readers, &known);
            Verdict {
                name: name.to_string(),
                shape: tensor.shape().to_vec(),
                dtype: tensor.dtype().to_string(),
                weight: verdict.is_ok(),
                reason: verdict.unwrap_or_else(|reason| reason),
            }
        })
        .collect()
}

/// The weights among the verdicts whose names match one of `include` (all, where it is empty) and
/// none of `exclude`.
///
/// # Errors
/// A pattern that is malformed or matches no weight; no weight left.
pub fn weights(verdicts: &[Verdict], include: &[String], exclude: &[String]) -> Result<BTreeSet<Name>, RoleError> {
    let all: Vec<&str> = verdicts.iter().filter(|v| v.weight).map(|v| v.name.as_str()).collect();
    let include = matchers("include", include, &all)?;
    let exclude = matchers("exclude", exclude, &all)?;
    let any = |matchers: &[GlobMatcher], name: &str| matchers.iter().any(|m| m.is_match(name));
    let chosen: BTreeSet<Name> = all
        .into_iter()
        .filter(|name| (include.is_empty() || any(&include, name)) && !any(&exclude, name))
        .map(Name::from)
        .collect();
    if chosen.is_empty() { Err(RoleError::NoWeights) } else { Ok(chosen) }
}

/// The floating-point constants whose names match one of the patterns, whatever reads them; the weights where there
/// are no patterns.
///
/// # Errors
/// A pattern that is malformed or matches nothing; no weights.
pub fn differentiable(verdicts: &[Verdict], patterns: &[String]) -> Result<BTreeSet<Name>, RoleError> {
    if patterns.is_empty() {
        return weights(verdicts, &[], &[]);
    }
    let floats: Vec<&str> = verdicts.iter().filter(|v| v.dtype.contains("float")).map(|v| v.name.as_str()).collect();
    let matchers = matchers("wrt", patterns, &floats)?;
    Ok(floats.into_iter().filter(|name| matchers.iter().any(|m| m.is_match(name))).map(Name::from).collect())
}

fn matchers(option: &'static str, patterns: &[String], names: &[&str]) -> Result<Vec<GlobMatcher>, RoleError> {
    let matcher = |pattern: &String| {
        let shown = || printable(pattern);
        let glob = Glob::new(pattern).map_err(|e| RoleError::Pattern {
            option,
            pattern: shown(),
            reason: e.kind().to_string(),
        })?;
        let matcher = glob.compile_matcher();
        match names.iter().any(|name| matcher.is_match(name)) {
            true => Ok(matcher),
            false => Err(RoleError::NoMatch { option, pattern: shown() }),
        }
    };
    patterns.iter().map(matcher).collect()
}

type Readers<'a> = BTreeMap<&'a Name, Vec<(&'a Node, usize)>>;

fn readers_of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Readers<'a> {
    let mut readers = Readers::new();
    for node in nodes {
        for (slot, input) in node.inputs.iter().enumerate() {
            if let Some(input) = input {
                readers.entry(input).or_default().push((node, slot));
            }
        }
    }
    readers
}

/// Values that do not depend on the inputs of the model.
fn independent(graph: &Graph) -> BTreeSet<Name> {
    let mut known: BTreeSet<Name> = graph.constants.keys().cloned().collect();
    for node in &graph.nodes {
        if node.inputs.iter().flatten().chain(&node.captured()).all(|input| known.contains(input)) {
            known.extend(node.outputs.iter().flatten().cloned());
        }
    }
    known
}

/// The role of a constant that is a weight, or why it is none.
fn judge(
    name: &Name,
    tensor: &Tensor,
    graph: &Graph,
    readers: &Readers,
    known: &BTreeSet<Name>,
) -> Result<String, String> {
    if !tensor.dtype().is_float() {
        return Err("not floating point".into());
    }
    if tensor.is_empty() {
        return Err("empty".into());
    }
    let (roles, others) = uses(name, graph, readers, known);
    let Some(role) = roles.first() else {
        return Err(others.first().cloned().unwrap_or_else(|| "not read by any node".into()));
    };
    if tensor.len() == 1 && ["addend", "factor", "token"].contains(role) {
        return Err(format!("{role}, but a single number"));
    }
    if is_mask(tensor) {
        return Err(format!("{role}, but it holds a mask"));
    }
    Ok(role.to_string())
}

/// Operators that pass the elements of their first operand on.
const MOVES: [&str; 11] = [
    "Identity",
    "Cast",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// Operators that write into some places of a value.
const FILLS: [&str; 3] = ["ScatterElements", "ScatterND", "Where"];

/// Functions that keep a weight within bounds: a gate, a temperature.
const BOUNDS: [&str; 5] = ["Clip", "Exp", "Sigmoid", "Softplus", "Tanh"];

/// The roles in which a constant is read, and its other uses; both through operators that only move or bound
/// elements, and through those that put constants together.
fn uses(name: &Name, graph: &Graph, readers: &Readers, known: &BTreeSet<Name>) -> (Vec<&'static str>, Vec<String>) {
    let (mut roles, mut others, mut queue) = (Vec::new(), Vec::new(), vec![name]);
    while let Some(value) = queue.pop() {
        if graph.outputs.contains(value) {
            others.push("an output of the model".to_string());
        }
        for &(node, slot) in readers.get(value).map(Vec::as_slice).unwrap_or_default() {
            let passes = MOVES.contains(&node.op.as_str()) || BOUNDS.contains(&node.op.as_str());
            let role = rules::find(node, graph.opset()).and_then(|row| row.role(slot));
            let of_constants = node.outputs.iter().flatten().all(|output| known.contains(output));
            if of_constants && FILLS.contains(&node.op.as_str()) {
                others.push(printable(&format!("{} of constants alone, as masks are made", node.op)));
                continue;
            }
            if (slot == 0 && node.domain.is_empty() && passes) || (of_constants && role == Some("token")) {
                queue.extend(node.outputs.iter().flatten());
                continue;
            }
            if let Some(inside) = carried(node, slot) {
                let inner = nodes_within(node);
                let (more, rest) = uses(&inside, graph, &readers_of(inner.iter()), known);
                roles.extend(more);
                others.extend(rest);
                continue;
            }
            match role {
                Some(role) => roles.push(role),
                None if node.op == "BatchNormalization" => others.push("running statistics".into()),
                None => others.push(printable(&format!("input {slot} of {}", node.op))),
            }
        }
    }
    (roles, others)
}

/// The name within the body of a loop of what the loop reads and every iteration hands on to the next as it is.
fn carried(node: &Node, slot: usize) -> Option<Name> {
    let first = match (node.domain.as_str(), node.op.as_str()) {
        ("", "Loop") => 2,
        ("", "Scan") => 0,
        _ => return None,
    };
    let body = node.attribute("body")?.g.as_ref()?;
    let inside = body.input.get(slot).filter(|_| slot >= first)?.name.as_str();
    // A loop's body puts out its condition first, as its second input, and takes the number of the iteration.
    let mut handed = body.output.get(slot - first / 2)?.name.as_str();
    for node in body.node.iter().rev().filter(|n| n.op_type == "Identity") {
        if node.output.iter().any(|output| output == handed) {
            handed = node.input.first()?;
        }
    }
    (handed == inside).then(|| inside.into())
}

/// Masks hold two values, one of them so low that softmax makes it zero.
fn is_mask(tensor: &Tensor) -> bool {
    let Some(values) = tensor.to_f64() else { return false };
    let mut distinct: Vec<f64> = Vec::new();
    for &x in &values {
        if !distinct.contains(&x) {
            if distinct.len() == 2 {
                return false;
            }
            distinct.push(x);
        }
    }
    distinct.iter().any(|&x| x <= -100.0 || x == f64::INFINITY)
}
