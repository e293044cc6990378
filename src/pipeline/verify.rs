//! A new model held against the original: comparison on data, second runtime, guards.

use super::open::{choose_outputs, graph};
use super::{Common, Error, Observer, Opened};
use crate::data::{Batch, DataSet};
use crate::error::printable;
use crate::graph::Graph;
use crate::importance::padded;
use crate::model::Model;
use crate::report::Validation;
use crate::session::{Runtime, RuntimeInfo};
use crate::tensor::DType;
use crate::validate::second::{Bounds, Verdict, check};
use crate::validate::{Evaluator, Guards, Limits, ValidateError, compare};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Samples of each data set that the second runtime is run on, where the model leaves the number open.
const SECOND_SAMPLES: usize = 8;

/// How strictly a new model is checked, and with what means.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub limits: Limits,
    pub bounds: Bounds,
}

/// Two models and the data to compare them on.
#[derive(Clone, Debug)]
pub struct Pair {
    pub original: PathBuf,
    pub new: PathBuf,
    pub forget: PathBuf,
    pub retain: Option<PathBuf>,
}

/// What came of holding two models against each other.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Verification {
    pub runtime: RuntimeInfo,
    pub validation: Validation,
    pub guards: Guards,
    pub warnings: Vec<String>,
}

/// Compares two model files on data and checks the guards that need no knowledge of how the new one was made.
///
/// # Errors
/// Unreadable or malformed files, models that do not fit together, an empty forget set.
pub fn validate(
    pair: &Pair,
    common: &Common,
    checks: &Checks,
    observer: &mut dyn Observer,
) -> Result<Verification, Error> {
    let runtime = super::runtime(common, observer)?;
    let opened = super::open(&pair.original, common)?;
    let forget_set = opened.data(&pair.forget, common)?;
    if forget_set.is_empty() {
        return Err(Error::EmptySet { what: "forget", path: pair.forget.clone() });
    }
    let retain_set = pair.retain.as_ref().map(|path| opened.data(path, common)).transpose()?;
    observer.stage("validating", 0);
    let mut found = verify(&opened, &pair.new, &forget_set, retain_set.as_ref(), common, checks, &runtime)?;
    found.warnings.splice(0..0, runtime.warnings());
    Ok(found)
}

/// Compares the new model file with the opened original.
pub(super) fn verify(
    original: &Opened,
    new: &Path,
    forget: &DataSet,
    retain: Option<&DataSet>,
    common: &Common,
    checks: &Checks,
    runtime: &Runtime,
) -> Result<Verification, Error> {
    let model = Model::read(new, &common.model_limits)?;
    let mut new_graph = graph(&model, new)?;
    choose_outputs(&model, &mut new_graph, new, &common.outputs)?;
    check_inputs(&original.graph, &new_graph, new)?;
    let mut guards = Guards::default();
    guards.finite(new_graph.constants.iter().filter(|(n, _)| original.weights.contains(*n)).map(|(n, t)| (&**n, &**t)));
    let mut before = Evaluator::new(&original.graph, forget, runtime)?;
    let mut after = Evaluator::new(&new_graph, forget, runtime)?;
    let validation = Validation {
        forget: Some(compare(&mut before, &mut after, forget)?),
        retain: retain.filter(|r| !r.is_empty()).map(|r| compare(&mut before, &mut after, r)).transpose()?,
    };
    guards.retained(validation.retain.as_ref(), &checks.limits);
    let sets = [Some(forget), retain].into_iter().flatten();
    let verdict = match holds_halves(&model) {
        true => Verdict::NotCheckable("tract computes the model in half precision, which rounds more coarsely".into()),
        false => second(new, &new_graph, &mut after, sets, &checks.bounds, runtime)?,
    };
    guards.runtimes(&verdict, &checks.limits);
    let mut warnings = Vec::new();
    for guard in guards.0.iter().filter(|g| g.passed.is_none()) {
        warnings.push(format!("guard {} was not checked: {}", guard.name, guard.note));
    }
    Ok(Verification { runtime: runtime.info(), validation, guards, warnings })
}

/// The new model takes what the original takes.
fn check_inputs(original: &Graph, new: &Graph, path: &Path) -> Result<(), Error> {
    let list = |graph: &Graph| {
        let inputs = graph.inputs.iter().map(|i| format!("{} {}", printable(&i.name), i.dtype));
        inputs.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let (expected, found) = (list(original), list(new));
    if expected == found {
        return Ok(());
    }
    let fault = format!("{} takes the inputs {found}, the original {expected}", path.display());
    Err(ValidateError::Different(fault).into())
}

/// Whether tensors of the model are in half precision.
fn holds_halves(model: &Model) -> bool {
    model.places().values().any(|place| matches!(place.dtype, Some(DType::F16 | DType::BF16)))
}

/// Runs the new model in tract on a few samples of each set and takes the worst result.
fn second<'a>(
    path: &Path,
    graph: &Graph,
    evaluator: &mut Evaluator,
    sets: impl Iterator<Item = &'a DataSet>,
    bounds: &Bounds,
    runtime: &Runtime,
) -> Result<Verdict, Error> {
    if runtime.info().name == "tract" {
        return Ok(Verdict::NotCheckable("tract is the only runtime at hand".into()));
    }
    let Some(output) = graph.outputs.first() else {
        return Ok(Verdict::NotCheckable("the model has no output".into()));
    };
    let fixed = graph.fixed_batch();
    let mut worst = Verdict::NotCheckable("no samples".into());
    for set in sets {
        let size = fixed.unwrap_or(SECOND_SAMPLES.min(evaluator.batch));
        let Some(first) = set.batches(size).next().transpose()? else { continue };
        let samples = fixed.unwrap_or(first.samples);
        let batch = Batch { inputs: padded(&first, samples), labels: None, samples };
        let expected = evaluator.run(&batch)?;
        let verdict = check(path, output, &batch.inputs, &expected, bounds)?;
        worst = match (worst, verdict) {
            (Verdict::Compared { difference: a, same_top1: x }, Verdict::Compared { difference: b, same_top1: y }) => {
                Verdict::Compared { difference: a.max(b), same_top1: x && y }
            }
            (Verdict::NotCheckable(_), verdict @ Verdict::Compared { .. }) => verdict,
            (_, verdict) => return Ok(verdict),
        };
    }
    Ok(worst)
}
