//! The graph that the product computes on: nodes in topological order, constants decoded,
//! model-local functions inlined.

mod body;
mod inline;
mod made;
mod node;
mod prepare;
mod proto;
mod taken;

pub use body::{Inlined, inlined, nodes_within};
pub(crate) use made::{Made, operands};
pub use node::{Name, Node, normalise};
pub use proto::{attribute, to_model_proto, to_open_model_proto, to_split_model_proto};
pub use taken::{Taken, taken};

use crate::error::{Kind, printable};
use crate::model::{Model, ModelError};
use crate::tensor::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A graph that cannot be built from a model.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{node}: attribute '{attribute}' is missing or of the wrong type; the model does not follow the ONNX operator set"
    )]
    Attribute { node: String, attribute: String },
    #[error("function '{function}' calls itself, directly or through others; ONNX forbids recursion")]
    Recursion { function: String },
    #[error("inlining the model's functions gives more than {limit} nodes")]
    Expansion { limit: usize },
    #[error("the model uses the name '{name}', whose prefix is reserved; rename the value")]
    ReservedName { name: String },
    #[error("{node}: {reason}")]
    Form { node: String, reason: String },
    #[error("there is no output '{name}'; the model has: {known}")]
    NoSuchOutput { name: String, known: String },
    #[error("{node}: a tensor of ONNX type number {data_type} is not supported here")]
    TensorType { node: String, data_type: i32 },
}

impl GraphError {
    pub fn kind(&self) -> Kind {
        match self {
            GraphError::Model(e) => e.kind(),
            GraphError::Attribute { .. } | GraphError::Recursion { .. } | GraphError::ReservedName { .. } => {
                Kind::Malformed
            }
            GraphError::Expansion { .. } => Kind::Limit,
            GraphError::NoSuchOutput { .. } => Kind::Usage,
            GraphError::Form { .. } | GraphError::TensorType { .. } => Kind::Unsupported,
        }
    }
}

/// An input of the graph as the model declares it; `None` is a dimension left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub name: Name,
    pub dtype: DType,
    pub shape: Vec<Option<usize>>,
}

/// A graph of ONNX nodes. Every constant, an initializer or a `Constant` node, is in `constants`.
#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub constants: BTreeMap<Name, Arc<Tensor>>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Name>,
    /// Operator sets by domain; the default domain is the empty string.
    pub opsets: BTreeMap<String, i64>,
    pub ir_version: i64,
}

impl Graph {
    /// The graph of a model, with functions inlined and constants decoded, [prepared](Graph::prepare).
    ///
    /// # Errors
    /// Recursive functions, malformed attributes, unreadable tensors, a form that is not supported.
    pub fn new(model: &Model) -> Result<Graph, GraphError> {
        proto::from_model(model)
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(0)
    }

    /// The number of samples in a batch, where the model fixes it: the first axis of its inputs. Some exporters write 0 where
    /// they leave it open.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.inputs.iter().find_map(|i| i.shape.first().copied().flatten().filter(|&samples| samples > 0))
    }

    /// Keeps the outputs with the given names, all where none is given.
    ///
    /// # Errors
    /// A name that is no output of the graph.
    pub fn select_outputs(&mut self, names: &[String]) -> Result<(), GraphError> {
        if names.is_empty() {
            return Ok(());
        }
        let mut chosen = Vec::new();
        for name in names {
            match self.outputs.iter().find(|o| &***o == name) {
                Some(output) => chosen.push(output.clone()),
                None => {
                    return Err(GraphError::NoSuchOutput {
                        name: printable(name),
                        known: self.outputs.iter().map(|o| printable(o)).collect::<Vec<_>>().join(", "),
                    });
                }
            }
        }
        self.outputs = chosen;
        Ok(())
    }

    /// Of each value that is read once and is no output, the place of the node that reads it.
    pub(crate) fn lone_readers(&self) -> BTreeMap<Name, usize> {
        let mut readers = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for name in node.inputs.iter().flatten().cloned().chain(node.captured()) {
                readers.entry(name).and_modify(|reader| *reader = None).or_insert(Some(index));
            }
        }
        readers.retain(|name, _| !self.outputs.contains(name));
        readers.into_iter().filter_map(|(name, reader)| Some((name, reader?))).collect()
    }

    /// Removes nodes and constants that no output needs.
    pub fn prune(&mut self) {
        let mut live: BTreeSet<Name> = self.outputs.iter().cloned().collect();
        let mut kept = Vec::new();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().flatten().any(|o| live.contains(o)) {
                live.extend(node.inputs.iter().flatten().cloned());
                live.extend(node.captured());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|name, _| live.contains(name));
    }
}
