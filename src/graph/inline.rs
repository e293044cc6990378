//! Model-local functions replaced by their bodies.

use super::{Graph, GraphError, Name, Node};
use crate::error::printable;
use onnx_protobuf::{AttributeProto, FunctionProto};
use std::collections::BTreeMap;

const MAX_NODES: usize = 1_000_000;

/// Replaces every call of a model-local function by the function's nodes, calls inside them included.
/// Values of a body get the call's outputs as a prefix, so that names stay unique.
///
/// # Errors
/// Recursion, or more than a million nodes.
pub(super) fn functions(graph: &mut Graph, functions: &[FunctionProto]) -> Result<(), GraphError> {
    if functions.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    for (index, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        expand(node, &format!("{index}"), functions, &mut Vec::new(), &mut out)?;
    }
    graph.nodes = out;
    for function in functions {
        for opset in &function.opset_import {
            graph.opsets.entry(opset.domain.clone()).or_insert(opset.version);
        }
    }
    Ok(())
}

fn expand<'a>(
    node: Node,
    prefix: &str,
    functions: &'a [FunctionProto],
    stack: &mut Vec<&'a FunctionProto>,
    out: &mut Vec<Node>,
) -> Result<(), GraphError> {
    let Some(function) = functions.iter().find(|f| f.domain == node.domain && f.name == node.op) else {
        if out.len() >= MAX_NODES {
            return Err(GraphError::Expansion { limit: MAX_NODES });
        }
        out.push(node);
        return Ok(());
    };
    if stack.iter().any(|&outer| std::ptr::eq(outer, function)) {
        return Err(GraphError::Recursion { function: printable(&function.name) });
    }
    stack.push(function);
    let mut names: BTreeMap<&str, Option<Name>> = BTreeMap::new();
    for (i, formal) in function.input.iter().enumerate() {
        names.insert(formal, node.inputs.get(i).cloned().flatten());
    }
    // An input that is returned as it is needs an Identity; every other output takes the call's name.
    let mut returned = Vec::new();
    for (i, formal) in function.output.iter().enumerate() {
        let Some(actual) = node.outputs.get(i).cloned().flatten() else { continue };
        match names.get(formal.as_str()) {
            Some(source) => returned.push((source.clone(), actual)),
            None => {
                names.insert(formal, Some(actual));
            }
        }
    }
    for (index, body) in function.node.iter().enumerate() {
        let mut inner = Node::from(body);
        inner.name = format!("{}/{}", if node.name.is_empty() { prefix } else { &node.name }, inner.name);
        let rename = |name: &Name| match names.get(&**name) {
            Some(actual) => actual.clone(),
            None => Some(format!("{}/{prefix}/{name}", function.name).into()),
        };
        inner.inputs = inner.inputs.iter().map(|n| n.as_ref().and_then(rename)).collect();
        inner.outputs = inner.outputs.iter().map(|n| n.as_ref().and_then(rename)).collect();
        inner.attributes = inner.attributes.iter().filter_map(|a| bind(a, &node, function)).collect();
        expand(inner, &format!("{prefix}.{index}"), functions, stack, out)?;
    }
    for (source, actual) in returned {
        out.push(Node {
            name: String::new(),
            domain: String::new(),
            op: "Identity".into(),
            inputs: vec![source],
            outputs: vec![Some(actual)],
            attributes: vec![],
        });
    }
    stack.pop();
    Ok(())
}

/// An attribute of a body's node, with a reference to the function's attribute resolved
/// to the call's value, or the function's default; none where neither is given.
fn bind(attribute: &AttributeProto, call: &Node, function: &FunctionProto) -> Option<AttributeProto> {
    if attribute.ref_attr_name.is_empty() {
        return Some(attribute.clone());
    }
    let name = &attribute.ref_attr_name;
    let value = call.attribute(name).or_else(|| function.attribute_proto.iter().find(|a| a.name == *name))?;
    Some(AttributeProto { name: attribute.name.clone(), ..value.clone() })
}
