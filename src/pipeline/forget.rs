//! The whole job: importance, dampening, validation, writing.

use super::alpha::{self, Alpha};
use super::effect::measure_effect;
use super::finish::{Draft, Outcome, Target, finish};
use super::rewrite::{largest_ratio, rewrite};
use super::verify::{Checks, verify};
use super::{Common, Error, Observer, check_target, data_files, open, pass, profile, runtime};
use crate::autograd::Reduction;
use crate::importance::{Importance, Profile, Settings};
use crate::report;
use crate::write::{check_output, splice, write_all};
use std::path::{Path, PathBuf};

/// Where the importance over all data comes from.
#[derive(Clone, Debug)]
pub enum Reference {
    /// The samples to be kept; all data are these and the forget set.
    Retain(PathBuf),
    /// All data, the forget set included.
    Full(PathBuf),
    /// A saved profile over all data.
    Profile(PathBuf),
}

impl Reference {
    fn role_and_path(&self) -> (&'static str, &Path) {
        match self {
            Reference::Retain(path) => ("retain", path),
            Reference::Full(path) => ("full", path),
            Reference::Profile(path) => ("profile", path),
        }
    }
}

/// What to forget, from what, and how.
#[derive(Clone, Debug)]
pub struct Forget {
    pub model: PathBuf,
    pub forget: PathBuf,
    pub reference: Reference,
    pub settings: Settings,
    pub alpha: Alpha,
    pub lambda: f64,
    pub checks: Checks,
    pub target: Target,
}

/// Runs the whole pipeline.
///
/// # Errors
/// Everything that its stages meet. A failed guard is not an error here: the outcome tells.
pub fn forget(job: &Forget, common: &Common, observer: &mut dyn Observer) -> Result<Outcome, Error> {
    alpha::check_factors(job.alpha, job.lambda)?;
    let opened = open(&job.model, common)?;
    let (role, reference) = job.reference.role_and_path();
    let mut inputs = opened.files();
    let mut read: Vec<PathBuf> = inputs.iter().map(|f| f.path.clone()).collect();
    read.extend([job.forget.clone(), reference.to_path_buf()]);
    check_output(&job.target.output, &read)?;
    let forget_set = opened.data(&job.forget, common)?;
    inputs.extend(data_files(&forget_set, "forget"));
    if forget_set.is_empty() {
        return Err(Error::EmptySet { what: "forget", path: job.forget.clone() });
    }
    let other = match &job.reference {
        Reference::Profile(_) => None,
        _ => Some(opened.data(reference, common)?),
    };
    inputs.extend(other.iter().flat_map(|set| data_files(set, role)));
    check_target(&job.target.output, &inputs)?;
    alpha::check_possible(job, &forget_set, other.as_ref())?;
    let runtime = runtime(common, observer)?;
    let mut engine = Importance::new(&runtime, &opened.graph, &opened.weights, job.settings.clone())?;
    let forget_sums = pass(&mut engine, &forget_set, "importance, forget set", observer)?;
    let full = match (&job.reference, &other) {
        (Reference::Retain(_), Some(set)) if set.is_empty() => forget_sums.clone(),
        (Reference::Retain(_), Some(set)) => {
            pass(&mut engine, set, "importance, retain set", observer)?.merge(&forget_sums)?
        }
        (_, Some(set)) => pass(&mut engine, set, "importance, all data", observer)?,
        (_, None) => {
            let saved = profile(reference, "profile", &opened, &mut inputs)?;
            check_settings(&saved, job, &engine, reference)?;
            saved.sums
        }
    };
    let mut warnings = runtime.warnings().to_vec();
    warnings.extend(engine.warnings().iter().cloned());

    let alpha = match (job.alpha, &other) {
        (Alpha::Value(alpha), _) => alpha,
        (Alpha::Auto, kept) => {
            observer.stage("choosing alpha", 0);
            let kept = kept.as_ref().unwrap_or(&forget_set);
            alpha::search(&opened, &forget_sums, &full, job.lambda, kept, &runtime)?
        }
    };
    let mut change = rewrite(&opened, &forget_sums, &full, alpha, job.lambda)?;
    if change.selected == 0 {
        return Err(Error::NothingSelected { alpha, largest: largest_ratio(&forget_sums, &full) });
    }
    observer.stage("validating", 0);
    measure_effect(&opened.graph, &mut change, &forget_set, &runtime)?;
    let spliced = splice(&opened.model, &change.tensors)?;
    let trial = tempfile::tempdir().map_err(Error::Temporary)?;
    let candidate = trial.path().join("model.onnx");
    write_all(&spliced.files(&opened.model, &candidate)?)?;
    let retained = if role == "retain" { other.as_ref() } else { None };
    let mut verified = verify(&opened, &candidate, &forget_set, retained, common, &job.checks, &runtime)?;
    verified.warnings.iter().for_each(|w| observer.warning(w));
    warnings.append(&mut verified.warnings);
    let draft = Draft {
        runtime: Some(runtime.info()),
        inputs,
        settings: report::Settings {
            objective: job.settings.objective,
            reduction: job.settings.reduction,
            batch_size: engine.batch_size(),
            outputs: opened.graph.outputs.iter().map(|o| o.to_string()).collect(),
            include: common.include.clone(),
            exclude: common.exclude.clone(),
        },
        alpha,
        alpha_auto: job.alpha == Alpha::Auto,
        lambda: job.lambda,
        validation: verified.validation,
        warnings,
    };
    finish(draft, change, verified.guards, &opened.model, &spliced, &job.target)
}

/// A saved profile over all data must have been computed as the forget set's importance is.
fn check_settings(saved: &Profile, job: &Forget, engine: &Importance, path: &Path) -> Result<(), Error> {
    let Settings { objective, reduction, .. } = &job.settings;
    let wrong = |what: &str, found: &str, expected: &str| Error::Profile {
        path: path.into(),
        reason: format!("it was computed with {what} {found}, but {expected} is asked for"),
    };
    if saved.objective != objective.name() {
        return Err(wrong("objective", &saved.objective, objective.name()));
    }
    if saved.reduction != super::reduction_name(*reduction) {
        return Err(wrong("reduction", &saved.reduction, super::reduction_name(*reduction)));
    }
    let size = engine.batch_size().unwrap_or(saved.batch_size);
    if *reduction == Reduction::Batch && saved.batch_size != size {
        return Err(wrong("batch size", &saved.batch_size.to_string(), &size.to_string()));
    }
    Ok(())
}
