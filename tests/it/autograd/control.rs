//! Control flow that is refused, and where weights are found. What is unrolled is checked by the gradient checks.

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

/// A loop that goes on, after each iteration, as `op` of `operands` tells.
fn ending(op: &str, operands: &[&str]) -> Graph {
    let mut graph = repeated(Some(5), "w", "Mul");
    let inner = graph.nodes[0].attributes[0].g.as_mut().unwrap();
    inner.output[0].name = "d".into();
    let mut end = inner.node[0].clone();
    end.op_type = op.into();
    end.input = operands.iter().map(|name| name.to_string()).collect();
    end.output = vec!["d".into()];
    inner.node.push(end);
    graph
}

#[test]
fn conditions_that_depend_on_data_are_refused_by_name() {
    let error = refusal(&ending("Greater", &["v0", "s"]));
    assert_eq!(error, "Loop giving 'l': data or weights may end it early; it cannot be unrolled");
}

/// By its condition alone, with no trip count, and by a trip count that comes before.
#[test]
fn loops_run_as_often_as_their_conditions_tell() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for (limit, end, expected) in [(Some(9), 3i64, 4), (None, 3, 4), (Some(2), 3, 2)] {
        let mut graph = ending("Less", &["i", "last"]);
        graph.constants.insert("last".into(), Arc::new(Tensor::new(&[], vec![end]).unwrap()));
        match limit {
            Some(limit) => _ = graph.constants.insert("m".into(), Arc::new(Tensor::new(&[], vec![limit]).unwrap())),
            None => graph.nodes[0].inputs[0] = None,
        }
        let feed = data(&graph, 2, None).batches(2).next().unwrap().unwrap().inputs;
        let unrolled = specialise(&graph, &parameters(&graph), &feed, 2, &runtime).unwrap().graph;
        let products = unrolled.nodes.iter().filter(|node| node.op == "Mul").count();
        assert_eq!(products, expected + 1, "of the loop, and one behind it");
    }
}

#[test]
fn loops_that_their_conditions_never_end_are_over_the_limit() {
    let mut graph = ending("Less", &["i", "last"]);
    graph.constants.insert("last".into(), Arc::new(Tensor::new(&[], vec![i64::MAX]).unwrap()));
    graph.nodes[0].inputs[0] = None;
    assert_eq!(refusal(&graph), "the loops of the model unrolled give more than 50000 nodes");
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

/// A weight that a loop carries along unchanged is one; the state that changes is none.
#[test]
fn weights_are_found_behind_what_a_loop_carries() {
    let mut graph = repeated(Some(3), "t", "Mul");
    let inner = graph.nodes[0].attributes[0].g.as_mut().unwrap();
    let mut carried = inner.input[2].clone();
    carried.name = "t".into();
    inner.input.push(carried);
    let mut handed = inner.node[0].clone();
    (handed.op_type, handed.input, handed.output) = ("Identity".into(), vec!["t".into()], vec!["u".into()]);
    inner.node.push(handed);
    let mut output = inner.output[1].clone();
    output.name = "u".into();
    inner.output.push(output);
    graph.nodes[0].inputs[2] = Some("start".into());
    graph.nodes[0].inputs.push(Some("w".into()));
    graph.nodes[0].outputs.push(None);
    graph.nodes[1].inputs[1] = Some("x".into());
    graph.constants.insert("start".into(), graph.constants["w"].clone());
    let weight = |name: &str| verdicts(&graph).iter().any(|v| v.name == name && v.weight);
    assert!(weight("w"));
    assert!(!weight("start"));
}

/// A temperature: a weight that is bounded before it is read.
#[test]
fn weights_are_found_behind_their_bounds() {
    let graph = Build::new(DType::F32, &[3])
        .weight("w", &[3])
        .node("Clip", &["w"], "c")
        .node("Exp", &["c"], "e")
        .node("Mul", &["x", "e"], "y")
        .outputs(&["y"]);
    assert!(verdicts(&graph).iter().any(|v| v.name == "w" && v.weight && v.reason == "factor"));
}

/// Constants that others are filled into are masks, whatever reads them.
#[test]
fn masks_made_of_constants_are_no_weights() {
    let graph = Build::new(DType::F32, &[2, 3])
        .weight("zeros", &[2, 3])
        .weight("low", &[1, 3])
        .integers("places", &[0])
        .node("Unsqueeze", &["places", "places"], "rows")
        .node("ScatterND", &["zeros", "rows", "low"], "mask")
        .weight("w", &[2, 3])
        .node("Add", &["x", "mask"], "masked")
        .node("Add", &["masked", "w"], "y")
        .outputs(&["y"]);
    let found = verdicts(&graph);
    let of = |name: &str| found.iter().find(|v| v.name == name).unwrap();
    assert!(of("w").weight, "{found:?}");
    for name in ["zeros", "low"] {
        assert!(!of(name).weight && of(name).reason.contains("ScatterND of constants alone"), "{:?}", of(name));
    }
}
