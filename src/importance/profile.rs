//! A profile: sums of importance in a safetensors file, with what they were computed from.

use super::file::{self, Content};
use super::{ImportanceError, Settings, Shard, Sums};
use crate::autograd::Reduction;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Value of the key `format`.
pub const FORMAT: &str = "onnx-unlearn.importance.v1";

/// Sums of importance with the settings and inputs that they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub sums: Sums,
    pub origin: Origin,
}

/// What sums of importance were computed from, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    pub objective: String,
    pub reduction: String,
    pub batch_size: usize,
    /// Outputs of the model that the objective is made of; none in files that do not say.
    pub outputs: Option<Vec<String>>,
    pub model_sha256: String,
    /// The digests of several data sets are joined by commas, in their order.
    pub data_sha256: String,
    /// Which part of the data set.
    pub shard: Shard,
}

/// The name on the command line and in files.
pub fn reduction_name(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Sample => "sample",
        Reduction::Batch => "batch",
    }
}

impl Profile {
    /// Writes the file: one F64 tensor for each weight, named as the initializer and of its shape, and metadata.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut metadata = self.origin.metadata()?;
        metadata.insert("format", FORMAT.into());
        file::write(metadata, &self.sums, out)
    }

    /// Reads a profile; with it comes the SHA-256 of the file.
    ///
    /// # Errors
    /// Not a safetensors file, not of this format, tensors of another type than F64 or F32, sums that are
    /// negative or not finite.
    pub fn read(path: &Path) -> Result<(Profile, String), ImportanceError> {
        let bytes = std::fs::read(path).map_err(|source| ImportanceError::Io { path: path.into(), source })?;
        let profile = Profile::from_bytes(&bytes);
        let profile = profile.map_err(|reason| ImportanceError::Profile { path: path.into(), reason })?;
        Ok((profile, format!("{:x}", Sha256::digest(&bytes))))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Profile, String> {
        let content = Content::read(bytes, FORMAT, "an importance profile")?;
        let origin = Origin::of(&content)?;
        Ok(Profile { sums: content.sums, origin })
    }
}

impl Origin {
    /// What a pass over whole data comes from.
    pub fn whole(settings: &Settings, batch_size: usize, outputs: Vec<String>, model: &str, data: String) -> Origin {
        Origin {
            objective: settings.objective.name().into(),
            reduction: reduction_name(settings.reduction).into(),
            batch_size,
            outputs: Some(outputs),
            model_sha256: model.into(),
            data_sha256: data,
            shard: Shard::WHOLE,
        }
    }

    pub(super) fn metadata(&self) -> io::Result<BTreeMap<&'static str, String>> {
        let mut metadata = BTreeMap::from([
            ("objective", self.objective.clone()),
            ("reduction", self.reduction.clone()),
            ("batch_size", self.batch_size.to_string()),
            ("model_sha256", self.model_sha256.clone()),
            ("data_sha256", self.data_sha256.clone()),
            ("shard", self.shard.to_string()),
        ]);
        if let Some(outputs) = &self.outputs {
            metadata.insert("outputs", serde_json::to_string(outputs)?);
        }
        Ok(metadata)
    }

    pub(super) fn of(content: &Content) -> Result<Origin, String> {
        let outputs = content.get("outputs").ok().map(|text| serde_json::from_str(&text));
        Ok(Origin {
            objective: content.get("objective")?,
            reduction: content.get("reduction")?,
            batch_size: content.number("batch_size")? as usize,
            outputs: outputs.transpose().map_err(|_| "'outputs' is not a list of names")?,
            model_sha256: content.get("model_sha256")?,
            data_sha256: content.get("data_sha256")?,
            shard: content.get("shard")?.parse().map_err(|e: super::NoShard| e.to_string())?,
        })
    }

    /// The first setting in which two differ, with its values in both; the data is none.
    pub fn difference(&self, other: &Origin) -> Option<(&'static str, String, String)> {
        let batch = |o: &Origin| if o.reduction == "batch" { o.batch_size.to_string() } else { String::new() };
        let outputs = |o: &Origin| match (&self.outputs, &other.outputs) {
            (Some(_), Some(_)) => o.outputs.iter().flatten().cloned().collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        let pairs = [
            ("the model's SHA-256", self.model_sha256.clone(), other.model_sha256.clone()),
            ("the objective", self.objective.clone(), other.objective.clone()),
            ("the reduction", self.reduction.clone(), other.reduction.clone()),
            ("the batch size", batch(self), batch(other)),
            ("the list of outputs", outputs(self), outputs(other)),
        ];
        pairs.into_iter().find(|(_, a, b)| a != b)
    }

    /// Refuses to combine two profiles of different models or settings.
    ///
    /// # Errors
    /// What differs.
    pub fn check_same_settings(&self, other: &Origin) -> Result<(), ImportanceError> {
        match self.difference(other) {
            Some((what, a, b)) => Err(ImportanceError::Mismatch { what, a, b }),
            None => Ok(()),
        }
    }
}
