//! Control flow that is refused, and weights within bodies. What is unrolled is checked by the gradient checks.

use super::build::*;
use onnx_protobuf::{GraphProto, TypeProto, ValueInfoProto, type_proto};
use onnx_unlearn::autograd::check_rules;
use onnx_unlearn::autograd::roles::verdicts;
use onnx_unlearn::graph::{Graph, attribute, to_model_proto};
use onnx_unlearn::session::RuntimeChoice;
use onnx_unlearn::specialise::specialise;
use onnx_unlearn::tensor::{DType, Tensor};
use std::sync::Arc;

/// A body of nodes of one operator after another, starting from `first`.
fn body(inputs: &[(&str, i32)], first: &str, nodes: &[(&str, &str)], outputs: &[&str]) -> GraphProto {
    let mut build = Build::new(DType::F32, &[]);
    for (i, (op, operand)) in nodes.iter().enumerate() {
        let before = if i == 0 { first.to_string() } else { format!("v{}", i - 1) };
        let operands: Vec<&str> = [before.as_str(), operand].into_iter().filter(|name| !name.is_empty()).collect();
        build = build.node(op, &operands, &format!("v{i}"));
    }
    let mut proto = to_model_proto(&build.outputs(outputs), |_| None).graph.unwrap();
    let value = |&(name, elem_type): &(&str, i32)| {
        let shape = (elem_type != 1).then(Default::default).into();
        let tensor = type_proto::Tensor { elem_type, shape, ..Default::default() };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: name.into(), type_: Some(kind).into(), ..Default::default() }
    };
    proto.input = inputs.iter().map(value).collect();
    proto
}

/// `y` is `x` multiplied by `factor` as often as `m` says, or for ever.
fn repeated(trips: Option<i64>, factor: &str, op: &str) -> Graph {
    let step = body(&[("i", 7), ("c", 9), ("s", 1)], "s", &[(op, factor)], &["c", "v0"]);
    let mut graph = Build::new(DType::F32, &[3])
        .weight("w", &[3])
        .node("Loop", &["m", "on", "x"], "l")
        .with(attribute("body", step))
        .node("Mul", &["l", "w"], "y")
        .outputs(&["y"]);
    graph.constants.insert("on".into(), Arc::new(Tensor::new(&[], vec![true]).unwrap()));
    match trips {
        Some(trips) => _ = graph.constants.insert("m".into(), Arc::new(Tensor::new(&[], vec![trips]).unwrap())),
        None => graph.nodes[0].inputs[0] = None,
    }
    graph
}

/// Why a graph cannot be specialised.
fn refusal(graph: &Graph) -> String {
    let feed = data(graph, 2, None).batches(2).next().unwrap().unwrap().inputs;
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    specialise(graph, &parameters(graph), &feed, 2, &runtime).unwrap_err().to_string()
}

#[test]
fn loops_that_may_not_end_are_refused_before_they_run() {
    let without_end = "a loop in it may not end";
    for (graph, reason) in [
        (repeated(None, "w", "Mul"), "it has no trip count"),
        (repeated(None, "x", "Mul"), without_end),
        (repeated(Some(i64::MAX), "x", "Mul"), without_end),
    ] {
        assert_eq!(refusal(&graph), format!("Loop giving 'l': {reason}; it cannot be unrolled"));
    }
}

#[test]
fn the_limit_of_unrolling_is_named() {
    let error = refusal(&repeated(Some(1 << 40), "w", "Mul"));
    assert_eq!(error, "the loops of the model unrolled give more than 50000 nodes");
}

#[test]
fn conditions_that_depend_on_data_are_refused_by_name() {
    let mut graph = repeated(Some(3), "w", "Mul");
    graph.nodes[0].attributes[0].g.as_mut().unwrap().output[0].name = "d".into();
    let mut not = graph.nodes[0].attributes[0].g.node[0].clone();
    (not.op_type, not.input, not.output) = ("Not".into(), vec!["c".into()], vec!["d".into()]);
    graph.nodes[0].attributes[0].g.as_mut().unwrap().node.push(not);
    assert_eq!(refusal(&graph), "Loop giving 'l': its condition may end it early; it cannot be unrolled");
}

#[test]
fn branches_of_different_shapes_need_a_known_condition() {
    let graph = Build::new(DType::F32, &[3])
        .weight("w", &[3])
        .node("ReduceMax", &["x"], "s")
        .node("Greater", &["s", "s"], "c")
        .node("If", &["c"], "y")
        .with(attribute("then_branch", body(&[], "x", &[("Mul", "w")], &["v0"])))
        .with(attribute("else_branch", body(&[], "x", &[("Mul", "w"), ("ReduceMax", "")], &["v1"])))
        .outputs(&["y"]);
    let reason = "its branches give values of different shapes and data tells which is taken";
    assert_eq!(refusal(&graph), format!("If giving 'y': {reason}; it cannot be unrolled"));
}

#[test]
fn bodies_are_searched_for_weights_and_missing_rules() {
    let graph = repeated(Some(3), "w", "Col2Im");
    assert!(verdicts(&graph).iter().any(|v| v.name == "w" && v.weight));
    let error = check_rules(&graph, &parameters(&graph)).unwrap_err().to_string();
    assert_eq!(error, "no gradient rule for: Col2Im (1 node)");
}
