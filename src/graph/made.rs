//! Where values of a graph come from, to find what exporters or rules of differentiation wrote in parts.

use super::{Graph, Name, Node};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The nodes of a graph by their first outputs, and its constants.
pub(crate) struct Made<'a> {
    nodes: BTreeMap<&'a Name, &'a Node>,
    pub constants: &'a BTreeMap<Name, Arc<Tensor>>,
}

impl<'a> Made<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes.iter().filter_map(|node| Some((node.output().ok()?, node)));
        Made { nodes: nodes.collect(), constants: &graph.constants }
    }

    /// The node that made a value, where it is of this operator.
    pub fn node(&self, name: &Name, op: &str) -> Option<&'a Node> {
        self.nodes.get(name).copied().filter(|node| node.op == op && node.domain.is_empty())
    }

    /// The operands of the node that made a value, where it is of this operator.
    pub fn by<const N: usize>(&self, name: &Name, op: &str) -> Option<[&'a Name; N]> {
        operands(self.node(name, op)?, op)
    }

    /// The one element of a constant.
    pub fn number(&self, name: &Name) -> Option<f64> {
        self.constants.get(name).filter(|tensor| tensor.len() == 1)?.to_f64()?.first().copied()
    }
}

/// The operands of a node, where it is of this operator.
pub(crate) fn operands<'a, const N: usize>(node: &'a Node, op: &str) -> Option<[&'a Name; N]> {
    let own = node.op == op && node.domain.is_empty();
    let inputs: Vec<&Name> = node.inputs.iter().flatten().collect();
    inputs.try_into().ok().filter(|_| own)
}
