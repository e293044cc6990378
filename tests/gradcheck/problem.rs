//! A graph with parameters and data, and its gradients as the product computes them.

use onnx_unlearn::data::{DataSet, InputSpec};
use onnx_unlearn::graph::{Graph, Input, Name, Node};
use onnx_unlearn::importance::{Importance, Settings};
use onnx_unlearn::session::{DeviceChoice, Feed, Runtime, RuntimeChoice, RuntimeOptions};
use onnx_unlearn::tensor::{DType, Tensor};
use onnx_unlearn::with_array;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A number for each element of each parameter, by the parameter's name.
pub type Gradients = BTreeMap<String, Vec<f64>>;

/// What is differentiated: the sum over the samples of `feed` of the squares of all outputs.
pub struct Problem {
    /// As the case writes it.
    pub graph: Graph,
    pub parameters: BTreeSet<Name>,
    pub feed: Feed,
}

impl Problem {
    pub fn data(&self) -> Result<DataSet, String> {
        let spec = |i: &Input| InputSpec { name: i.name.to_string(), dtype: i.dtype, shape: i.shape.clone() };
        let specs: Vec<InputSpec> = self.graph.inputs.iter().map(spec).collect();
        DataSet::from_arrays(self.feed.clone(), None, &specs).map_err(|e| e.to_string())
    }

    /// The forward graph with the parameters as inputs, and their values.
    pub fn open(&self) -> (Graph, BTreeMap<Name, Arc<Tensor>>) {
        let mut graph = self.graph.clone();
        let mut values = BTreeMap::new();
        for name in &self.parameters {
            let Some(tensor) = graph.constants.remove(name) else { continue };
            let shape = tensor.shape().iter().map(|&d| Some(d)).collect();
            graph.inputs.push(Input { name: name.clone(), dtype: tensor.dtype(), shape });
            values.insert(name.clone(), tensor);
        }
        (graph, values)
    }

    /// The graph as it is computed.
    pub fn prepared(&self) -> Result<Graph, String> {
        let mut graph = self.graph.clone();
        graph.prepare().map_err(|e| e.to_string())?;
        Ok(graph)
    }

    /// Number of samples in the data.
    pub fn samples(&self) -> usize {
        self.feed.values().next().map_or(0, |tensor| tensor.shape()[0])
    }

    /// The sums over all samples, of gradients or of their absolute values, and warnings.
    pub fn importance(&self, runtime: &Runtime, size: usize, signed: bool) -> Result<(Gradients, Vec<String>), String> {
        self.computed(runtime, Settings { batch_size: Some(size), signed, ..Default::default() })
    }

    /// The sums over all samples as the settings have them, and warnings.
    pub fn computed(&self, runtime: &Runtime, settings: Settings) -> Result<(Gradients, Vec<String>), String> {
        let graph = self.prepared()?;
        let mut importance = Importance::new(runtime, &graph, &self.parameters, settings).map_err(|e| e.to_string())?;
        let sums = importance.run(&self.data()?, |_| {}).map_err(|e| e.to_string())?;
        if sums.count != self.samples() as u64 {
            return Err(format!("{} samples were counted, not {}", sums.count, self.samples()));
        }
        let sums = sums.weights.into_iter().map(|(name, sum)| (name, sum.into_iter().collect())).collect();
        Ok((sums, importance.warnings().to_vec()))
    }
}

pub fn open(runtime: RuntimeChoice) -> Result<Runtime, String> {
    let options = RuntimeOptions { runtime, device: DeviceChoice::Cpu, threads: 1, ..RuntimeOptions::default() };
    Runtime::open(options).map_err(|e| e.to_string())
}

/// A floating-point tensor from numbers.
pub fn floats(dtype: DType, shape: &[usize], values: Vec<f64>) -> Tensor {
    let tensor = match dtype {
        DType::F64 => Tensor::new(shape, values),
        _ => Tensor::new(shape, values.into_iter().map(|v| v as f32).collect()),
    };
    tensor.expect("as many values as the shape has elements")
}

/// A node of the default domain with one output.
pub fn node(op: &str, inputs: &[&str], output: &str) -> Node {
    let inputs = inputs.iter().map(|&i| Some(i.into())).collect();
    let outputs = vec![Some(output.into())];
    Node { name: String::new(), domain: String::new(), op: op.into(), inputs, outputs, attributes: vec![] }
}

/// The inputs of one sample, as a batch of one.
pub fn sample(feed: &Feed, index: usize) -> Feed {
    rows(feed, &[index])
}

/// The inputs of some samples.
pub fn rows(feed: &Feed, rows: &[usize]) -> Feed {
    let pick = |t: &Tensor| with_array!(t, a => Tensor::from(a.select(ndarray::Axis(0), rows)));
    feed.iter().map(|(name, tensor)| (name.clone(), pick(tensor))).collect()
}
