//! Dampening alone, by saved profiles.

use super::alpha::{Alpha, check_factors};
use super::finish::{Draft, Outcome, Target, finish};
use super::rewrite::{largest_ratio, rewrite};
use super::{Common, Error, Observer, open, profile};
use crate::autograd::Reduction;
use crate::autograd::objective::Objective;
use crate::report::{self, Validation};
use crate::validate::Guards;
use crate::write::{check_output, splice};
use std::path::PathBuf;

/// What to dampen by which profiles.
#[derive(Clone, Debug)]
pub struct Dampen {
    pub model: PathBuf,
    /// Importance over the forget set.
    pub forget_profile: PathBuf,
    /// Importance over all data.
    pub profile: PathBuf,
    pub alpha: f64,
    pub lambda: f64,
    pub target: Target,
}

/// Dampens by saved profiles and writes, without data and thus without comparing behaviour.
///
/// # Errors
/// Profiles of another model or with different settings; everything that reading and writing meet.
pub fn dampen(job: &Dampen, common: &Common, observer: &mut dyn Observer) -> Result<Outcome, Error> {
    check_factors(Alpha::Value(job.alpha), job.lambda)?;
    let opened = open(&job.model, common)?;
    let mut inputs = opened.files();
    let mut read: Vec<PathBuf> = inputs.iter().map(|f| f.path.clone()).collect();
    read.extend([job.forget_profile.clone(), job.profile.clone()]);
    check_output(&job.target.output, &read)?;
    let forget = profile(&job.forget_profile, "forget profile", &opened, &mut inputs)?;
    let full = profile(&job.profile, "profile", &opened, &mut inputs)?;
    forget.origin.check_same_settings(&full.origin)?;
    observer.stage("dampening", 0);
    let change = rewrite(&opened, &forget.sums, &full.sums, job.alpha, job.lambda)?;
    if change.selected == 0 {
        let largest = largest_ratio(&forget.sums, &full.sums);
        return Err(Error::NothingSelected { alpha: job.alpha, largest });
    }
    let mut guards = Guards::default();
    guards.finite(change.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    let warning = "behaviour was not compared: no data was given; use 'onnx-unlearn validate'";
    observer.warning(warning);
    let objective = Objective::named(&forget.origin.objective).ok_or_else(|| Error::Profile {
        path: job.forget_profile.clone(),
        reason: format!("unknown objective '{}'", crate::error::printable(&forget.origin.objective)),
    })?;
    let draft = Draft {
        runtime: None,
        inputs,
        settings: report::Settings {
            objective,
            reduction: if forget.origin.reduction == "batch" { Reduction::Batch } else { Reduction::Sample },
            batch_size: Some(forget.origin.batch_size),
            outputs: forget.origin.outputs.clone().unwrap_or_else(|| opened.output_names()),
            include: common.include.clone(),
            exclude: common.exclude.clone(),
        },
        alpha: job.alpha,
        alpha_auto: false,
        lambda: job.lambda,
        validation: Validation::default(),
        warnings: vec![warning.into()],
    };
    let spliced = splice(&opened.model, &change.tensors)?;
    finish(draft, change, guards, &opened.model, &spliced, &job.target)
}
