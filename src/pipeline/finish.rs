//! The last step: guards decide, the model is written or not, the report says so.

use super::{Error, Rewrite};
use crate::model::Model;
use crate::report::{FORMAT, File, Report, Settings, Status, Tool, Validation};
use crate::session::RuntimeInfo;
use crate::validate::Guards;
use crate::write::{Spliced, write_all};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Where the new model goes, and whether.
#[derive(Clone, Debug)]
pub struct Target {
    pub output: PathBuf,
    /// Write nothing.
    pub dry_run: bool,
    /// Write even where a guard fails.
    pub force: bool,
}

/// The report of a run, and the error that ended it after the report was made: a guard that failed.
pub struct Outcome {
    pub report: Report,
    pub failed: Option<Error>,
}

/// What a report holds that is known before anything is written.
pub(super) struct Draft {
    pub runtime: Option<RuntimeInfo>,
    pub inputs: Vec<File>,
    pub settings: Settings,
    pub alpha: f64,
    pub alpha_auto: bool,
    pub lambda: f64,
    pub validation: Validation,
    pub warnings: Vec<String>,
}

/// Checks the guards and writes the new model where it may be written.
pub(super) fn finish(
    draft: Draft,
    change: Rewrite,
    mut guards: Guards,
    model: &Model,
    spliced: &Spliced,
    target: &Target,
) -> Result<Outcome, Error> {
    guards.selected(change.selected);
    let failed: Vec<String> = guards.failed().map(|g| g.describe()).collect();
    let status = match (target.dry_run, failed.is_empty(), target.force) {
        (_, false, false) => Status::GuardFailed,
        (true, _, _) => Status::DryRun,
        (false, true, _) => Status::Written,
        (false, false, true) => Status::Forced,
    };
    let written = matches!(status, Status::Written | Status::Forced);
    if written {
        write_all(&spliced.files(model, &target.output)?)?;
    }
    let sha256 = format!("{:x}", Sha256::digest(&spliced.model));
    let output = written.then(|| File { role: "output".into(), path: target.output.clone(), sha256 });
    let report = Report {
        format: FORMAT.into(),
        status,
        tool: Tool::this(),
        runtime: draft.runtime,
        inputs: draft.inputs,
        output,
        settings: draft.settings,
        alpha: draft.alpha,
        alpha_auto: draft.alpha_auto,
        lambda: draft.lambda,
        total_weights: change.total,
        selected_weights: change.selected,
        parameters: change.parameters,
        guards,
        validation: draft.validation,
        warnings: draft.warnings,
    };
    let failed = (status == Status::GuardFailed).then(|| Error::Guard(failed.join("; ")));
    Ok(Outcome { report, failed })
}
