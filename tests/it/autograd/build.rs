//! Small graphs, their data and their importance.

use onnx_protobuf::AttributeProto;
use onnx_unlearn::autograd::Reduction;
use onnx_unlearn::data::{DataSet, InputSpec};
use onnx_unlearn::graph::{Graph, Input, Name, Node, attribute};
use onnx_unlearn::importance::{Importance, Settings, Sums};
use onnx_unlearn::session::{DeviceChoice, Feed, Runtime, RuntimeChoice, RuntimeOptions};
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub fn runtime(choice: RuntimeChoice) -> Runtime {
    let options =
        RuntimeOptions { runtime: choice, device: DeviceChoice::Cpu, threads: 1, ..RuntimeOptions::default() };
    Runtime::open(options).unwrap()
}

/// Numbers between -1 and 1 that are the same at every run.
pub fn numbers(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * i * 37 + i * 11 + seed * 101) as f64 * 0.731).sin());
    match dtype {
        DType::F64 => Tensor::new(shape, values.collect::<Vec<f64>>()),
        DType::F16 => Tensor::new(shape, values.map(half::f16::from_f64).collect()),
        DType::BF16 => Tensor::new(shape, values.map(half::bf16::from_f64).collect()),
        _ => Tensor::new(shape, values.map(|v| v as f32).collect()),
    }
    .unwrap()
}

/// A graph in the making, with one input `x` of shape `[batch, shape…]`.
pub struct Build(Graph, DType);

impl Build {
    pub fn new(dtype: DType, shape: &[usize]) -> Build {
        let shape = std::iter::once(None).chain(shape.iter().map(|&d| Some(d))).collect();
        let opsets = BTreeMap::from([(String::new(), 17)]);
        let inputs = vec![Input { name: "x".into(), dtype, shape }];
        let graph = Graph { nodes: vec![], constants: BTreeMap::new(), inputs, outputs: vec![], opsets, ir_version: 8 };
        Build(graph, dtype)
    }

    pub fn weight(mut self, name: &str, shape: &[usize]) -> Build {
        let tensor = numbers(self.1, shape, name.len() + shape.len());
        self.0.constants.insert(name.into(), Arc::new(tensor));
        self
    }

    pub fn integers(mut self, name: &str, values: &[i64]) -> Build {
        let tensor = Tensor::new(&[values.len()], values.to_vec()).unwrap();
        self.0.constants.insert(name.into(), Arc::new(tensor));
        self
    }

    pub fn node(mut self, op: &str, inputs: &[&str], output: &str) -> Build {
        let (inputs, outputs) = (inputs.iter().map(|&i| Some(i.into())).collect(), vec![Some(output.into())]);
        let (name, domain, attributes) = (String::new(), String::new(), vec![]);
        self.0.nodes.push(Node { name, domain, op: op.into(), inputs, outputs, attributes });
        self
    }

    /// Adds an attribute to the last node.
    pub fn with(mut self, attribute: AttributeProto) -> Build {
        self.0.nodes.last_mut().unwrap().attributes.push(attribute);
        self
    }

    pub fn outputs(mut self, names: &[&str]) -> Graph {
        self.0.outputs = names.iter().map(|&n| n.into()).collect();
        self.0
    }
}

/// The floating-point constants.
pub fn parameters(graph: &Graph) -> BTreeSet<Name> {
    graph.constants.iter().filter(|(_, t)| t.dtype().is_float()).map(|(n, _)| n.clone()).collect()
}

pub fn data(graph: &Graph, samples: usize, labels: Option<Vec<i64>>) -> DataSet {
    let input = &graph.inputs[0];
    let mut shape: Vec<usize> = input.shape.iter().map(|d| d.unwrap_or(samples)).collect();
    shape[0] = samples;
    let feed = Feed::from([(input.name.to_string(), numbers(input.dtype, &shape, 5))]);
    let spec = InputSpec { name: input.name.to_string(), dtype: input.dtype, shape: input.shape.clone() };
    DataSet::from_arrays(feed, labels, &[spec]).unwrap()
}

pub fn importance(graph: &Graph, runtime: &Runtime, settings: &Settings, data: &DataSet) -> (Sums, Vec<String>) {
    let parameters = parameters(graph);
    let mut importance = Importance::new(runtime, graph, &parameters, settings.clone()).unwrap();
    let sums = importance.run(data, |_| {}).unwrap();
    (sums, importance.warnings().to_vec())
}

pub fn settings(reduction: Reduction, batch_size: usize) -> Settings {
    Settings { reduction, batch_size: Some(batch_size), ..Default::default() }
}

#[track_caller]
pub fn assert_close(a: &Sums, b: &Sums, tolerance: f64) {
    assert_eq!((a.count, a.weights.len()), (b.count, b.weights.len()));
    for (name, a) in &a.weights {
        let scale = a.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
        assert!(scale > 0.0, "'{name}' has no importance");
        for (index, (a, b)) in a.iter().zip(&b.weights[name]).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "'{name}' element {index}: {a} and {b}, largest {scale}");
        }
    }
}

/// Two layers on rows.
pub fn perceptron(dtype: DType) -> Graph {
    Build::new(dtype, &[5])
        .weight("w1", &[5, 6])
        .weight("b1", &[6])
        .weight("w2", &[6, 4])
        .node("Gemm", &["x", "w1", "b1"], "h")
        .node("Tanh", &["h"], "t")
        .node("MatMul", &["t", "w2"], "y")
        .outputs(&["y"])
}

/// Convolution, normalisation over channels, pooling and a linear layer.
pub fn network(dtype: DType) -> Graph {
    Build::new(dtype, &[2, 6, 6])
        .weight("kernel", &[4, 2, 3, 3])
        .weight("bias", &[4])
        .weight("head", &[4, 3])
        .node("Conv", &["x", "kernel", "bias"], "c")
        .with(attribute("strides", vec![1i64, 2]))
        .with(attribute("pads", vec![1i64, 0, 1, 1]))
        .node("Relu", &["c"], "r")
        .node("GlobalAveragePool", &["r"], "g")
        .node("Flatten", &["g"], "f")
        .node("MatMul", &["f", "head"], "y")
        .outputs(&["y"])
}

/// Attention over the tokens of a sample.
pub fn attention(dtype: DType) -> Graph {
    Build::new(dtype, &[4, 3])
        .weight("scale", &[3])
        .weight("shift", &[3])
        .weight("q", &[3, 3])
        .weight("k", &[3, 3])
        .weight("v", &[3, 2])
        .node("LayerNormalization", &["x", "scale", "shift"], "n")
        .node("MatMul", &["n", "q"], "qs")
        .node("MatMul", &["n", "k"], "ks")
        .node("MatMul", &["n", "v"], "vs")
        .node("Transpose", &["ks"], "kt")
        .with(attribute("perm", vec![0i64, 2, 1]))
        .node("MatMul", &["qs", "kt"], "s")
        .node("Softmax", &["s"], "p")
        .node("MatMul", &["p", "vs"], "o")
        .node("ReduceMean", &["o"], "y")
        .with(attribute("axes", vec![1i64]))
        .with(attribute("keepdims", 0i64))
        .outputs(&["y"])
}
