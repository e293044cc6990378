//! Importance.

use super::count;
use onnx_unlearn::importance::Profile;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a profile holds.
#[derive(Serialize)]
pub struct ProfileSummary {
    path: PathBuf,
    objective: String,
    reduction: String,
    batch_size: usize,
    shard: String,
    /// Samples, or batches for the batch reduction.
    count: u64,
    tensors: usize,
    weights: usize,
}

impl ProfileSummary {
    pub fn of(profile: &Profile, path: &Path) -> ProfileSummary {
        let origin = &profile.origin;
        ProfileSummary {
            path: path.into(),
            objective: origin.objective.clone(),
            reduction: origin.reduction.clone(),
            batch_size: origin.batch_size,
            shard: origin.shard.to_string(),
            count: profile.sums.count,
            tensors: profile.sums.weights.len(),
            weights: profile.sums.weights.values().map(|w| w.len()).sum(),
        }
    }

    pub fn table(&self) -> String {
        let part = if self.shard == "1/1" { String::new() } else { format!("shard {} of the data\n", self.shard) };
        let unit = if self.reduction == "batch" { "batches" } else { "samples" };
        format!(
            "wrote {}: importance ({}) of {} weights in {} tensors over {} {unit}\n{part}",
            self.path.display(),
            self.objective,
            count(self.weights),
            self.tensors,
            count(self.count as usize),
        )
    }
}
