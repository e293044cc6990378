//! Every way in which the pipeline can end without a result.

use crate::autograd::roles::RoleError;
use crate::data::DataError;
use crate::error::Kind;
use crate::gradient::GradientError;
use crate::graph::GraphError;
use crate::importance::ImportanceError;
use crate::model::ModelError;
use crate::session::SessionError;
use crate::validate::ValidateError;
use crate::write::WriteError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{}: {source}", path.display())]
    Graph { path: PathBuf, source: GraphError },
    #[error("{}: which of the outputs are meant: {list}? Name them with --outputs", path.display())]
    Outputs { path: PathBuf, list: String },
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Importance(#[from] ImportanceError),
    #[error(transparent)]
    Gradient(#[from] GradientError),
    #[error(transparent)]
    Validate(#[from] ValidateError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{}: the {what} set has no samples", path.display())]
    EmptySet { what: &'static str, path: PathBuf },
    #[error("{}: weight '{name}' is NaN or infinite at element {index}; the model is broken before anything is forgotten", path.display())]
    NotFinite { path: PathBuf, name: String, index: usize },
    #[error(
        "alpha {alpha} selects nothing: all data contain the forget set, so the importance on the forget set is at most {most:.2} times that on all data (|D| / |D_f| = {full} / {forget}); take a smaller --alpha"
    )]
    AlphaTooLarge { alpha: f64, most: f64, full: u64, forget: u64 },
    #[error("alpha {alpha} selects no weight; the largest ratio of importance is {largest:.3}; take a smaller --alpha")]
    NothingSelected { alpha: f64, largest: f64 },
    #[error("{0}")]
    Usage(String),
    #[error("{}: the gradient graph would take more than 2 GiB, the most a model file can hold; differentiate fewer parameters with --wrt", path.display())]
    TooLarge { path: PathBuf },
    #[error("no temporary folder can be made: {0}")]
    Temporary(std::io::Error),
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Profile { path: PathBuf, reason: String },
    #[error("stopped before the end; {}", match checkpoint {
        Some(path) => format!("{} holds what is done, and the same command goes on from there", path.display()),
        None => "nothing was done yet, and nothing was written".to_string(),
    })]
    Stopped { kind: Kind, checkpoint: Option<PathBuf> },
    #[error("a guard failed: {0}; nothing was written (--force writes all the same)")]
    Guard(String),
    #[error("a guard failed: {0}; the new model must not be deployed")]
    GuardOfValidation(String),
}

impl Error {
    /// The kind, whose number is the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Model(e) => e.kind(),
            Error::Graph { source, .. } => source.kind(),
            Error::Role(e) => e.kind(),
            Error::Data(e) => e.kind(),
            Error::Session(e) => e.kind(),
            Error::Importance(e) => e.kind(),
            Error::Gradient(e) => e.kind(),
            Error::Validate(e) => e.kind(),
            Error::Write(e) => e.kind(),
            Error::EmptySet { .. } | Error::AlphaTooLarge { .. } | Error::NothingSelected { .. } => Kind::Nothing,
            Error::NotFinite { .. } => Kind::NotFinite,
            Error::Usage(_) | Error::Outputs { .. } => Kind::Usage,
            Error::TooLarge { .. } => Kind::Limit,
            Error::Temporary(_) | Error::Folder { .. } => Kind::Io,
            Error::Profile { .. } => Kind::Malformed,
            Error::Stopped { kind, .. } => *kind,
            Error::Guard(_) | Error::GuardOfValidation(_) => Kind::Guard,
        }
    }
}
