//! What a new model does, held against the old one: agreement, divergence, a second runtime, guards.

mod compare;
mod guards;
mod metrics;
pub mod second;

pub(crate) use compare::compare_with_first;
pub use compare::{Evaluator, Known, agrees, compare, predict};
pub use guards::{Guard, Guards, Limits};
pub use metrics::Comparison;

use crate::data::DataError;
use crate::error::Kind;
use crate::graph::GraphError;
use crate::session::SessionError;

#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(
        "output '{name}' has type {found} and shape {shape:?}, which has no classes to compare; choose another with --outputs"
    )]
    Output { name: String, found: String, shape: Vec<usize> },
    #[error("the two models do not fit together: {0}")]
    Different(String),
    #[error("the check with the second runtime cannot be set up: {0}")]
    Setup(String),
}

impl ValidateError {
    pub fn kind(&self) -> Kind {
        match self {
            ValidateError::Session(e) => e.kind(),
            ValidateError::Data(e) => e.kind(),
            ValidateError::Graph(e) => e.kind(),
            ValidateError::Output { .. } => Kind::Unsupported,
            ValidateError::Different(_) => Kind::Malformed,
            ValidateError::Setup(_) => Kind::Io,
        }
    }
}
