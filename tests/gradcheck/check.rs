//! What is asked of every case:
//! - the graph as it is computed gives what the graph as it is written gives;
//! - the gradients of `Σ over samples ‖f(x)‖²`, element by element and along a random direction, are those
//!   of fourth-order central differences of the forward graph in the same runtime;
//! - per-sample absolute gradients are the same in batches of three, of two and one, and of one;
//! - they are the same where the contractions are computed in the graph, in standard operators;
//! - samples are told apart where the table does not say that they mix;
//! - the gradient graph, for every batch size where its batch is open, gives the same;
//! - the embedded runtime gives the same, where the table does not say that it cannot run the case.

use crate::case::{Case, NO_F64};
use crate::forward::Forward;
use crate::graph::SAMPLES;
use crate::numbers::{Random, Sampler};
use crate::problem::{Gradients, Problem, open, rows, sample};
use onnx_unlearn::autograd::Seed;
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::gradient::gradient_graph;
use onnx_unlearn::graph::Name;
use onnx_unlearn::importance::{Lowering, Settings};
use onnx_unlearn::session::{Runtime, RuntimeChoice};
use onnx_unlearn::tensor::DType;
use std::collections::BTreeMap;

pub fn check(case: &Case, opset: i64) -> Result<(), String> {
    let runtime = open(RuntimeChoice::OnnxRuntime)?;
    let dtype = if case.single.is_some() { DType::F32 } else { DType::F64 };
    let problem = Problem::new(case, opset, dtype, &runtime)?;
    same_function(&problem, &runtime)?;
    let (analytic, warnings) = problem.importance(&runtime, SAMPLES, true)?;
    match (warnings.first(), case.mixes) {
        (Some(warning), None) => return Err(warning.clone()),
        (None, Some(reason)) => return Err(format!("samples are told apart, but the table says: {reason}")),
        _ => {}
    }
    differences(case, &problem, &runtime, &analytic, dtype)?;
    let one = problem.importance(&runtime, 1, false)?.0;
    for size in [2, SAMPLES] {
        let batched = problem.importance(&runtime, size, false)?.0;
        let tolerance = if dtype == DType::F64 { 1e-11 } else { 1e-5 };
        compare(&batched, &one, tolerance).map_err(|e| format!("batches of {size} against batches of one: {e}"))?;
        let settings = Settings { batch_size: Some(size), lowering: Some(Lowering::Graph), ..Default::default() };
        let lowered = problem.computed(&runtime, settings)?.0;
        compare(&lowered, &one, tolerance).map_err(|e| format!("contractions in the graph: {e}"))?;
    }
    if case.mixes.is_none() {
        let tolerance = if dtype == DType::F64 { 1e-6 } else { 1e-4 };
        compare(&explicit(&problem, &runtime)?, &analytic, tolerance)
            .map_err(|e| format!("the gradient graph: {e}"))?;
    }
    if case.single == Some(NO_F64) && double(case, opset, &runtime).is_ok() {
        return Err(format!("it runs in float64, but the table says: {NO_F64}"));
    }
    match (tract(case, opset, &runtime, &one), case.not_in_tract) {
        (Err(error), None) => Err(format!("in tract: {error}")),
        (Ok(()), Some(reason)) => Err(format!("it runs in tract, but the table says: {reason}")),
        _ => Ok(()),
    }
}

/// The graph as it is computed against the graph as it is written, in the same runtime.
fn same_function(problem: &Problem, runtime: &Runtime) -> Result<(), String> {
    let run = |graph| {
        let mut session = runtime.observer(graph).map_err(|e| e.to_string())?;
        session.run(&problem.feed).map_err(|e| e.to_string())
    };
    for (prepared, written) in run(&problem.prepared()?)?.iter().zip(&run(&problem.graph)?) {
        let (Some(a), Some(b)) = (prepared.to_f64(), written.to_f64()) else { continue };
        let gap = |(a, b): (&f64, &f64)| (a - b).abs();
        let largest = b.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        if a.shape() != b.shape() || !a.iter().zip(&b).map(gap).all(|gap| gap <= 2e-6 * largest) {
            return Err("the graph as it is computed gives something else than the graph as it is written".into());
        }
    }
    Ok(())
}

/// The sums over all samples of the gradients that the gradient graph gives, for the whole batch where its batch
/// is open, else sample by sample.
fn explicit(problem: &Problem, runtime: &Runtime) -> Result<Gradients, String> {
    let wrt: Vec<Name> = problem.parameters.iter().cloned().collect();
    let samples = problem.samples();
    let feed = |batch: usize| Ok(rows(&problem.feed, &(0..batch).map(|i| i % samples).collect::<Vec<_>>()));
    let seed = Seed::Mean(Objective::SquaredL2);
    let made = gradient_graph(&problem.prepared()?, &wrt, seed, &feed, runtime).map_err(|e| e.to_string())?;
    let feeds = match made.fixed {
        None => vec![problem.feed.clone()],
        Some(_) => (0..samples).map(|i| sample(&problem.feed, i)).collect(),
    };
    let mut session = runtime.observer(&made.graph).map_err(|e| e.to_string())?;
    let mut sums = Gradients::new();
    for feed in &feeds {
        let outputs = session.run(feed).map_err(|e| e.to_string())?;
        for (name, gradient) in wrt.iter().zip(&outputs[outputs.len() - wrt.len()..]) {
            let gradient = gradient.to_f64().ok_or("a gradient is not floating point")?;
            let sum = sums.entry(name.to_string()).or_insert_with(|| vec![0.0; gradient.len()]);
            let count = (samples / feeds.len()) as f64;
            sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g * count);
        }
    }
    Ok(sums)
}

/// The case in float64.
fn double(case: &Case, opset: i64, runtime: &Runtime) -> Result<(), String> {
    let problem = Problem::new(case, opset, DType::F64, runtime)?;
    problem.importance(runtime, SAMPLES, true).map(|_| ())
}

/// The case in the embedded runtime, in float32, against the reference.
fn tract(case: &Case, opset: i64, onnxruntime: &Runtime, reference: &Gradients) -> Result<(), String> {
    let problem = Problem::new(case, opset, DType::F32, onnxruntime)?;
    let found = problem.importance(&open(RuntimeChoice::Tract)?, SAMPLES, false)?.0;
    compare(&found, reference, 1e-4)
}

/// Every element of `found` is that of `expected` up to `tolerance` times the largest of the parameter.
fn compare(found: &Gradients, expected: &Gradients, tolerance: f64) -> Result<(), String> {
    for (name, expected) in expected {
        let found = found.get(name).ok_or_else(|| format!("'{name}' has no gradient"))?;
        let scale = expected.iter().fold(0.0, |max: f64, e| max.max(e.abs()));
        for (index, (f, e)) in found.iter().zip(expected).enumerate() {
            if !f.is_finite() || (f - e).abs() > tolerance * scale {
                return Err(format!("'{name}' element {index}: {f}, expected {e} (largest {scale})"));
            }
        }
    }
    Ok(())
}

/// Compares gradients with differences, element by element and along a random direction.
fn differences(
    case: &Case,
    problem: &Problem,
    runtime: &Runtime,
    analytic: &Gradients,
    dtype: DType,
) -> Result<(), String> {
    let mut forward = Forward::new(problem, runtime, dtype)?;
    let (step, tolerance) = match (dtype, case.polynomial) {
        // ONNX Runtime rounds the scalar factors that it fuses into matrix products to float32.
        (DType::F64, _) => (1e-3, 1e-7),
        (_, true) => (0.25, 1e-4),
        (_, false) => (1.0 / 32.0, 2e-3),
    };
    let mut expected = Gradients::new();
    for (name, (_, values)) in forward.values.clone() {
        let mut slopes = Vec::new();
        for index in 0..values.len() {
            let mut direction = vec![0.0; values.len()];
            direction[index] = 1.0;
            slopes.push(forward.slope(&BTreeMap::from([(name.clone(), direction)]), step)?);
        }
        if slopes.iter().all(|s| s.abs() < 1e-3) {
            return Err(format!("the gradient of '{name}' is next to zero: the case shows nothing"));
        }
        expected.insert(name, slopes);
    }
    compare(analytic, &expected, tolerance).map_err(|e| format!("against differences: {e}"))?;
    let mut random = Random::named("direction");
    let direction: Gradients =
        expected.iter().map(|(n, v)| (n.clone(), random.draw(Sampler::Uniform(-1.0, 1.0), v.len()))).collect();
    let slope = forward.slope(&direction, step)?;
    let pairs = || direction.iter().flat_map(|(n, d)| d.iter().zip(&analytic[n]));
    let projected: f64 = pairs().map(|(d, g)| d * g).sum();
    let scale: f64 = pairs().map(|(d, g)| (d * g).abs()).sum();
    if (projected - slope).abs() > tolerance * scale {
        return Err(format!("along a random direction: {projected}, expected {slope}"));
    }
    Ok(())
}
