//! The body of a control flow operator as nodes of the graph around it.

use super::{Name, Node, attribute};
use onnx_protobuf::{AttributeProto, GraphProto};
use std::collections::BTreeMap;

/// Nodes of one run through a body, and its outputs by their names outside.
pub struct Inlined {
    pub nodes: Vec<Node>,
    pub outputs: Vec<Name>,
}

/// The body with its inputs replaced by the names in `given` and everything that it defines put under `prefix`.
/// Initializers become `Constant` nodes; what it reads from outside keeps its name.
pub fn inlined(body: &GraphProto, prefix: &str, given: &[Name]) -> Inlined {
    let mut names: BTreeMap<String, Name> =
        body.input.iter().map(|i| i.name.clone()).zip(given.iter().cloned()).collect();
    for defined in defined(body) {
        names.entry(defined.to_string()).or_insert_with(|| format!("{prefix}/{defined}").into());
    }
    let outside = |name: &str| names.get(name).cloned().unwrap_or_else(|| name.into());
    let constants = body.initializer.iter().map(|tensor| Node {
        name: outside(&tensor.name).to_string(),
        domain: String::new(),
        op: "Constant".into(),
        inputs: vec![],
        outputs: vec![Some(outside(&tensor.name))],
        attributes: vec![attribute("value", tensor.clone())],
    });
    let nodes = body.node.iter().map(|node| {
        let node = Node::from(node);
        let renamed = |list: Vec<Option<Name>>| list.into_iter().map(|n| n.map(|n| outside(&n))).collect();
        Node {
            name: if node.name.is_empty() { String::new() } else { format!("{prefix}/{}", node.name) },
            inputs: renamed(node.inputs),
            outputs: renamed(node.outputs),
            attributes: node.attributes.into_iter().map(|a| within(a, &names)).collect(),
            ..node
        }
    });
    Inlined {
        nodes: constants.chain(nodes).collect(),
        outputs: body.output.iter().map(|output| outside(&output.name)).collect(),
    }
}

/// Names of initializers and node outputs.
fn defined(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let initializers = graph.initializer.iter().map(|t| t.name.as_str());
    initializers.chain(graph.node.iter().flat_map(|n| &n.output).map(String::as_str)).filter(|name| !name.is_empty())
}

/// An attribute whose sub-graphs read renamed values from outside.
fn within(mut attribute: AttributeProto, names: &BTreeMap<String, Name>) -> AttributeProto {
    for graph in attribute.g.as_mut().into_iter().chain(&mut attribute.graphs) {
        rename(graph, names);
    }
    attribute
}

fn rename(graph: &mut GraphProto, names: &BTreeMap<String, Name>) {
    let mut names = names.clone();
    for own in defined(graph).chain(graph.input.iter().map(|i| i.name.as_str())) {
        names.remove(own);
    }
    let replace = |name: &mut String| {
        if let Some(outside) = names.get(name.as_str()) {
            *name = outside.to_string();
        }
    };
    graph.output.iter_mut().for_each(|output| replace(&mut output.name));
    for node in &mut graph.node {
        node.input.iter_mut().for_each(replace);
        for attribute in &mut node.attribute {
            for inner in attribute.g.as_mut().into_iter().chain(&mut attribute.graphs) {
                rename(inner, &names);
            }
        }
    }
}

/// The nodes of all bodies of a node, nested ones included, with the names that they have inside.
pub fn nodes_within(node: &Node) -> Vec<Node> {
    let mut all = Vec::new();
    for graph in node.attributes.iter().flat_map(|a| a.g.as_ref().into_iter().chain(&a.graphs)) {
        for inner in graph.node.iter().map(Node::from) {
            all.extend(nodes_within(&inner));
            all.push(inner);
        }
    }
    all
}
