//! One pass over one data set, saved as a profile; stopped at any moment, it can go on.

use super::{Common, Error, Observer, Opened, check_target, data_files, open, runtime, tell_fallback};
use crate::data::DataSet;
use crate::error::Kind;
use crate::importance::{Done, Importance, Origin, Profile, Progress, Run, Settings, Shard, shard_samples};
use crate::report::Tool;
use crate::session::Runtime;
use crate::write::{replace, write_streamed};
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a profile is to be made of.
#[derive(Clone, Debug)]
pub struct ProfileJob {
    pub model: PathBuf,
    pub data: PathBuf,
    pub output: PathBuf,
    pub settings: Settings,
    /// The part of the data set to go over.
    pub shard: Shard,
    /// Time between two checkpoints; zero makes one after every batch.
    pub checkpoint_every: Duration,
}

/// Where checkpoints of a profile lie: its path with `.checkpoint` behind it.
pub fn checkpoint_path(output: &Path) -> PathBuf {
    beside(output, ".checkpoint")
}

/// The name that a checkpoint has for the moment in which it takes the place of an earlier one.
fn spare_path(output: &Path) -> PathBuf {
    beside(output, ".checkpoint.new")
}

fn beside(output: &Path, suffix: &str) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// The importance of every weight over a data set, written as a profile. While it is computed, a checkpoint
/// lies beside the output; where one is found, the pass goes on from there and gives the same bits.
///
/// # Errors
/// Everything that reading, differentiating and running can meet; an empty data set; the checkpoint of
/// another run; [`Error::Stopped`] where the observer asks for that.
pub fn importance(job: &ProfileJob, common: &Common, observer: &mut dyn Observer) -> Result<Profile, Error> {
    let opened = open(&job.model, common)?;
    let mut inputs = opened.files();
    let set = opened.data(&job.data, common)?;
    inputs.extend(data_files(&set, "data"));
    let place = checkpoint_path(&job.output);
    for path in [&job.output, &place, &spare_path(&job.output)] {
        check_target(path, &inputs)?;
    }
    if set.is_empty() {
        return Err(Error::EmptySet { what: "data", path: job.data.clone() });
    }
    let found = Run::read(&place)?;
    let runtime = runtime(common, job.settings.memory, observer)?;
    let saved_size = found.as_ref().map(|(run, _)| run.origin.batch_size);
    let settings = Settings { batch_size: job.settings.batch_size.or(saved_size), ..job.settings.clone() };
    let mut engine = Importance::new(&runtime, &opened.graph, &opened.weights, settings)?;
    let run = this_run(job, &opened, &set, &runtime, engine.settle(&set)?);
    engine.warnings().iter().for_each(|w| observer.warning(w));
    let mut done = Done::default();
    if let Some((checkpoint, saved)) = found {
        run.check(&checkpoint, &place)?;
        let (path, batches) = (place.display(), saved.batches);
        observer.note(&format!("going on from {path}: {} samples are done", batches * run.origin.batch_size));
        done = saved;
    }
    pass(job, &mut engine, &set, &run, &mut done, observer)?;
    tell_fallback(&runtime, observer);
    let profile = Profile { sums: done.sums, origin: run.origin };
    write_streamed(&job.output, &|out| profile.write(out))?;
    for path in [place, spare_path(&job.output)] {
        // The profile is there: what stays behind does no harm, and a later run says what it is.
        let _ = std::fs::remove_file(path);
    }
    Ok(profile)
}

/// All that the bits of the profile depend on.
fn this_run(job: &ProfileJob, opened: &Opened, set: &DataSet, runtime: &Runtime, batch_size: usize) -> Run {
    let names: Vec<&str> = opened.weights.iter().map(|name| &**name).collect();
    let digest = format!("{:x}", Sha256::digest(names.join("\0")));
    let info = runtime.info();
    let tf32 = if info.allow_tf32 { ", TensorFloat-32 allowed" } else { "" };
    let (model, data) = (opened.model.sha256(), set.sha256().to_string());
    let whole = Origin::whole(&job.settings, batch_size, opened.output_names(), model, data);
    Run {
        origin: Origin { shard: job.shard, ..whole },
        weights: format!("{} tensors, digest {}", names.len(), &digest[..16]),
        runtime: format!("{} {}, {}{tf32}", info.name, info.version, info.provider),
        version: Tool::this().version,
    }
}

/// Goes over what is left of the data, and leaves a checkpoint at intervals and where it is stopped.
fn pass(
    job: &ProfileJob,
    engine: &mut Importance,
    set: &DataSet,
    run: &Run,
    done: &mut Done,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let (place, spare) = (checkpoint_path(&job.output), spare_path(&job.output));
    let save = |done: &Done| replace(&place, &spare, &|out| run.write(done, out));
    let stopped = |kind: Kind, done: &Done| -> Result<(), Error> {
        let checkpoint = (done.batches > 0).then(|| place.clone());
        Err(Error::Stopped { kind, checkpoint })
    };
    if let Some(kind) = observer.stop() {
        return stopped(kind, done);
    }
    let mut last = Instant::now();
    let mut stop = None;
    observer.stage("importance", shard_samples(set, job.shard, run.origin.batch_size)?.len());
    engine.go_on(set, job.shard, done, |done, Progress { samples, of }| {
        observer.advance(samples);
        if samples == of {
            return Ok(ControlFlow::Continue(()));
        }
        stop = observer.stop();
        if stop.is_some() {
            return Ok(ControlFlow::Break(()));
        }
        if last.elapsed() >= job.checkpoint_every {
            done.sums.check_finite()?;
            // The work itself can go on without.
            save(done).unwrap_or_else(|e| observer.warning(&format!("no checkpoint: {e}")));
            last = Instant::now();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match stop {
        Some(kind) => {
            save(done)?;
            stopped(kind, done)
        }
        None => Ok(()),
    }
}
