//! The forward graph and its differences.

use crate::problem::{Gradients, Problem, floats, sample};
use onnx_unlearn::session::{Feed, Runtime, Session};
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::BTreeMap;

/// The forward graph as a function of its parameters.
pub struct Forward {
    session: Box<dyn Session>,
    /// The inputs of each sample.
    samples: Vec<Feed>,
    pub values: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    dtype: DType,
}

impl Forward {
    pub fn new(problem: &Problem, runtime: &Runtime, dtype: DType) -> Result<Forward, String> {
        let (graph, parameters) = problem.open();
        let session = runtime.observer(&graph).map_err(|e| e.to_string())?;
        let numbers = |t: &Tensor| t.to_f64().map(|a| a.into_iter().collect()).unwrap_or_default();
        let values = parameters.iter().map(|(n, t)| (n.to_string(), (t.shape().to_vec(), numbers(t)))).collect();
        let samples = (0..problem.samples()).map(|index| sample(&problem.feed, index)).collect();
        let mut forward = Forward { session, samples, values, dtype };
        forward.values.keys().cloned().collect::<Vec<_>>().iter().for_each(|name| forward.set(name, &[]));
        Ok(forward)
    }

    /// Feeds a parameter with numbers added to its first elements.
    pub fn set(&mut self, name: &str, shift: &[f64]) {
        let (shape, values) = &self.values[name];
        let shifted = values.iter().enumerate().map(|(i, v)| v + shift.get(i).unwrap_or(&0.0)).collect();
        let tensor = floats(self.dtype, shape, shifted);
        self.samples.iter_mut().for_each(|feed| _ = feed.insert(name.to_string(), tensor.clone()));
    }

    /// The sum over the samples, each on its own, of the squares of all outputs.
    pub fn objective(&mut self) -> Result<f64, String> {
        let mut total = 0.0;
        for feed in &self.samples {
            let outputs = self.session.run(feed).map_err(|e| e.to_string())?;
            total += outputs.iter().filter_map(Tensor::to_f64).flatten().map(|y| y * y).sum::<f64>();
        }
        Ok(total)
    }

    /// The derivative of the objective along a direction.
    pub fn slope(&mut self, direction: &Gradients, step: f64) -> Result<f64, String> {
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
