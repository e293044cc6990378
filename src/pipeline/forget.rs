//! The whole job: importance, dampening, validation, writing.

use super::alpha::{self, AUTO_AGREEMENT, Alpha, Search};
use super::effect::measure_effect;
use super::finish::{Draft, Outcome, Target, finish};
use super::rewrite::largest_ratio;
use super::sources::{Measured, Reference, Sources};
use super::verify::{CHECKED_SAMPLES, Checks, Original, Verification, verify};
use super::{Common, Error, Observer, Rewrite, runtime, tell_fallback};
use crate::importance::Settings;
use crate::session::Runtime;
use crate::validate::{Evaluator, Known};
use crate::write::{Spliced, splice, write_all};
use std::path::PathBuf;

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
    let outputs = std::slice::from_ref(&job.target.output);
    let mut sources = Sources::read(&job.model, &job.forget, &job.reference, outputs, common)?;
    alpha::check_possible(job, &sources.forget, sources.other.as_ref())?;
    let runtime = runtime(common, job.settings.memory, observer)?;
    let mut measured = sources.measure(&job.settings, &runtime, observer)?;
    let opened = &sources.opened;
    let most = job.checks.samples.unwrap_or(CHECKED_SAMPLES);
    let mut original = Evaluator::new(&opened.graph, &sources.forget, &runtime)?;
    let [outputs, others] = &measured.outputs;
    let mut forget_set = Known::some(&sources.forget, most, outputs.as_ref(), &original)?;
    let some = |set| Known::some(set, most, others.as_ref(), &original);
    let mut other = sources.other.as_ref().map(some).transpose()?;

    let search = Search::new(opened, &measured, job.lambda, &runtime);
    let (mut alpha, searched) = match job.alpha {
        Alpha::Value(alpha) => (alpha, None),
        Alpha::Auto => {
            observer.stage("choosing alpha", 0);
            let kept = other.as_mut().unwrap_or(&mut forget_set);
            let mut step = search.on_undecided(&mut original, kept)?;
            // Retained samples are all looked at when the new model is checked.
            if sources.retained().is_none() {
                step = search.on_all(step, &mut original, kept)?;
            }
            (search.alpha(step), Some(step))
        }
    };
    observer.stage("validating", 0);
    let made = |alpha, model: &mut _, forget: &mut _, other: Option<&mut _>| {
        let retain = other.filter(|_| sources.retained().is_some());
        candidate(job, common, &measured, alpha, Original { opened, model, forget, retain }, &runtime)
    };
    let (mut change, mut spliced, mut verified) = made(alpha, &mut original, &mut forget_set, other.as_mut())?;
    if let (Some(kept), Some(step @ 2..)) = (&mut other, searched)
        && verified.agreement() < AUTO_AGREEMENT
    {
        observer.stage("choosing alpha", 0);
        alpha = search.alpha(search.on_all(step, &mut original, kept)?);
        observer.stage("validating", 0);
        (change, spliced, verified) = made(alpha, &mut original, &mut forget_set, other.as_mut())?;
    }
    measure_effect(&opened.graph, &mut change, &sources.forget, &runtime)?;
    verified.warnings.iter().for_each(|w| observer.warning(w));
    tell_fallback(&runtime, observer);
    let mut warnings = runtime.warnings();
    warnings.append(&mut measured.warnings);
    warnings.append(&mut verified.warnings);
    let draft = Draft {
        runtime: Some(runtime.info()),
        inputs: sources.inputs.clone(),
        settings: sources.settings(&job.settings, &measured, common),
        alpha,
        alpha_auto: searched.is_some(),
        lambda: job.lambda,
        validation: verified.validation,
        warnings,
    };
    finish(draft, change, verified.guards, &opened.model, &spliced, &job.target)
}

/// A new model for an alpha, held against the original in a place of its own.
fn candidate(
    job: &Forget,
    common: &Common,
    measured: &Measured,
    alpha: f64,
    original: Original,
    runtime: &Runtime,
) -> Result<(Rewrite, Spliced, Verification), Error> {
    let opened = original.opened;
    let change = measured.rewrite(opened, alpha, job.lambda, runtime)?;
    if change.selected == 0 {
        return Err(Error::NothingSelected { alpha, largest: largest_ratio(&measured.forget, &measured.full) });
    }
    let spliced = splice(&opened.model, &change.tensors)?;
    let trial = tempfile::tempdir().map_err(Error::Temporary)?;
    let path = trial.path().join("model.onnx");
    write_all(&spliced.files(&opened.model, &path)?)?;
    let verified = verify(original, &path, common, &job.checks, runtime)?;
    Ok((change, spliced, verified))
}
