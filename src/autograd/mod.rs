//! Reverse-mode differentiation of an ONNX graph into an ONNX graph, in standard operators only.
//!
//! Gradients of activations keep the samples of a batch apart. The gradient of a parameter is not
//! built as a node: it is handed out as a [`Contraction`] of an activation and a gradient, so that the
//! sum over the positions of a sample, the absolute value, and the sum over samples happen where
//! that is cheapest.

mod accumulate;
mod apart;
mod backward;
mod contraction;
mod driver;
mod late;
mod levels;
mod lower;
mod merge;
mod missing;
mod narrow;
pub mod objective;
mod parts;
mod rewrite;
pub mod roles;
pub mod rules;
mod tape;
mod views;
mod whole;

pub use accumulate::{Accumulating, accumulating};
pub use backward::{Backward, Weight};
pub use contraction::{Contraction, ConvGeometry, Operand, Power, Use, View};
pub use driver::{Explicit, Reduction, Seed, differentiate, gradients, rewritten};
pub use missing::{check_rules, missing_rules};
pub use tape::{PREFIX, Tape};
pub use views::places;

use crate::error::Kind;
use crate::graph::{GraphError, Name, Node};

/// The gradient that a rule gives for one input of its node.
#[derive(Clone, Debug)]
pub enum Grad {
    /// The gradient of the input broadcast to the shape of this value.
    Value(Name),
    /// The gradient of the input after it was reshaped to `shape` and broadcast to the shape of `value`.
    Reshaped { value: Name, shape: Vec<usize> },
    /// The gradient of the elements from `start` on along an axis; that of all others is zero.
    Placed { value: Name, axis: usize, start: usize },
    /// `sum over rows r of left[r, :]ᵀ right[r, :]`, the rows being all leading axes.
    Product { left: Name, right: Name },
    /// The weight gradient of a convolution of `x` giving an output with gradient `dy`.
    Conv { x: Name, dy: Name, geometry: ConvGeometry },
    /// The gradient of a table whose rows (its first axis) were picked by `indices`.
    Rows { indices: Name, dy: Name },
}

impl From<Name> for Grad {
    fn from(value: Name) -> Grad {
        Grad::Value(value)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GradError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("no gradient rule for: {list}")]
    MissingRules { list: String },
    #[error("{node}: {reason}; its gradient is not supported")]
    Unsupported { node: String, reason: String },
    #[error("the model uses the name '{name}', whose prefix is reserved; rename the value")]
    ReservedName { name: String },
    #[error("output '{name}' of type {dtype} has no gradient; choose others with --outputs")]
    Output { name: String, dtype: String },
    #[error(
        "objective {objective} needs an output of shape [batch, classes]; '{name}' has shape {shape:?}; choose others with --outputs"
    )]
    Objective { objective: String, name: String, shape: Vec<usize> },
}

impl GradError {
    pub fn unsupported(node: &Node, reason: impl Into<String>) -> GradError {
        GradError::Unsupported { node: node.describe(), reason: reason.into() }
    }

    pub fn kind(&self) -> Kind {
        match self {
            GradError::Graph(e) => e.kind(),
            GradError::ReservedName { .. } => Kind::Malformed,
            GradError::Objective { .. } => Kind::Usage,
            _ => Kind::Unsupported,
        }
    }
}
