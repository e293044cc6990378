//! Forgetting against retention over alpha and lambda; importance is computed once.

use super::rewrite::largest_ratio;
use super::sources::{Measured, Reference, Sources};
use super::{Common, Error, Observer, runtime, tell_fallback};
use crate::importance::Settings;
use crate::report::sweep::{FORMAT, Point, Sweep};
use crate::report::{Tool, Validation, json};
use crate::session::Runtime;
use crate::validate::{Evaluator, Known, compare};
use crate::write::{check_output, write_all, write_streamed};
use std::path::{Path, PathBuf};

/// Names of the files in the folder of a sweep.
const JSON: &str = "sweep.json";
const CSV: &str = "sweep.csv";
const FORGET: &str = "forget.safetensors";
const FULL: &str = "full.safetensors";
/// Alphas in a grid chosen by itself.
const ALPHAS: i32 = 10;

/// What to try on which data.
#[derive(Clone, Debug)]
pub struct SweepJob {
    pub model: PathBuf,
    pub forget: PathBuf,
    pub reference: Reference,
    pub settings: Settings,
    /// Chosen by the data where empty: evenly spaced on a logarithmic scale, from 1 to where nothing is selected.
    pub alphas: Vec<f64>,
    pub lambdas: Vec<f64>,
    /// The folder to write to; it is created where it is missing.
    pub folder: PathBuf,
    /// Save importance as profiles too.
    pub save_profiles: bool,
}

/// Tries every alpha with every lambda and writes what comes of it; no model is written.
///
/// # Errors
/// Everything that reading, importance, running and writing meet.
pub fn sweep(job: &SweepJob, common: &Common, observer: &mut dyn Observer) -> Result<Sweep, Error> {
    let (alphas, lambdas) = (factors("--alphas", &job.alphas)?, factors("--lambdas", &job.lambdas)?);
    let mut sources = Sources::read(&job.model, &job.forget, &job.reference, &[], common)?;
    check_folder(job, &sources)?;
    let runtime = runtime(common, job.settings.memory, observer)?;
    let measured = sources.measure(&job.settings, &runtime, observer)?;
    let highest = largest_ratio(&measured.forget, &measured.full);
    let alphas = if alphas.is_empty() { grid(highest) } else { alphas };
    let grid = alphas.iter().flat_map(|&alpha| lambdas.iter().map(move |&lambda| (alpha, lambda)));
    let (points, total_weights) = points(&sources, &measured, grid, &runtime, observer)?;
    tell_fallback(&runtime, observer);
    let mut warnings = [runtime.warnings(), measured.warnings.clone()].concat();
    let mut warn = |text: &str| {
        observer.warning(text);
        warnings.push(text.to_string());
    };
    if points.iter().all(|p| p.selected_weights == 0) {
        warn(&format!("no alpha selects a weight; the largest ratio of importance is {highest:.3}"));
    }
    if sources.retained().is_none() {
        warn("retained behaviour was not compared: that takes --retain");
    }
    let found = Sweep {
        format: FORMAT.into(),
        tool: Tool::this(),
        runtime: runtime.info(),
        inputs: sources.inputs.clone(),
        settings: sources.settings(&job.settings, &measured, common),
        total_weights,
        largest_ratio: highest.is_finite().then_some(highest),
        points,
        warnings,
    };
    write(job, &sources, &measured, &found)?;
    Ok(found)
}

/// What each point of the grid does, and the number of weights.
fn points(
    sources: &Sources,
    measured: &Measured,
    grid: impl Iterator<Item = (f64, f64)>,
    runtime: &Runtime,
    observer: &mut dyn Observer,
) -> Result<(Vec<Point>, usize), Error> {
    let (opened, forget) = (&sources.opened, &sources.forget);
    let mut before = Evaluator::new(&opened.graph, forget, runtime)?;
    let [outputs, others] = &measured.outputs;
    let mut known = Known::some(forget, usize::MAX, outputs.as_ref(), &before)?;
    let retained = sources.retained().filter(|set| !set.is_empty());
    let mut retained = retained.map(|set| Known::some(set, usize::MAX, others.as_ref(), &before)).transpose()?;
    let (mut points, mut total) = (Vec::new(), 0);
    for (alpha, lambda) in grid {
        observer.stage(&format!("alpha {alpha}, lambda {lambda}"), 0);
        let change = measured.rewrite(opened, alpha, lambda, runtime)?;
        let mut after = Evaluator::new(&change.apply(&opened.graph), forget, runtime)?;
        let validation = Validation {
            forget: Some(compare(&mut before, &mut known, &mut after)?),
            retain: retained.as_mut().map(|set| compare(&mut before, set, &mut after)).transpose()?,
        };
        total = change.total;
        points.push(Point { alpha, lambda, selected_weights: change.selected, validation });
    }
    Ok((points, total))
}

/// Numbers in rising order, each once.
fn factors(option: &str, list: &[f64]) -> Result<Vec<f64>, Error> {
    if let Some(wrong) = list.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
        return Err(Error::Usage(format!("{option} takes numbers from 0 up; one is {wrong}")));
    }
    let mut list = list.to_vec();
    list.sort_by(f64::total_cmp);
    list.dedup();
    Ok(list)
}

/// Alphas from 1 to below the largest ratio of importance, with four digits, so that they can be given again.
fn grid(highest: f64) -> Vec<f64> {
    let highest = highest.clamp(1.0, 1e6);
    let alpha = |i| highest.powf(f64::from(i) / f64::from(ALPHAS));
    let short = |x: f64| format!("{x:.3e}").parse().unwrap_or(x);
    let mut alphas: Vec<f64> = (0..ALPHAS).map(alpha).map(short).collect();
    alphas.dedup();
    alphas
}

/// Checks, before any work, that all files can be written and are none of those read.
fn check_folder(job: &SweepJob, sources: &Sources) -> Result<(), Error> {
    let mut read: Vec<PathBuf> = sources.inputs.iter().map(|f| f.path.clone()).collect();
    read.extend(match &job.reference {
        Reference::Profile(path) => Some(path.clone()),
        _ => None,
    });
    let exists = job.folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("."));
    let profiles = [FORGET, FULL].into_iter().filter(|_| job.save_profiles);
    for name in [JSON, CSV].into_iter().chain(profiles) {
        check_output(&exists.join(name), if exists == job.folder { &read } else { &[] })?;
    }
    Ok(())
}

fn write(job: &SweepJob, sources: &Sources, measured: &Measured, found: &Sweep) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: job.folder.clone(), source };
    std::fs::create_dir_all(&job.folder).map_err(failed)?;
    if job.save_profiles {
        let (forget, full) = sources.profiles(measured, &job.settings);
        write_streamed(&job.folder.join(FORGET), &|out| forget.write(out))?;
        if let Some(full) = full {
            write_streamed(&job.folder.join(FULL), &|out| full.write(out))?;
        }
    }
    Ok(write_all(&[(job.folder.join(CSV), found.csv()), (job.folder.join(JSON), json(found))])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_rises_evenly_from_one() {
        let alphas = grid(1024.0);
        assert_eq!(alphas, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        assert!(grid(9.832).iter().all(|a| *a < 9.832));
        for odd in [0.0, 0.5, 1.0] {
            assert_eq!(grid(odd), [1.0], "{odd}");
        }
        assert!(grid(f64::INFINITY).iter().all(|a| a.is_finite()));
    }
}
