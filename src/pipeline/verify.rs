//! A new model held against the original: comparison on data, second runtime, guards.

use super::open::{choose_outputs, graph};
use super::{Common, Error, Observer, Opened};
use crate::data::DataSet;
use crate::error::printable;
use crate::graph::Graph;
use crate::importance::padded;
use crate::model::Model;
use crate::report::Validation;
use crate::session::{Runtime, RuntimeInfo};
use crate::tensor::DType;
use crate::validate::second::{Bounds, Case, Running, Verdict, start};
use crate::validate::{Evaluator, Guards, Known, Limits, ValidateError, compare_with_first};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Samples of each data set that the second runtime is run on, where the model leaves the number open.
const SECOND_SAMPLES: usize = 8;
/// Samples of each data set that a model just made is run on, where no number is given.
pub const CHECKED_SAMPLES: usize = 512;

/// How strictly a new model is checked, and with what means.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub limits: Limits,
    pub bounds: Bounds,
    /// Samples of each data set that the new model is run on, at most. Absent: [`CHECKED_SAMPLES`] where it was just
    /// made, all where two models are compared.
    pub samples: Option<usize>,
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

impl Verification {
    /// Top-1 agreement on the retained samples; 1 where there are none.
    pub(super) fn agreement(&self) -> f64 {
        self.validation.retain.as_ref().map_or(1.0, |found| found.top1_agreement)
    }
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
    let runtime = super::runtime(common, None, observer)?;
    let opened = super::open(&pair.original, common)?;
    let forget_set = opened.data(&pair.forget, common)?;
    if forget_set.is_empty() {
        return Err(Error::EmptySet { what: "forget", path: pair.forget.clone() });
    }
    let retain_set = pair.retain.as_ref().map(|path| opened.data(path, common)).transpose()?;
    observer.stage("validating", 0);
    let mut model = Evaluator::new(&opened.graph, &forget_set, &runtime)?;
    let some = |set: &DataSet| Known::some(set, checks.samples.unwrap_or(usize::MAX), None, &model);
    let (mut forget, mut retain) = (some(&forget_set)?, retain_set.as_ref().map(some).transpose()?);
    let original = Original { opened: &opened, model: &mut model, forget: &mut forget, retain: retain.as_mut() };
    let mut found = verify(original, &pair.new, common, checks, &runtime)?;
    found.warnings.splice(0..0, runtime.warnings());
    Ok(found)
}

/// An original to hold a new model against, and the data to do it on.
pub(super) struct Original<'a> {
    pub opened: &'a Opened,
    pub model: &'a mut Evaluator,
    /// Not empty.
    pub forget: &'a mut Known,
    pub retain: Option<&'a mut Known>,
}

/// Compares a new model file with the original.
pub(super) fn verify(
    original: Original,
    new: &Path,
    common: &Common,
    checks: &Checks,
    runtime: &Runtime,
) -> Result<Verification, Error> {
    let Original { opened, model: before, forget, retain } = original;
    let retain = retain.filter(|known| !known.data.is_empty());
    let model = Model::read(new, &common.model_limits)?;
    let mut new_graph = graph(&model, new)?;
    choose_outputs(&model, &mut new_graph, new, &common.outputs)?;
    check_inputs(&opened.graph, &new_graph, new)?;
    let mut guards = Guards::default();
    guards.finite(new_graph.constants.iter().filter(|(n, _)| opened.weights.contains(*n)).map(|(n, t)| (&**n, &**t)));
    let mut after = Evaluator::new(&new_graph, &forget.data, runtime)?;
    // tract works in a process of its own meanwhile.
    let second = match (holds_halves(&model), runtime.info().name.as_str()) {
        (true, _) => Err("tract computes the model in half precision, which rounds more coarsely"),
        (false, "tract") => Err("tract is the only runtime at hand"),
        _ => {
            let sets = std::iter::once(&forget.data).chain(retain.as_ref().map(|known| &known.data));
            Ok(second(new, &new_graph, before.batch, sets, &checks.bounds)?)
        }
    };
    let (found, first) = compare_with_first(before, forget, &mut after)?;
    let (mut validation, mut expected) = (Validation { forget: Some(found), retain: None }, vec![first]);
    if let Some(retain) = retain {
        let (found, first) = compare_with_first(before, retain, &mut after)?;
        validation.retain = Some(found);
        expected.push(first);
    }
    guards.retained(validation.retain.as_ref(), &checks.limits);
    let verdict = match second {
        Ok(Some(running)) => running.finish(&expected)?,
        Ok(None) => Verdict::NotCheckable("no program to run the check was given".into()),
        Err(reason) => Verdict::NotCheckable(reason.into()),
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

/// Starts the new model in tract on a few samples of each set, the first of a batch of so many.
fn second<'a>(
    path: &Path,
    graph: &Graph,
    batch: usize,
    sets: impl Iterator<Item = &'a DataSet>,
    bounds: &Bounds,
) -> Result<Option<Running>, Error> {
    let Some(output) = graph.outputs.first() else { return Ok(None) };
    let fixed = graph.fixed_batch();
    let mut cases = Vec::new();
    for set in sets {
        let Some(first) = set.batches(fixed.unwrap_or(SECOND_SAMPLES.min(batch))).next().transpose()? else { continue };
        let inputs = padded(&first, fixed.unwrap_or(first.samples));
        cases.push(Case { inputs, samples: first.samples.min(batch) });
    }
    Ok(start(path, output, &cases, bounds)?)
}
