//! The graph that computes against the graph that the model holds.

#[path = "../gradcheck/parse.rs"]
pub mod parse;

mod forms;
mod older;
mod sequences;

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use onnx_unlearn::graph::{Graph, Input, Name};
use onnx_unlearn::session::{DeviceChoice, Feed, Runtime, RuntimeChoice, RuntimeOptions};
use onnx_unlearn::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A graph of nodes in text that gives `y`, with inputs fed by `feed`.
fn graph(opset: i64, nodes: &str, feed: &Feed) -> Graph {
    let input = |(name, tensor): (&String, &Tensor)| Input {
        name: name.as_str().into(),
        dtype: tensor.dtype(),
        shape: tensor.shape().iter().map(|&d| Some(d)).collect(),
    };
    Graph {
        nodes: parse::nodes(nodes),
        constants: BTreeMap::new(),
        inputs: feed.iter().map(input).collect(),
        outputs: vec!["y".into()],
        opsets: BTreeMap::from([(String::new(), opset), ("ai.onnx.ml".into(), 1)]),
        ir_version: 8,
    }
}

/// Adds a constant to a graph.
fn give(mut graph: Graph, name: &str, tensor: Tensor) -> Graph {
    graph.constants.insert(name.into(), Arc::new(tensor));
    graph
}

/// A branch of an If: one node in text, and its initializers.
fn branch(name: &str, node: &str, initializer: Vec<TensorProto>) -> AttributeProto {
    let node = &parse::nodes(node)[0];
    let names = |list: &[Option<Name>]| list.iter().flatten().map(|name| name.to_string()).collect::<Vec<_>>();
    let (op_type, input, output) = (node.op.clone(), names(&node.inputs), names(&node.outputs));
    let returned = ValueInfoProto { name: output[0].clone(), ..Default::default() };
    let node = NodeProto { op_type, input, output, attribute: node.attributes.clone(), ..Default::default() };
    let (node, output) = (vec![node], vec![returned]);
    let graph = GraphProto { name: name.into(), node, initializer, output, ..Default::default() };
    AttributeProto {
        name: name.into(),
        type_: AttributeType::GRAPH.into(),
        g: Some(graph).into(),
        ..Default::default()
    }
}

/// Numbers between -1 and 1.
fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|i| (i as f32 * 1.7).sin()).collect()).unwrap()
}

fn feed(inputs: &[(&str, Tensor)]) -> Feed {
    inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
}

fn run(graph: &Graph, feed: &Feed) -> Vec<Tensor> {
    let (runtime, device) = (RuntimeChoice::OnnxRuntime, DeviceChoice::Cpu);
    let runtime = Runtime::open(RuntimeOptions { runtime, device, threads: 1, ..RuntimeOptions::default() }).unwrap();
    runtime.observer(graph).unwrap().run(feed).unwrap()
}

fn prepared(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    graph.prepare().unwrap();
    graph
}

/// The outputs of two graphs are the same up to rounding.
#[track_caller]
fn assert_same(a: &Graph, b: &Graph, feed: &Feed) {
    for (a, b) in run(a, feed).iter().zip(&run(b, feed)) {
        assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()));
        match (a.to_f64(), b.to_f64()) {
            (Some(a), Some(b)) => {
                let largest = b.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * largest), "{a}\n{b}");
            }
            _ => assert_eq!(a, b),
        }
    }
}

/// Preparing changes the form of a graph, not what it gives; a prepared graph stays as it is.
#[track_caller]
fn assert_prepared_same(graph: &Graph, feed: &Feed) -> Graph {
    let prepared = prepared(graph);
    assert_same(&prepared, graph, feed);
    let mut again = prepared.clone();
    again.prepare().unwrap();
    assert_eq!((again.nodes.len(), again.constants.len()), (prepared.nodes.len(), prepared.constants.len()));
    prepared
}

#[track_caller]
fn assert_refused(graph: &Graph, part: &str) {
    let error = graph.clone().prepare().unwrap_err();
    assert_eq!(error.kind(), onnx_unlearn::error::Kind::Unsupported);
    assert!(error.to_string().contains(part), "{error}");
}
