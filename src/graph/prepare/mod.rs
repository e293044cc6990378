//! From the graph that a model holds to the graph that computes: the same function of the same weights, in the
//! forms that the rest of the product knows. The model's file is never touched.

mod classical;
mod outputs;
mod sequences;
mod upgrade;
mod widen;
mod writer;

use super::{Graph, GraphError, Name, Node};
use crate::error::printable;

impl Graph {
    /// Refuses a model that uses names as they are made here.
    pub(super) fn check_names(&self) -> Result<(), GraphError> {
        let names = self.constants.keys().chain(self.inputs.iter().map(|i| &i.name));
        let reserved = |name: &&Name| name.starts_with(writer::MADE);
        match names.chain(self.nodes.iter().flat_map(|n| n.outputs.iter().flatten())).find(reserved) {
            Some(name) => Err(GraphError::ReservedName { name: printable(name) }),
            None => Ok(()),
        }
    }

    /// Brings the graph into the forms that are computed with; a graph that has them is left as it is.
    ///
    /// # Errors
    /// A form that has no counterpart, by the node's name.
    pub fn prepare(&mut self) -> Result<(), GraphError> {
        widen::widen(self)?;
        upgrade::upgrade(self)?;
        classical::rewrite_all(self)?;
        sequences::flatten(self)?;
        outputs::name(self)
    }
}

/// The error of a node whose form is not supported.
fn unsupported(node: &Node, reason: &str) -> GraphError {
    GraphError::Form { node: node.describe(), reason: reason.to_string() }
}
