//! What is asked of every case:
//! - the graph as it is computed gives what the graph as it is written gives;
//! - the gradients of `Σ over samples ‖f(x)‖²`, element by element and along a random direction, are those
//!   of fourth-order central differences of the forward graph in the same runtime;
//! - per-sample absolute gradients are the same in batches of three, of two and one, and of one;
//! - samples are told apart where the table does not say that they mix;
//! - the embedded runtime gives the same, where the table does not say that it cannot run the case.

use crate::case::{Case, NO_F64};
use crate::graph::{Problem, SAMPLES, floats, sample};
use crate::numbers::{Random, Sampler};
use onnx_unlearn::importance::{Importance, Settings};
use onnx_unlearn::session::{DeviceChoice, Feed, Runtime, RuntimeChoice, RuntimeOptions, Session};
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// A number for each element of each parameter, by the parameter's name.
type Gradients = BTreeMap<String, Vec<f64>>;

pub fn check(case: &Case, opset: i64) -> Result<(), String> {
    let runtime = open(RuntimeChoice::OnnxRuntime)?;
    let dtype = if case.single.is_some() { DType::F32 } else { DType::F64 };
    let problem = Problem::new(case, opset, dtype, &runtime)?;
    same_function(&problem, &runtime)?;
    let (analytic, warnings) = importance(&problem, &runtime, SAMPLES, true)?;
    match (warnings.first(), case.mixes) {
        (Some(warning), None) => return Err(warning.clone()),
        (None, Some(reason)) => return Err(format!("samples are told apart, but the table says: {reason}")),
        _ => {}
    }
    differences(case, &problem, &runtime, &analytic, dtype)?;
    let one = importance(&problem, &runtime, 1, false)?.0;
    for size in [2, SAMPLES] {
        let batched = importance(&problem, &runtime, size, false)?.0;
        let tolerance = if dtype == DType::F64 { 1e-11 } else { 1e-5 };
        compare(&batched, &one, tolerance).map_err(|e| format!("batches of {size} against batches of one: {e}"))?;
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

fn open(runtime: RuntimeChoice) -> Result<Runtime, String> {
    let options = RuntimeOptions { runtime, device: DeviceChoice::Cpu, threads: 1, library: None };
    Runtime::open(options).map_err(|e| e.to_string())
}

/// The graph as it is computed against the graph as it is written, in the same runtime.
fn same_function(problem: &Problem, runtime: &Runtime) -> Result<(), String> {
    let run = |graph| {
        let mut session = runtime.observer(graph).map_err(|e| e.to_string())?;
        session.run(&problem.feed).map_err(|e| e.to_string())
    };
    for (prepared, written) in run(&problem.prepared)?.iter().zip(&run(&problem.graph)?) {
        let (Some(a), Some(b)) = (prepared.to_f64(), written.to_f64()) else { continue };
        let gap = |(a, b): (&f64, &f64)| (a - b).abs();
        let largest = b.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        if a.shape() != b.shape() || !a.iter().zip(&b).map(gap).all(|gap| gap <= 2e-6 * largest) {
            return Err("the graph as it is computed gives something else than the graph as it is written".into());
        }
    }
    Ok(())
}

/// The sums over all samples, of gradients or of their absolute values, and warnings.
fn importance(
    problem: &Problem,
    runtime: &Runtime,
    size: usize,
    signed: bool,
) -> Result<(Gradients, Vec<String>), String> {
    let settings = Settings { batch_size: Some(size), signed, ..Default::default() };
    let mut importance =
        Importance::new(runtime, &problem.prepared, &problem.parameters, settings).map_err(|e| e.to_string())?;
    let sums = importance.run(&problem.data()?, |_| {}).map_err(|e| e.to_string())?;
    if sums.count != SAMPLES as u64 {
        return Err(format!("{} samples were counted, not {SAMPLES}", sums.count));
    }
    let sums = sums.weights.into_iter().map(|(name, sum)| (name, sum.into_iter().collect())).collect();
    Ok((sums, importance.warnings().to_vec()))
}

/// The case in float64.
fn double(case: &Case, opset: i64, runtime: &Runtime) -> Result<(), String> {
    let problem = Problem::new(case, opset, DType::F64, runtime)?;
    importance(&problem, runtime, SAMPLES, true).map(|_| ())
}

/// The case in the embedded runtime, in float32, against the reference.
fn tract(case: &Case, opset: i64, onnxruntime: &Runtime, reference: &Gradients) -> Result<(), String> {
    let problem = Problem::new(case, opset, DType::F32, onnxruntime)?;
    let found = importance(&problem, &open(RuntimeChoice::Tract)?, SAMPLES, false)?.0;
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

/// The forward graph as a function of its parameters.
struct Forward {
    session: Box<dyn Session>,
    /// The inputs of each sample.
    samples: Vec<Feed>,
    values: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    dtype: DType,
}

impl Forward {
    fn new(problem: &Problem, runtime: &Runtime, dtype: DType) -> Result<Forward, String> {
        let (graph, parameters) = problem.open();
        let session = runtime.observer(&graph).map_err(|e| e.to_string())?;
        let numbers = |t: &Tensor| t.to_f64().map(|a| a.into_iter().collect()).unwrap_or_default();
        let values = parameters.iter().map(|(n, t)| (n.to_string(), (t.shape().to_vec(), numbers(t)))).collect();
        let samples = (0..SAMPLES).map(|index| sample(&problem.feed, index)).collect();
        let mut forward = Forward { session, samples, values, dtype };
        forward.values.keys().cloned().collect::<Vec<_>>().iter().for_each(|name| forward.set(name, &[]));
        Ok(forward)
    }

    /// Feeds a parameter with numbers added to its first elements.
    fn set(&mut self, name: &str, shift: &[f64]) {
        let (shape, values) = &self.values[name];
        let shifted = values.iter().enumerate().map(|(i, v)| v + shift.get(i).unwrap_or(&0.0)).collect();
        let tensor = floats(self.dtype, shape, shifted);
        self.samples.iter_mut().for_each(|feed| _ = feed.insert(name.to_string(), tensor.clone()));
    }

    /// The sum over the samples, each on its own, of the squares of all outputs.
    fn objective(&mut self) -> Result<f64, String> {
        let mut total = 0.0;
        for feed in &self.samples {
            let outputs = self.session.run(feed).map_err(|e| e.to_string())?;
            total += outputs.iter().filter_map(Tensor::to_f64).flatten().map(|y| y * y).sum::<f64>();
        }
        Ok(total)
    }

    /// The derivative of the objective along a direction.
    fn slope(&mut self, direction: &Gradients, step: f64) -> Result<f64, String> {
        let mut at = |by: f64| {
            for (name, direction) in direction {
                self.set(name, &direction.iter().map(|d| by * step * d).collect::<Vec<_>>());
            }
            self.objective()
        };
        let slope = (8.0 * (at(1.0)? - at(-1.0)?) - (at(2.0)? - at(-2.0)?)) / (12.0 * step);
        direction.keys().for_each(|name| self.set(name, &[]));
        Ok(slope)
    }
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
