//! Gradients against differences along random directions.

use crate::forward::Forward;
use crate::judge::WRONG;
use crate::numbers::{Random, Sampler};
use crate::problem::{Gradients, Problem, floats, node};
use onnx_unlearn::session::{Kinds, Runtime};
use onnx_unlearn::tensor::DType;
use std::sync::Arc;

/// How far beside the point of the suite others are tried, where that one lies on a kink.
const BESIDE: [f64; 3] = [0.01, 0.1, 0.5];
/// Directions for each parameter.
const DIRECTIONS: usize = 2;

/// Starts the message that differences scatter around the gradient: the runtime computes less exactly than the type.
pub const UNSETTLED: &str = "unsettled: ";

/// How closely a type can be differentiated.
struct Precision {
    epsilon: f64,
    tolerance: f64,
    /// Steps that are tried, times the size of the parameter.
    steps: [f64; 3],
}

const SINGLE: Precision = Precision { epsilon: 1.2e-7, tolerance: 1e-2, steps: [1.0 / 64.0, 1.0 / 16.0, 1.0 / 256.0] };
const DOUBLE: Precision = Precision { epsilon: 2.2e-16, tolerance: 1e-5, steps: [1e-5, 1e-4, 1e-6] };

/// Whether any gradient is not zero, once gradients agree with differences at the point or one beside it.
///
/// # Errors
/// Why there is no gradient, or, after [`WRONG`], how it differs.
pub fn check(mut problem: Problem, runtime: &Runtime, dtype: DType) -> Result<bool, String> {
    weigh(&mut problem, runtime)?;
    let mut random = Random::named("point");
    let first = match compare(&problem, runtime, dtype) {
        Err(error) if error.starts_with(WRONG) || error.starts_with(UNSETTLED) => error,
        other => return other,
    };
    for by in BESIDE {
        beside(&mut problem, &mut random, by, dtype);
        if let Ok(some) = compare(&problem, runtime, dtype) {
            return Ok(some);
        }
    }
    Err(first)
}

/// Multiplies each output element by element by numbers from 0.5 to 1.5, so that no symmetry hides a gradient.
fn weigh(problem: &mut Problem, runtime: &Runtime) -> Result<(), String> {
    let graph = &mut problem.graph;
    let values = runtime.session(graph, &Kinds::new()).and_then(|mut session| session.run(&problem.feed));
    let values = values.map_err(|e| e.to_string())?;
    let mut random = Random::named("weights");
    for (output, value) in graph.outputs.iter_mut().zip(values) {
        let numbers = random.draw(Sampler::Uniform(0.5, 1.5), value.len());
        let (weight, weighed) = (format!("{output}_weight"), format!("{output}_weighed"));
        graph.constants.insert(weight.as_str().into(), Arc::new(floats(value.dtype(), value.shape(), numbers)));
        graph.nodes.push(node("Mul", &[output, &weight], &weighed));
        *output = weighed.as_str().into();
    }
    Ok(())
}

/// Moves the parameters by up to a share of their size; what is not finite becomes so.
fn beside(problem: &mut Problem, random: &mut Random, share: f64, dtype: DType) {
    for name in &problem.parameters {
        let Some(tensor) = problem.graph.constants.get_mut(name) else { continue };
        let values: Vec<f64> = tensor.to_f64().into_iter().flatten().collect();
        let by = share * size(&values);
        let mut moved = |v: f64| match (v.is_finite(), v + random.uniform(-by, by)) {
            (false, _) => 1.0,
            // What is not negative stays so: a function may be defined there alone.
            (true, moved) => {
                if v < 0.0 {
                    moved
                } else {
                    moved.abs()
                }
            }
        };
        let moved = values.iter().map(|&v| moved(v)).collect();
        *tensor = Arc::new(floats(dtype, tensor.shape(), moved));
    }
}

/// The largest finite number, at least a hundredth.
fn size(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.01, |max: f64, v| max.max(v.abs()))
}

fn compare(problem: &Problem, runtime: &Runtime, dtype: DType) -> Result<bool, String> {
    let precision = if dtype == DType::F64 { DOUBLE } else { SINGLE };
    let analytic = match problem.importance(runtime, 1, true) {
        Ok((gradients, _)) => gradients,
        Err(error) if error.contains("finite") => return Err(format!("{WRONG}{error}")),
        Err(error) => return Err(error),
    };
    let mut forward = Forward::new(problem, runtime, dtype)?;
    let objective = forward.objective()?;
    let mut random = Random::named("direction");
    for (name, (_, values)) in forward.values.clone() {
        let none = vec![0.0; values.len()];
        let gradient = analytic.get(&name).unwrap_or(&none);
        for _ in 0..DIRECTIONS {
            let size = size(&values);
            let direction = random.draw(Sampler::Uniform(-size, size), values.len());
            let terms = || direction.iter().zip(gradient).map(|(d, g)| d * g);
            let (projected, scale): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
            let direction = Gradients::from([(name.clone(), direction)]);
            let mut found = Vec::new();
            for step in precision.steps {
                let slope = forward.slope(&direction, step)?;
                let allowed = precision.tolerance * scale + 8.0 * precision.epsilon * objective / step;
                found.push(slope);
                if (projected - slope).abs() <= allowed {
                    found.clear();
                    break;
                }
            }
            let (low, high) = found.iter().fold((f64::MAX, f64::MIN), |(low, high), &s| (low.min(s), high.max(s)));
            if !found.is_empty() {
                let spread = high - low;
                let scattered = low - spread <= projected && projected <= high + spread;
                let kind = if scattered { UNSETTLED } else { WRONG };
                return Err(format!("{kind}'{name}' along a direction: {projected:.5}, by differences {found:.5?}"));
            }
        }
    }
    let mut all = analytic.values().flatten();
    Ok(all.any(|g| *g != 0.0))
}
