//! Whether a model is well formed: its header, and that every value is defined exactly once,
//! before it is used.

use super::places::describe;
use super::{GraphFault, ModelError, TensorFault};
use onnx_protobuf::{FunctionProto, GraphProto, ModelProto, NodeProto};
use std::collections::{BTreeMap, HashSet};

/// Opsets of the default domain that are supported: from the first to the last that ONNX Runtime runs.
pub(super) const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

/// Version of the default domain's operators.
pub(super) fn opset(model: &ModelProto) -> Result<i64, ModelError> {
    if model.ir_version <= 0 {
        return Err(ModelError::NoIrVersion);
    }
    let mut domains = BTreeMap::new();
    for opset in &model.opset_import {
        let domain = if opset.domain == "ai.onnx" { "" } else { opset.domain.as_str() };
        // One that is named twice with one version is what skl2onnx writes.
        if domains.insert(domain, opset.version).is_some_and(|other| other != opset.version) {
            return Err(ModelError::TwoOpsets { domain: domain.to_owned() });
        }
    }
    let found = domains.get("").copied().ok_or(ModelError::NoOpset)?;
    if OPSETS.contains(&found) { Ok(found) } else { Err(ModelError::Opset { found }) }
}

/// Checks the main graph, the graphs nested in it and the functions.
pub(super) fn check(model: &ModelProto) -> Result<(), ModelError> {
    let Some(main) = model.graph.as_ref() else { return fault("the file", GraphFault::NoGraph) };
    if main.node.is_empty() {
        return fault("the main graph", GraphFault::NoNodes);
    }
    if main.output.is_empty() {
        return fault("the main graph", GraphFault::NoOutputs);
    }
    graph(main, None)?;
    let mut functions = HashSet::new();
    for f in &model.functions {
        if !functions.insert((&f.domain, &f.name, &f.overload)) {
            return fault(&at_function(f), GraphFault::TwoFunctions);
        }
        function(f)?;
    }
    Ok(())
}

fn fault<T>(at: &str, fault: GraphFault) -> Result<T, ModelError> {
    Err(ModelError::Graph { at: at.to_owned(), fault })
}

/// The names that are visible at a point of a graph: its own, and those of the graphs around it.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    names: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.has(name))
    }

    fn define(&mut self, name: &'a str, at: impl Fn() -> String) -> Result<(), ModelError> {
        if name.is_empty() {
            return fault(&at(), GraphFault::NoName);
        }
        if self.outer.is_some_and(|outer| outer.has(name)) || !self.names.insert(name) {
            return fault(&at(), GraphFault::DefinedTwice(name.to_owned()));
        }
        Ok(())
    }
}

fn graph<'a>(graph: &'a GraphProto, outer: Option<&'a Scope<'a>>) -> Result<(), ModelError> {
    let mut scope = Scope { outer, names: HashSet::new() };
    let at = || format!("graph \"{}\"", graph.name);
    for input in &graph.input {
        scope.define(&input.name, at)?;
    }
    // An initializer may give the default of an input of the same name.
    let inputs = scope.names.clone();
    let mut initializers = HashSet::new();
    let sparse = graph.sparse_initializer.iter().map(|sparse| sparse.values.name.as_str());
    for name in graph.initializer.iter().map(|tensor| tensor.name.as_str()).chain(sparse) {
        if name.is_empty() {
            return Err(ModelError::Tensor { tensor: at(), fault: TensorFault::NoName });
        }
        if !initializers.insert(name) {
            let tensor = format!("tensor \"{name}\"");
            return Err(ModelError::Tensor { tensor, fault: TensorFault::Duplicate });
        }
        if !inputs.contains(name) {
            scope.define(name, at)?;
        }
    }
    nodes(&graph.node, &mut scope)?;
    match graph.output.iter().find(|output| !scope.has(&output.name)) {
        Some(output) => fault(&at(), GraphFault::Undefined(output.name.clone())),
        None => Ok(()),
    }
}

fn at_function(function: &FunctionProto) -> String {
    format!("function \"{}\" of the domain \"{}\"", function.name, function.domain)
}

fn function(function: &FunctionProto) -> Result<(), ModelError> {
    let mut scope = Scope { outer: None, names: HashSet::new() };
    let at = || at_function(function);
    for input in &function.input {
        scope.define(input, at)?;
    }
    nodes(&function.node, &mut scope)?;
    match function.output.iter().find(|output| !scope.has(output)) {
        Some(output) => fault(&at(), GraphFault::Undefined(output.clone())),
        None => Ok(()),
    }
}

fn nodes<'a>(nodes: &'a [NodeProto], scope: &mut Scope<'a>) -> Result<(), ModelError> {
    let outputs: HashSet<&str> = nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    for node in nodes {
        if node.op_type.is_empty() {
            return fault(&describe(node), GraphFault::NoOperator);
        }
        // An empty name stands for an optional input or output that is left out.
        if let Some(input) = node.input.iter().find(|name| !name.is_empty() && !scope.has(name)) {
            let later = outputs.contains(input.as_str());
            let kind = if later { GraphFault::Unsorted } else { GraphFault::Undefined };
            return fault(&describe(node), kind(input.clone()));
        }
        let mut attributes = HashSet::new();
        for attribute in &node.attribute {
            if !attributes.insert(&attribute.name) {
                return fault(&describe(node), GraphFault::TwoAttributes(attribute.name.clone()));
            }
            for nested in attribute.g.iter().chain(&attribute.graphs) {
                graph(nested, Some(scope))?;
            }
        }
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            scope.define(output, || describe(node))?;
        }
    }
    Ok(())
}
