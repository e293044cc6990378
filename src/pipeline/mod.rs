//! The stages put together: the one place that knows them all.

mod alpha;
mod effect;
mod error;
mod finish;
mod forget;
mod from_profiles;
mod grad;
mod importance;
mod merge;
mod open;
mod rewrite;
mod sources;
mod sweep;
mod verify;

pub use crate::importance::reduction_name;
pub use alpha::{AUTO_AGREEMENT, Alpha};
pub use error::Error;
pub use finish::{Outcome, Target};
pub use forget::{Forget, forget};
pub use from_profiles::{Dampen, dampen};
pub use grad::{Grad, GradSummary, grad};
pub use importance::{ProfileJob, checkpoint_path, importance};
pub use merge::merge;
pub use open::{Common, Opened, Port, Summary, inspect, open};
pub use rewrite::{Rewrite, rewrite};
pub use sources::Reference;
pub use sweep::{SweepJob, sweep};
pub use verify::{CHECKED_SAMPLES, Checks, Pair, Verification, validate};

use crate::data::DataSet;
use crate::error::Kind;
use crate::importance::{Importance, Profile, Sums};
use crate::report::File;
use crate::session::{Runtime, RuntimeOptions};
use crate::write::check_output;
use std::path::{Path, PathBuf};

/// Who is told how far the work is.
pub trait Observer {
    /// A stage of `total` steps begins; 0 where the number is not known.
    fn stage(&mut self, name: &str, total: usize);
    /// So many steps of the stage are done.
    fn advance(&mut self, done: usize);
    /// Something the user should know.
    fn warning(&mut self, text: &str);
    /// What goes on, where that is not plain.
    fn note(&mut self, _text: &str) {}
    /// Whether work that can be gone on with later is to stop, and why.
    fn stop(&mut self) -> Option<Kind> {
        None
    }
}

/// An observer that keeps warnings and shows nothing.
#[derive(Default)]
pub struct Quiet {
    pub warnings: Vec<String>,
}

impl Observer for Quiet {
    fn stage(&mut self, _name: &str, _total: usize) {}
    fn advance(&mut self, _done: usize) {}
    fn warning(&mut self, text: &str) {
        self.warnings.push(text.to_string());
    }
}

/// Reads a profile of this very model and notes its file.
fn profile(path: &Path, role: &str, opened: &Opened, inputs: &mut Vec<File>) -> Result<Profile, Error> {
    let (profile, sha256) = Profile::read(path)?;
    if profile.origin.model_sha256 != opened.model.sha256() {
        let reason = "it was computed on another model (its SHA-256 differs); compute it anew on this one".into();
        return Err(Error::Profile { path: path.into(), reason });
    }
    let shard = profile.origin.shard;
    if !shard.is_whole() {
        let reason = format!(
            "it is not whole: shards {} of {} are missing; add them with 'onnx-unlearn merge'",
            shard.others(),
            shard.of()
        );
        return Err(Error::Profile { path: path.into(), reason });
    }
    inputs.push(File { role: role.into(), path: path.into(), sha256 });
    Ok(profile)
}

/// The files of a data set for a report.
fn data_files(set: &DataSet, role: &str) -> Vec<File> {
    let file =
        |(path, sha256): &(PathBuf, String)| File { role: role.into(), path: path.clone(), sha256: sha256.clone() };
    set.files().iter().map(file).collect()
}

/// Refuses an output that is one of the files read, or that cannot be written.
fn check_target(output: &Path, inputs: &[File]) -> Result<(), Error> {
    Ok(check_output(output, &inputs.iter().map(|f| f.path.clone()).collect::<Vec<_>>())?)
}

/// Opens the runtime, for work that may take so much memory, and passes its warnings on.
fn runtime(common: &Common, memory: Option<u64>, observer: &mut dyn Observer) -> Result<Runtime, Error> {
    let runtime = Runtime::open(RuntimeOptions { gpu_memory: memory, ..common.runtime.clone() })?;
    runtime.warnings().iter().for_each(|w| observer.warning(w));
    Ok(runtime)
}

/// Says that the CPU took over from the GPU, where it did after the runtime was opened.
fn tell_fallback(runtime: &Runtime, observer: &mut dyn Observer) {
    if let Some(reason) = runtime.fallback() {
        observer.warning(&reason);
    }
}

/// One pass of an engine over a data set, with progress and new warnings passed on.
fn pass(engine: &mut Importance, data: &DataSet, stage: &str, observer: &mut dyn Observer) -> Result<Sums, Error> {
    let known = engine.warnings().len();
    observer.stage(stage, data.len());
    let sums = engine.run(data, |progress| observer.advance(progress.samples))?;
    engine.warnings()[known..].iter().for_each(|w| observer.warning(w));
    Ok(sums)
}
