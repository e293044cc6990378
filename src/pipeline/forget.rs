//! The whole job: importance, dampening, validation, writing.

use super::alpha::{self, Alpha, Choice};
use super::effect::measure_effect;
use super::finish::{Draft, Outcome, Target, finish};
use super::rewrite::{largest_ratio, rewrite};
use super::sources::{Reference, Sources};
use super::verify::{CHECKED_SAMPLES, Checks, Original, verify};
use super::{Common, Error, Observer, runtime, tell_fallback};
use crate::importance::Settings;
use crate::validate::{Evaluator, Known};
use crate::write::{splice, write_all};
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

    let mut choice = match (job.alpha, &mut other) {
        (Alpha::Value(alpha), _) => Choice::Given(alpha),
        (Alpha::Auto, kept) => {
            observer.stage("choosing alpha", 0);
            let kept = kept.as_mut().unwrap_or(&mut forget_set);
            let settle = sources.retained().is_none();
            alpha::search(opened, &measured, job.lambda, &mut original, kept, settle, &runtime)?
        }
    };
    observer.stage("validating", 0);
    let (mut change, spliced, mut verified) = loop {
        let alpha = choice.alpha();
        let change = rewrite(opened, &measured.forget, &measured.full, alpha, job.lambda)?;
        if change.selected == 0 {
            return Err(Error::NothingSelected { alpha, largest: largest_ratio(&measured.forget, &measured.full) });
        }
        let spliced = splice(&opened.model, &change.tensors)?;
        let trial = tempfile::tempdir().map_err(Error::Temporary)?;
        let candidate = trial.path().join("model.onnx");
        write_all(&spliced.files(&opened.model, &candidate)?)?;
        let retain = other.as_mut().filter(|_| sources.retained().is_some());
        let held = Original { opened, model: &mut original, forget: &mut forget_set, retain };
        let verified = verify(held, &candidate, common, &job.checks, &runtime)?;
        match choice.raised(verified.validation.retain.as_ref()) {
            Some(next) => choice = next,
            None => break (change, spliced, verified),
        }
    };
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
        alpha: choice.alpha(),
        alpha_auto: job.alpha == Alpha::Auto,
        lambda: job.lambda,
        validation: verified.validation,
        warnings,
    };
    finish(draft, change, verified.guards, &opened.model, &spliced, &job.target)
}
