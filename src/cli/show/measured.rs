//! Importance, and what comes of it over alpha and lambda.

use super::{count, percent, runtime_line, table};
use onnx_unlearn::importance::Profile;
use onnx_unlearn::report::sweep::{Point, Sweep};
use onnx_unlearn::validate::Comparison;
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

/// A column of two numbers, on the forget set and on the retain set; none where there is no number.
type Pair = (&'static str, fn(&Comparison) -> Option<f64>);

pub fn sweep(found: &Sweep, folder: &Path) -> String {
    let pairs: [Pair; 3] = [
        ("agreement", |c| Some(c.top1_agreement)),
        ("divergence", |c| Some(c.js_divergence)),
        ("accuracy", |c| c.accuracy_after),
    ];
    let sets = |point: &Point| [point.validation.forget.clone(), point.validation.retain.clone()];
    let known = |of: fn(&Comparison) -> Option<f64>| {
        found.points.iter().flat_map(sets).flatten().any(|comparison| of(&comparison).is_some())
    };
    let pairs: Vec<Pair> = pairs.into_iter().filter(|(_, of)| known(*of)).collect();
    let row = |point: &Point| {
        let number = |set: &Option<Comparison>, of: fn(&Comparison) -> Option<f64>| {
            set.as_ref().and_then(of).map_or("-".into(), |x| format!("{x:.3}"))
        };
        let [forget, retain] = sets(point);
        let share = percent(point.selected_weights, found.total_weights);
        let pairs = pairs.iter().map(|(_, of)| format!("{} / {}", number(&forget, *of), number(&retain, *of)));
        [point.alpha.to_string(), point.lambda.to_string(), share].into_iter().chain(pairs).collect()
    };
    let mut header = vec!["alpha", "lambda", "dampened"];
    header.extend(pairs.iter().map(|(title, _)| *title));
    let columns: Vec<usize> = (0..header.len()).collect();
    format!(
        "{}\nlargest ratio of importance: {}\n\n{}on the forget set / on the retain set; agreement is with the original\n\nwrote {}\n",
        runtime_line(&found.runtime),
        found.largest_ratio.map_or("without bound".into(), |ratio| format!("{ratio:.3}")),
        table(&header, &columns, found.points.iter().map(row)),
        folder.display(),
    )
}
