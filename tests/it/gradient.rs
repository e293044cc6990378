//! Gradient graphs: against the signed sums of the importance engine and against differences, at batch sizes that
//! they were not made from, in both runtimes.

use crate::autograd::build::{Build, attention, data, network, numbers, parameters, perceptron, runtime};
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::autograd::{Reduction, Seed};
use onnx_unlearn::data::DataSet;
use onnx_unlearn::gradient::{GradientError, GradientGraph, Shapes, gradient_graph, probe};
use onnx_unlearn::graph::{Graph, Input, Name, attribute};
use onnx_unlearn::importance::{Importance, Settings};
use onnx_unlearn::model::{Limits, Model};
use onnx_unlearn::session::{Feed, Kinds, Runtime, RuntimeChoice};
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

const SQUARE: Seed = Seed::Mean(Objective::SquaredL2);

fn made(graph: &Graph, wrt: &[Name], seed: Seed, runtime: &Runtime) -> Result<GradientGraph, GradientError> {
    gradient_graph(graph, wrt, seed, &|batch| probe(graph, batch, &Shapes::new()), runtime)
}

fn all(graph: &Graph) -> Vec<Name> {
    parameters(graph).into_iter().collect()
}

/// The outputs by name, with the inputs fixed to the shapes of the feed.
fn run(graph: &Graph, feed: &Feed, runtime: &Runtime) -> BTreeMap<String, Tensor> {
    let mut fixed = graph.clone();
    for input in &mut fixed.inputs {
        input.shape = feed[&*input.name].shape().iter().map(|&d| Some(d)).collect();
    }
    let values = runtime.session(&fixed, &Kinds::new()).unwrap().run(feed).unwrap();
    graph.outputs.iter().map(|n| n.to_string()).zip(values).collect()
}

fn feed(set: &DataSet) -> Feed {
    set.batches(set.len()).next().unwrap().unwrap().inputs
}

fn assert_near(found: &Tensor, expected: impl Iterator<Item = f64>, tolerance: f64, what: &str) {
    let (found, expected): (Vec<f64>, Vec<f64>) = (found.to_f64().unwrap().into_iter().collect(), expected.collect());
    let largest = expected.iter().fold(0.0, |max: f64, e| max.max(e.abs()));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() <= tolerance * largest, "{what}: {f}, expected {e} (largest {largest})");
    }
}

/// The gradients of the graph are those of the importance engine: its signed sums over one batch.
fn check(graph: &Graph, set: &DataSet, wrt: &[Name], objective: Objective, runtime: &Runtime, tolerance: f64) {
    let open = made(graph, wrt, Seed::Mean(objective), runtime).unwrap();
    assert_eq!(open.fixed, None);
    for samples in [1, 2, 7] {
        let set = set.select(&(0..samples).collect::<Vec<_>>()).unwrap();
        let found = run(&open.graph, &feed(&set), runtime);
        let settings = Settings {
            objective,
            reduction: Reduction::Batch,
            batch_size: Some(samples),
            signed: true,
            ..Default::default()
        };
        let parameters = wrt.iter().cloned().collect();
        let sums = Importance::new(runtime, graph, &parameters, settings).unwrap().run(&set, |_| ()).unwrap();
        for (name, expected) in &sums.weights {
            assert_near(&found[&format!("{name}.grad")], expected.iter().copied(), tolerance, name);
        }
        assert!(!sums.weights.is_empty());
        let own = run(graph, &feed(&set), runtime);
        for (name, expected) in own {
            assert_near(&found[&name], expected.to_f64().unwrap().into_iter(), tolerance, &name);
        }
    }
}

#[test]
fn gradients_are_those_of_the_importance_engine() {
    for (choice, dtype, tolerance) in
        [(RuntimeChoice::OnnxRuntime, DType::F64, 1e-6), (RuntimeChoice::Tract, DType::F32, 1e-4)]
    {
        let runtime = runtime(choice);
        for graph in [perceptron(dtype), attention(dtype)] {
            let set = data(&graph, 7, None);
            for objective in [Objective::SquaredL2, Objective::L2] {
                check(&graph, &set, &all(&graph), objective, &runtime, tolerance);
            }
        }
        let graph = network(DType::F32);
        check(&graph, &data(&graph, 7, None), &all(&graph), Objective::L2, &runtime, 1e-4);
    }
}

#[test]
fn trained_models_keep_their_batch_open() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for name in ["resnet18_dynamo", "resnet18_torchscript_folded", "vit_dynamo", "vit_torchscript"] {
        let graph = trained(name);
        check(&graph, &data(&graph, 7, None), &weights(&graph), Objective::SquaredL2, &runtime, 1e-4);
    }
}

/// At most four nodes backward for each one forward.
#[test]
fn backward_passes_are_small() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for name in ["resnet18_dynamo", "resnet18_torchscript", "resnet18_dynamo_folded", "vit_dynamo", "vit_torchscript"] {
        let graph = trained(name);
        let open = made(&graph, &weights(&graph), SQUARE, &runtime).unwrap();
        let (all, forward) = (open.graph.nodes.len(), open.forward_nodes());
        assert!(all - forward <= 4 * forward, "{name}: {forward} nodes forward, {} backward", all - forward);
    }
}

/// What training fits: no running statistics, nor numbers that scale the whole, whose gradients cancel out.
fn weights(graph: &Graph) -> Vec<Name> {
    let weight = |name: &Name| graph.constants[name].len() > 1 && !name.contains("running_");
    all(graph).into_iter().filter(weight).collect()
}

fn trained(name: &str) -> Graph {
    let path = format!("{}/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    Graph::new(&Model::read(Path::new(&path), &Limits::default()).unwrap()).unwrap()
}

/// A vector-Jacobian product with the gradient of an objective is the gradient of the objective.
#[test]
fn a_seed_input_takes_the_gradient_of_any_objective() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = perceptron(DType::F64);
    let mut feed = feed(&data(&graph, 2, None));
    let expected = run(&made(&graph, &all(&graph), SQUARE, &runtime).unwrap().graph, &feed, &runtime);
    let product = made(&graph, &all(&graph), Seed::Input, &runtime).unwrap();
    for (name, value) in run(&graph, &feed, &runtime) {
        let seed = value.to_f64().unwrap().mapv(|y| 2.0 * y / 2.0);
        feed.insert(format!("{name}.seed"), Tensor::F64(seed));
    }
    let found = run(&product.graph, &feed, &runtime);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        assert_near(&found[&name], expected.to_f64().unwrap().into_iter(), 1e-9, &name);
    }
}

#[test]
fn gradients_of_inputs_are_differences() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = perceptron(DType::F64);
    let input = graph.inputs[0].name.clone();
    let open = made(&graph, std::slice::from_ref(&input), SQUARE, &runtime).unwrap();
    let feed = feed(&data(&graph, 2, None));
    let found = &run(&open.graph, &feed, &runtime)[&format!("{input}.grad")];
    let values = feed[&*input].to_f64().unwrap();
    let step = 1e-5;
    let objective = |index: usize, by: f64| -> f64 {
        let mut moved = values.clone();
        moved.as_slice_mut().unwrap()[index] += by;
        let feed = Feed::from([(input.to_string(), Tensor::F64(moved))]);
        run(&graph, &feed, &runtime).values().flat_map(|y| y.to_f64().unwrap()).map(|y| y * y).sum::<f64>() / 2.0
    };
    let differences = (0..values.len()).map(|i| (objective(i, step) - objective(i, -step)) / (2.0 * step));
    assert_near(found, differences, 1e-6, "input");
}

/// A batch that the model fixes stays; where inputs share no first axis, everything is one sample.
#[test]
fn a_fixed_batch_stays_fixed() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let mut graph = perceptron(DType::F64);
    graph.inputs[0].shape[0] = Some(2);
    let fixed = made(&graph, &all(&graph), SQUARE, &runtime).unwrap();
    assert_eq!(fixed.fixed.map(|(size, _)| size), Some(2));
    let mut two = Build::new(DType::F64, &[3])
        .weight("w", &[3, 2])
        .node("MatMul", &["x", "w"], "a")
        .node("Mul", &["a", "scale"], "y")
        .outputs(&["y"]);
    two.inputs.push(Input { name: "scale".into(), dtype: DType::F64, shape: vec![] });
    two.inputs[0].shape[0] = Some(4);
    let whole = made(&two, &all(&two), SQUARE, &runtime).unwrap();
    assert_eq!(whole.fixed.as_ref().map(|(size, _)| *size), Some(1));
    let feed = Feed::from([
        ("x".to_string(), numbers(DType::F64, &[4, 3], 1)),
        ("scale".to_string(), Tensor::new(&[], vec![0.5]).unwrap()),
    ]);
    let found = run(&whole.graph, &feed, &runtime);
    let y = found["y"].to_f64().unwrap();
    let x = feed["x"].to_f64().unwrap();
    let expected = (0..6).map(|i| (0..4).map(|r| x[[r, i / 2]] * y[[r, i % 2]]).sum::<f64>());
    assert_near(&found["w.grad"], expected, 1e-9, "w");
}

/// A model that mixes its samples has a gradient all the same: that of the mean over the batch, for every batch size.
#[test]
fn samples_may_be_mixed() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F64, &[3])
        .weight("w", &[3])
        .integers("axis", &[0])
        .node("Mul", &["x", "w"], "a")
        .node("CumSum", &["a", "axis"], "y")
        .outputs(&["y"]);
    check(&graph, &data(&graph, 7, None), &all(&graph), Objective::SquaredL2, &runtime, 1e-6);
}

/// What no output depends on has a gradient of zeros; outputs that are inputs or constants are still given.
#[test]
fn every_output_that_was_promised_is_there() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[3])
        .weight("w", &[3, 2])
        .weight("idle", &[2, 2])
        .node("MatMul", &["x", "w"], "y")
        .node("Floor", &["idle"], "z")
        .outputs(&["y", "w", "z"]);
    let open = made(&graph, &all(&graph), SQUARE, &runtime).unwrap();
    let feed = feed(&data(&graph, 3, None));
    let found = run(&open.graph, &feed, &runtime);
    assert_eq!(found["idle.grad"], Tensor::new(&[2, 2], vec![0f32; 4]).unwrap());
    assert_eq!(&found["w"], &*graph.constants["w"]);
    assert!(found["w.grad"].to_f64().unwrap().iter().all(|g| *g != 0.0));
}

#[test]
fn names_that_are_taken_are_refused() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[3]).weight("w", &[3]).node("Mul", &["x", "w"], "w.grad").outputs(&["w.grad"]);
    let error = made(&graph, &all(&graph), SQUARE, &runtime).unwrap_err();
    assert_eq!(error.to_string(), "the model already has a value named 'w.grad'; rename it");
}

/// Convolutions in groups, strided, and a table of embeddings: every way of writing a weight's gradient as nodes.
#[test]
fn every_contraction_has_a_form_in_nodes() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[4, 7, 7])
        .weight("k", &[6, 2, 3, 3])
        .weight("b", &[6])
        .weight("t", &[6, 5])
        .node("Conv", &["x", "k", "b"], "c")
        .with(attribute("group", 2))
        .with(attribute("strides", vec![2i64, 2]))
        .node("ReduceMean", &["c"], "m")
        .with(attribute("axes", vec![2i64, 3]))
        .with(attribute("keepdims", 0))
        .node("ArgMax", &["m"], "i")
        .with(attribute("axis", 1))
        .with(attribute("keepdims", 0))
        .node("Gather", &["t", "i"], "e")
        .outputs(&["c", "e"]);
    check(&graph, &data(&graph, 7, None), &all(&graph), Objective::SquaredL2, &runtime, 1e-4);
}
