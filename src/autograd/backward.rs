//! What differentiation gives: a graph, and how the gradients of weights are contracted from its outputs.

use super::Use;
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use std::collections::BTreeSet;

/// A parameter and what its gradient is made of.
#[derive(Clone, Debug)]
pub struct Weight {
    pub name: Name,
    pub shape: Vec<usize>,
    pub uses: Vec<Use>,
}

/// A graph that computes, for one batch, everything that the gradients of the parameters are made of.
#[derive(Clone, Debug)]
pub struct Backward {
    /// Outputs are the operands of all contractions.
    pub graph: Graph,
    pub kinds: Kinds,
    /// In the order of the parameters' names.
    pub weights: Vec<Weight>,
    pub batch: usize,
    /// Why samples cannot be told apart, where they cannot; the contractions then give sums over the batch.
    pub mixed: Option<String>,
}

impl Backward {
    /// Makes a value that the graph computes one of its outputs.
    pub fn show(&mut self, value: &Name) {
        let computed = self.graph.nodes.iter().any(|n| n.outputs.iter().flatten().any(|o| o == value));
        if computed && !self.graph.outputs.contains(value) {
            self.graph.outputs.push(value.clone());
        }
    }

    /// Removes what no contraction needs, but keeps constants that contractions read directly.
    pub(super) fn prune(&mut self) {
        let direct: BTreeSet<Name> = self
            .weights
            .iter()
            .flat_map(|w| &w.uses)
            .flat_map(|u| u.contraction.operands())
            .map(|o| o.name.clone())
            .collect();
        let kept: Vec<_> = self
            .graph
            .constants
            .iter()
            .filter(|(name, _)| direct.contains(*name))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        self.graph.prune();
        self.graph.constants.extend(kept);
        let within = |n: &Node| n.inputs.iter().flatten().cloned().chain(n.captured()).collect::<Vec<_>>();
        let read: BTreeSet<Name> = self.graph.nodes.iter().flat_map(within).collect();
        let read = |name: &Name| read.contains(name);
        let unused: Vec<Name> =
            self.graph.inputs.iter().map(|i| i.name.clone()).filter(|n| !read(n) && !direct.contains(n)).collect();
        self.graph.inputs.retain(|i| !unused.contains(&i.name));
    }
}
