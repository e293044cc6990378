//! From arguments to the pipeline and back to text.

use super::args::{Command, RuntimeAction};
use super::options::{Output, TargetArgs};
use super::progress::Progress;
use super::{print, show};
use onnx_unlearn::autograd::Seed;
use onnx_unlearn::error::Kind;
use onnx_unlearn::model::Model;
use onnx_unlearn::pipeline::{self, Dampen, Error, Forget, Grad, Outcome, Pair, ProfileJob, SweepJob, Target};
use onnx_unlearn::report::json;
use onnx_unlearn::session::{Runtime, RuntimeOptions, install, locate};
use onnx_unlearn::validate::second;
use onnx_unlearn::write::{check_output, diff, write_all};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Name of the report in its folder.
const REPORT: &str = "report.json";

/// A message and its exit code.
pub struct Failure {
    pub kind: Kind,
    pub source: anyhow::Error,
}

macro_rules! failure_from {
    ($($t:ty),*) => {$(
        impl From<$t> for Failure {
            fn from(error: $t) -> Failure {
                Failure { kind: error.kind(), source: error.into() }
            }
        }
    )*};
}
failure_from!(
    Error,
    onnx_unlearn::model::ModelError,
    onnx_unlearn::write::WriteError,
    onnx_unlearn::importance::ImportanceError,
    onnx_unlearn::session::SessionError
);

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure { kind: Kind::Io, source: error.into() }
    }
}

/// Runs one command.
pub fn command(command: &Command) -> Result<(), Failure> {
    let output = command.output();
    let mut progress = Progress::new(output.quiet);
    let result = match command {
        Command::Inspect { model, .. } => {
            let summary = pipeline::inspect(model, &pipeline::Common::default())?;
            text(output.json, &summary, || show::summary(model, &summary))
        }
        Command::Forget { model, forget, reference, alpha, objective, target, common, guards, .. } => {
            check_report(target)?;
            let job = Forget {
                model: model.clone(),
                forget: forget.clone(),
                reference: reference.to_reference(),
                settings: objective.to_settings(),
                alpha: *alpha,
                lambda: target.lambda,
                checks: guards.to_checks(),
                target: to_target(target),
            };
            let outcome = pipeline::forget(&job, &common.to_common(), &mut progress)?;
            return rewritten(outcome, target.report.as_deref(), progress, &output);
        }
        Command::Importance { model, data, out, shard, checkpoint_every, objective, common, .. } => {
            progress.watch_signals()?;
            let job = ProfileJob {
                model: model.clone(),
                data: data.clone(),
                output: out.clone(),
                settings: objective.to_settings(),
                shard: *shard,
                checkpoint_every: Duration::from_secs(*checkpoint_every),
            };
            let profile = pipeline::importance(&job, &common.to_common(), &mut progress)?;
            let summary = show::ProfileSummary::of(&profile, out);
            text(output.json, &summary, || summary.table())
        }
        Command::Merge { profiles, out, .. } => {
            let profile = pipeline::merge(profiles, out, &mut progress)?;
            let summary = show::ProfileSummary::of(&profile, out);
            text(output.json, &summary, || summary.table())
        }
        Command::Sweep { model, forget, reference, alphas, lambdas, out, save_profiles, objective, common, .. } => {
            let job = SweepJob {
                model: model.clone(),
                forget: forget.clone(),
                reference: reference.to_reference(),
                settings: objective.to_settings(),
                alphas: alphas.clone(),
                lambdas: lambdas.clone(),
                folder: out.clone(),
                save_profiles: *save_profiles,
            };
            let found = pipeline::sweep(&job, &common.to_common(), &mut progress)?;
            text(output.json, &found, || show::sweep(&found, out))
        }
        Command::Dampen { model, forget_profile, profile, alpha, target, common, .. } => {
            check_report(target)?;
            let job = Dampen {
                model: model.clone(),
                forget_profile: forget_profile.clone(),
                profile: profile.clone(),
                alpha: *alpha,
                lambda: target.lambda,
                target: to_target(target),
            };
            let outcome = pipeline::dampen(&job, &common.to_common(), &mut progress)?;
            return rewritten(outcome, target.report.as_deref(), progress, &output);
        }
        Command::Validate { original, new, forget, retain, report, common, guards, .. } => {
            let pair =
                Pair { original: original.clone(), new: new.clone(), forget: forget.clone(), retain: retain.clone() };
            let found = pipeline::validate(&pair, &common.to_common(), &guards.to_checks(), &mut progress)?;
            found.warnings.iter().for_each(|w| pipeline::Observer::warning(&mut progress, w));
            drop(progress);
            if let Some(folder) = report {
                write_report(folder, &json(&found))?;
            }
            print(&text(output.json, &found, || show::verification(&found)))?;
            let failed: Vec<String> = found.guards.failed().map(|g| g.describe()).collect();
            return match failed.is_empty() {
                true => Ok(()),
                false => Err(Error::GuardOfValidation(failed.join("; ")).into()),
            };
        }
        Command::Diff { a, b, .. } => {
            let limits = onnx_unlearn::model::Limits::default();
            let found = diff(&Model::read(a, &limits)?, &Model::read(b, &limits)?)?;
            text(output.json, &found, || show::diff(&found))
        }
        Command::Grad { model, out, objective, seed_input, wrt, wrt_inputs, shape, data, run, .. } => {
            let job = Grad {
                model: model.clone(),
                output: out.clone(),
                seed: if *seed_input { Seed::Input } else { Seed::Mean(*objective) },
                wrt: wrt.clone(),
                wrt_inputs: *wrt_inputs,
                shapes: shape.iter().cloned().collect(),
                data: data.clone(),
            };
            let made = pipeline::grad(&job, &run.to_common(), &mut progress)?;
            text(output.json, &made, || show::grad(&made))
        }
        Command::Runtime {
            action: Some(RuntimeAction::Install { to, python, cuda, system_cuda, find_links }), ..
        } => {
            let folder = to.clone().or_else(locate::data_folder).ok_or_else(|| {
                onnx_unlearn::session::SessionError::Install("no data folder is known; give one with --to".into())
            })?;
            let source = install::Source { python: python.clone(), find_links: find_links.clone() };
            let made = match cuda {
                Some(cuda) => install::install_cuda(&folder, *cuda, *system_cuda, &source)?,
                None => install::install(&folder, &source)?,
            };
            text(output.json, &made, || show::installed(&made))
        }
        Command::Runtime { .. } => {
            let runtime = Runtime::open(RuntimeOptions::default())?;
            runtime.warnings().iter().for_each(|w| pipeline::Observer::warning(&mut progress, w));
            let shown = show::Shown { info: runtime.info(), around: runtime.surroundings() };
            text(output.json, &shown, || show::runtime(&shown))
        }
        Command::SecondRuntime { model, folder, name, memory_bytes } => {
            return second::child(model, folder, name, *memory_bytes)
                .map_err(|reason| Failure { kind: Kind::Unsupported, source: anyhow::Error::msg(reason) });
        }
    };
    drop(progress);
    Ok(print(&result)?)
}

fn to_target(args: &TargetArgs) -> Target {
    Target { output: args.out.clone(), dry_run: args.dry_run, force: args.force }
}

/// Prints and saves the report of a rewritten model; a failed guard is the error.
fn rewritten(outcome: Outcome, folder: Option<&Path>, progress: Progress, output: &Output) -> Result<(), Failure> {
    drop(progress);
    if let Some(folder) = folder {
        write_report(folder, &json(&outcome.report))?;
    }
    print(&text(output.json, &outcome.report, || show::report(&outcome.report, output.verbose)))?;
    outcome.failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Checks, before any work, that the report can be written: once the new model is there, it is too late.
fn check_report(target: &TargetArgs) -> Result<(), Failure> {
    let Some(folder) = &target.report else { return Ok(()) };
    let report = folder.join(REPORT);
    if std::path::absolute(&report)? == std::path::absolute(&target.out)? {
        return Err(Error::Usage(format!("{}: the report and the new model need two paths", report.display())).into());
    }
    let folder = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("."));
    Ok(check_output(&folder.join(REPORT), &[])?)
}

fn write_report(folder: &Path, content: &str) -> Result<(), Failure> {
    fs_err::create_dir_all(folder)?;
    Ok(write_all(&[(folder.join(REPORT), content.as_bytes())])?)
}

fn text<T: Serialize>(as_json: bool, value: &T, table: impl FnOnce() -> String) -> String {
    if as_json { json(value) } else { table() }
}
