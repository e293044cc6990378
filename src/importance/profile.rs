//! A profile: sums of importance in a safetensors file, with what they were computed from.

use super::{ImportanceError, Sums};
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::Dtype;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Value of the key `format`.
pub const FORMAT: &str = "onnx-unlearn.importance.v1";

/// Sums of importance with the settings and inputs that they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub sums: Sums,
    pub objective: String,
    pub reduction: String,
    pub batch_size: usize,
    pub model_sha256: String,
    pub data_sha256: String,
    /// `i/n`: this is part `i` of `n` of the data set.
    pub shard: String,
}

impl Profile {
    /// The file: one F64 tensor for each weight, named as the initializer and of its shape, and metadata.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ImportanceError> {
        let metadata = [
            ("format", FORMAT.to_string()),
            ("count", self.sums.count.to_string()),
            ("objective", self.objective.clone()),
            ("reduction", self.reduction.clone()),
            ("batch_size", self.batch_size.to_string()),
            ("model_sha256", self.model_sha256.clone()),
            ("data_sha256", self.data_sha256.clone()),
            ("shard", self.shard.clone()),
        ];
        // Written here, since the crate's own order of the metadata differs from run to run.
        let metadata: BTreeMap<&str, String> = metadata.into_iter().collect();
        let mut header = BTreeMap::from([("__metadata__", json!(metadata))]);
        let mut end = 0;
        for (name, sum) in &self.sums.weights {
            let start = end;
            end += 8 * sum.len();
            header.insert(name, json!({"dtype": "F64", "shape": sum.shape(), "data_offsets": [start, end]}));
        }
        let fail = |e: serde_json::Error| ImportanceError::Profile { path: "profile".into(), reason: e.to_string() };
        let mut header = serde_json::to_vec(&header).map_err(fail)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        self.sums.weights.values().flatten().for_each(|x| bytes.extend(x.to_le_bytes()));
        Ok(bytes)
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
        let (_, header) =
            safetensors::SafeTensors::read_metadata(bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let get = |key: &str| metadata.get(key).cloned().ok_or_else(|| format!("the metadata has no '{key}'"));
        match metadata.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(format!("its format is '{}', expected '{FORMAT}'", crate::error::printable(other)));
            }
            None => return Err(format!("not an importance profile: the metadata has no 'format' = '{FORMAT}'")),
        }
        let number = |key: &str| get(key)?.parse::<u64>().map_err(|_| format!("'{key}' is not a number"));
        let count = number("count")?;
        if count == 0 {
            return Err("'count' is 0: it was computed on no data".into());
        }
        let tensors = safetensors::SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut weights = BTreeMap::new();
        for (name, view) in tensors.tensors() {
            let shown = crate::error::printable(&name);
            let values: Vec<f64> = match view.dtype() {
                Dtype::F64 => view.data().chunks_exact(8).map(crate::tensor::Element::from_le).collect(),
                Dtype::F32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(<f32 as crate::tensor::Element>::from_le(b)))
                    .collect(),
                other => return Err(format!("tensor '{shown}' is of type {other:?}, expected F64 or F32")),
            };
            if let Some(index) = values.iter().position(|v| !v.is_finite() || *v < 0.0) {
                return Err(format!(
                    "tensor '{shown}' is {} at element {index}; a sum of importance is finite and not negative",
                    values[index]
                ));
            }
            let array =
                ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| format!("tensor '{shown}': {e}"))?;
            weights.insert(name, array);
        }
        Ok(Profile {
            sums: Sums { weights, count },
            objective: get("objective")?,
            reduction: get("reduction")?,
            batch_size: number("batch_size")? as usize,
            model_sha256: get("model_sha256")?,
            data_sha256: get("data_sha256")?,
            shard: get("shard")?,
        })
    }

    /// Refuses to combine two profiles of different models or settings.
    ///
    /// # Errors
    /// What differs.
    pub fn check_same_settings(&self, other: &Profile) -> Result<(), ImportanceError> {
        let batch = |p: &Profile| if p.reduction == "batch" { p.batch_size.to_string() } else { String::new() };
        let pairs = [
            ("the model's SHA-256", self.model_sha256.clone(), other.model_sha256.clone()),
            ("the objective", self.objective.clone(), other.objective.clone()),
            ("the reduction", self.reduction.clone(), other.reduction.clone()),
            ("the batch size", batch(self), batch(other)),
        ];
        match pairs.into_iter().find(|(_, a, b)| a != b) {
            Some((what, a, b)) => Err(ImportanceError::Mismatch { what, a, b }),
            None => Ok(()),
        }
    }
}
