//! Importance of weights over a data set: `Σ over samples of |d objective / d weight|`, in f64.

mod batch;
mod checkpoint;
mod columns;
mod contract;
mod engine;
mod file;
mod flush;
mod fused;
mod held;
mod kernel;
mod memory;
mod merge;
mod outputs;
mod panels;
mod pass;
mod pixels;
mod profile;
mod settings;
mod shard;
mod source;
mod sums;
mod tiles;

pub use crate::autograd::Power;
pub(crate) use batch::{padded, parts};
pub use checkpoint::Run;
pub use contract::{Value, Values, accumulate};
pub use merge::{MergeError, Plan, plan};
pub use pass::{Done, Importance, Progress, shard_samples};
pub use profile::{FORMAT, Origin, Profile, reduction_name};
pub use settings::{Lowering, Settings};
pub use shard::{NoShard, Shard};
pub use sums::Sums;

use crate::autograd::GradError;
use crate::data::DataError;
use crate::error::{Kind, printable};
use crate::session::SessionError;
use crate::specialise::SpecialiseError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    #[error(transparent)]
    Grad(#[from] GradError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Specialise(#[from] SpecialiseError),
    #[error(
        "the runtime gave a wrong type or shape for '{name}', expected {shape:?}; shapes that depend on the data are not supported"
    )]
    Value { name: String, shape: Vec<usize> },
    #[error(
        "{node} mixes samples, and the model's batch size is fixed at {batch}: per-sample gradients cannot be told apart; export with a dynamic batch axis, or use --reduction batch"
    )]
    FixedAndMixed { node: String, batch: usize },
    #[error("objective fisher needs labels: an integer array 'labels' with one label for each sample")]
    NoLabels,
    #[error("label {label} of sample {sample} is not a class of the output, which has {classes}")]
    Label { label: i64, sample: usize, classes: usize },
    #[error(
        "the importance of weight '{name}' is {value} at element {index}; the model or the data give numbers that are not finite"
    )]
    NotFinite { name: String, index: usize, value: f64 },
    #[error("{}: {reason}", path.display())]
    Profile { path: PathBuf, reason: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "a batch of {batch} needs about {:.1} GiB of memory, {:.1} GiB may be taken; use a smaller --batch-size, or more --memory",
        gib(*.need),
        gib(*.limit)
    )]
    Memory { need: u64, limit: u64, batch: usize },
    #[error(
        "{}: this is the checkpoint of another run: its {what} is {}, that of this run is {}; delete it to start anew, or give another output", path.display(), printable(found), printable(asked)
    )]
    OtherRun { path: PathBuf, what: &'static str, found: String, asked: String },
    #[error(
        "--shard {shard}: the data set has no more than {batches} batches, of {size} samples; take fewer shards, or a smaller --batch-size"
    )]
    Shards { shard: Shard, batches: usize, size: usize },
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("profiles do not belong together: {what} is {a} in one and {b} in the other")]
    Mismatch { what: &'static str, a: String, b: String },
}

impl ImportanceError {
    pub fn kind(&self) -> Kind {
        match self {
            ImportanceError::Grad(e) => e.kind(),
            ImportanceError::Data(e) => e.kind(),
            ImportanceError::Session(e) => e.kind(),
            ImportanceError::Specialise(e) => e.kind(),
            ImportanceError::Value { .. } | ImportanceError::FixedAndMixed { .. } => Kind::Unsupported,
            ImportanceError::NoLabels | ImportanceError::OtherRun { .. } | ImportanceError::Shards { .. } => {
                Kind::Usage
            }
            ImportanceError::Label { .. }
            | ImportanceError::Profile { .. }
            | ImportanceError::Merge(_)
            | ImportanceError::Mismatch { .. } => Kind::Malformed,
            ImportanceError::NotFinite { .. } => Kind::NotFinite,
            ImportanceError::Io { .. } => Kind::Io,
            ImportanceError::Memory { .. } => Kind::Limit,
        }
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
