//! One node of a graph and access to its attributes.

use super::GraphError;
use crate::error::printable;
use onnx_protobuf::{AttributeProto, GraphProto};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of a value: an input, a constant or the output of a node.
pub type Name = Arc<str>;

/// One operator with its operands; an absent optional operand is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    pub domain: String,
    pub op: String,
    pub inputs: Vec<Option<Name>>,
    pub outputs: Vec<Option<Name>>,
    pub attributes: Vec<AttributeProto>,
}

impl Node {
    /// How messages name the node: its operator and its name, or its first output where it has none.
    pub fn describe(&self) -> String {
        let output = self.outputs.iter().flatten().next().map(|o| o.to_string()).unwrap_or_default();
        let domain = if self.domain.is_empty() { String::new() } else { format!("{}.", self.domain) };
        match self.name.is_empty() {
            true => printable(&format!("{domain}{} giving '{output}'", self.op)),
            false => printable(&format!("{domain}{} '{}'", self.op, self.name)),
        }
    }

    /// Operand `i`, where it is present.
    pub fn input(&self, i: usize) -> Option<&Name> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Operand `i`, which the operator demands.
    ///
    /// # Errors
    /// Absent.
    pub fn required(&self, i: usize) -> Result<&Name, GraphError> {
        self.input(i).ok_or_else(|| self.bad(&format!("input {i}")))
    }

    /// The first output.
    ///
    /// # Errors
    /// Absent.
    pub fn output(&self) -> Result<&Name, GraphError> {
        self.outputs.first().and_then(Option::as_ref).ok_or_else(|| self.bad("output 0"))
    }

    /// The error of an attribute or operand that is missing or makes no sense.
    pub fn bad(&self, what: &str) -> GraphError {
        GraphError::Attribute { node: self.describe(), attribute: what.to_string() }
    }

    /// Whether it gives its first operand another shape and does nothing else.
    pub fn reshapes(&self) -> bool {
        self.domain.is_empty() && matches!(&*self.op, "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze")
    }

    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes.iter().find(|a| a.name == name)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|a| a.i)
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|a| a.f)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// The numbers of a list, none where it is absent.
    pub fn floats(&self, name: &str) -> &[f32] {
        self.attribute(name).map(|a| a.floats.as_slice()).unwrap_or_default()
    }

    /// The texts of a list, none where it is absent.
    pub fn strings(&self, name: &str) -> Vec<&str> {
        let texts = self.attribute(name).map(|a| a.strings.as_slice()).unwrap_or_default();
        texts.iter().map(|text| std::str::from_utf8(text).unwrap_or_default()).collect()
    }

    pub fn string(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|a| std::str::from_utf8(&a.s).ok())
    }

    /// The order of axes that a Transpose of so many gives: reversed where it tells none.
    pub fn order(&self, rank: usize) -> Vec<usize> {
        let perm = self.ints("perm").map(|perm| perm.iter().map(|&axis| axis as usize).collect());
        perm.unwrap_or_else(|| (0..rank).rev().collect())
    }

    /// Attribute `name` as an axis of a tensor of `rank` dimensions, counted from the front.
    ///
    /// # Errors
    /// Out of range.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, GraphError> {
        normalise(self.int(name).unwrap_or(default), rank).ok_or_else(|| self.bad(name))
    }

    /// Reads other values in place of some, in sub-graphs too.
    pub fn rename_inputs(&mut self, renamed: &BTreeMap<Name, Name>) {
        for input in self.inputs.iter_mut().flatten() {
            if let Some(name) = renamed.get(input) {
                *input = name.clone();
            }
        }
        for attribute in &mut self.attributes {
            rename_in(attribute, renamed);
        }
    }

    /// Names that sub-graphs of this node read from outside.
    pub fn captured(&self) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        for attribute in &self.attributes {
            for graph in attribute.g.as_ref().into_iter().chain(&attribute.graphs) {
                captured(graph, &mut names);
            }
        }
        names
    }
}

/// `axis`, possibly counted from the back, as an index below `rank`.
pub fn normalise(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    (0..rank as i64).contains(&axis).then_some(axis as usize)
}

/// Names are defined once in a graph and all graphs around it, so that none hides another.
fn rename_in(attribute: &mut AttributeProto, renamed: &BTreeMap<Name, Name>) {
    let rename = |name: &mut String| {
        if let Some(other) = renamed.get(name.as_str()) {
            *name = other.to_string();
        }
    };
    for graph in attribute.g.as_mut().into_iter().chain(&mut attribute.graphs) {
        graph.output.iter_mut().for_each(|output| rename(&mut output.name));
        for node in &mut graph.node {
            node.input.iter_mut().for_each(rename);
            node.attribute.iter_mut().for_each(|attribute| rename_in(attribute, renamed));
        }
    }
}

fn captured(graph: &GraphProto, names: &mut BTreeSet<Name>) {
    let mut inner: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    inner.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    inner.extend(graph.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let mut read: BTreeSet<Name> = graph.output.iter().map(|o| o.name.as_str().into()).collect();
    for node in &graph.node {
        read.extend(node.input.iter().filter(|i| !i.is_empty()).map(|i| i.as_str().into()));
        for attribute in &node.attribute {
            for sub in attribute.g.as_ref().into_iter().chain(&attribute.graphs) {
                captured(sub, &mut read);
            }
        }
    }
    names.extend(read.into_iter().filter(|n| !inner.contains(&**n)));
}
