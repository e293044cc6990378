//! A checkpoint: the sums of a pass that is not at its end, from which it can go on.

use super::file::{self, Content};
use super::{Done, ImportanceError, Origin};
use std::io::{self, Write};
use std::path::Path;

const FORMAT: &str = "onnx-unlearn.checkpoint.v1";

/// All that the bits of a pass depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub origin: Origin,
    /// Tells one choice of weights from another.
    pub weights: String,
    /// Name, version and provider.
    pub runtime: String,
    /// Of this program.
    pub version: String,
}

impl Run {
    /// Writes a checkpoint.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, done: &Done, out: &mut dyn Write) -> io::Result<()> {
        let mut metadata = self.origin.metadata()?;
        metadata.extend([
            ("format", FORMAT.into()),
            ("batches", done.batches.to_string()),
            ("weights", self.weights.clone()),
            ("runtime", self.runtime.clone()),
            ("version", self.version.clone()),
        ]);
        file::write(metadata, &done.sums, out)
    }

    /// Reads the checkpoint at `path`; none where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is no checkpoint.
    pub fn read(path: &Path) -> Result<Option<(Run, Done)>, ImportanceError> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| ImportanceError::Io { path: path.into(), source })?,
        };
        let found = Run::from_bytes(&bytes).map_err(|reason| ImportanceError::Profile {
            path: path.into(),
            reason: format!("{reason}; delete the file to start anew"),
        });
        found.map(Some)
    }

    fn from_bytes(bytes: &[u8]) -> Result<(Run, Done), String> {
        let content = Content::read(bytes, FORMAT, "a checkpoint")?;
        let run = Run {
            origin: Origin::of(&content)?,
            weights: content.get("weights")?,
            runtime: content.get("runtime")?,
            version: content.get("version")?,
        };
        let batches = content.number("batches")? as usize;
        Ok((run, Done { batches, sums: content.sums }))
    }

    /// Refuses to go on from the checkpoint of another run.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, checkpoint: &Run, path: &Path) -> Result<(), ImportanceError> {
        let facts = |run: &Run| {
            let o = &run.origin;
            let outputs = o.outputs.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            [
                ("model (SHA-256)", o.model_sha256.clone()),
                ("data set (SHA-256)", o.data_sha256.clone()),
                ("shard", o.shard.to_string()),
                ("objective", o.objective.clone()),
                ("reduction", o.reduction.clone()),
                ("list of outputs", outputs),
                ("choice of weights", run.weights.clone()),
                ("batch size", o.batch_size.to_string()),
                ("runtime", run.runtime.clone()),
                ("version of onnx-unlearn", run.version.clone()),
            ]
        };
        let differs = facts(checkpoint).into_iter().zip(facts(self)).find(|(found, asked)| found != asked);
        match differs {
            Some(((what, found), (_, asked))) => {
                Err(ImportanceError::OtherRun { path: path.into(), what, found, asked })
            }
            None => Ok(()),
        }
    }
}
