//! Objectives, runtimes and batch sizes, mixed samples, missing rules.
//! What each rule gives is checked by the gradient checks, `tests/gradcheck`.

pub mod build;
mod control;
mod kinks;
mod large;

use build::*;
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::autograd::{Reduction, check_rules, differentiate};
use onnx_unlearn::data::{DataSet, InputSpec};
use onnx_unlearn::graph::{Graph, attribute, to_model_proto};
use onnx_unlearn::importance::{Importance, Settings, Sums};
use onnx_unlearn::session::{Runtime, RuntimeChoice};
use onnx_unlearn::specialise::specialise;
use onnx_unlearn::tensor::{DType, Tensor};
use protobuf::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The definition of an objective for one sample.
fn objective(objective: Objective, f: &[f64], label: usize) -> f64 {
    let largest = f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = f.iter().map(|y| (y - largest).exp()).sum();
    let probability = |y: &f64| (y - largest).exp() / total;
    match objective {
        Objective::SquaredL2 => f.iter().map(|y| y * y).sum(),
        Objective::L2 => f.iter().map(|y| y * y).sum::<f64>().sqrt(),
        Objective::Probability => f.iter().map(probability).map(|p| p * p).sum(),
        Objective::Top => largest,
        Objective::Fisher => -probability(&f[label]).ln(),
    }
}

/// The gradients of an objective for each sample, by central differences of the forward graph.
fn differences(graph: &Graph, runtime: &Runtime, data: &DataSet, kind: Objective) -> Vec<BTreeMap<String, Vec<f64>>> {
    let step = 1e-5;
    let batches: Vec<_> = data.batches(1).map(Result::unwrap).collect();
    let mut gradients = vec![BTreeMap::new(); batches.len()];
    for name in parameters(graph) {
        let Tensor::F64(values) = &*graph.constants[&name] else { panic!("float64 is expected") };
        for index in 0..values.len() {
            let at = |by: f64| -> Vec<f64> {
                let mut shifted = values.clone();
                shifted.as_slice_mut().unwrap()[index] += by;
                let mut graph = graph.clone();
                graph.constants.insert(name.clone(), Arc::new(Tensor::F64(shifted)));
                let mut session = runtime.observer(&graph).unwrap();
                let mut run = |batch: &onnx_unlearn::data::Batch| {
                    let outputs = session.run(&batch.inputs).unwrap();
                    let f: Vec<f64> = outputs.iter().flat_map(|t| t.to_f64().unwrap()).collect();
                    objective(kind, &f, batch.labels.as_ref().map_or(0, |l| l[0] as usize))
                };
                batches.iter().map(&mut run).collect()
            };
            let (above, below) = (at(step), at(-step));
            for (sample, gradient) in gradients.iter_mut().enumerate() {
                let slope = (above[sample] - below[sample]) / (2.0 * step);
                gradient.entry(name.to_string()).or_insert_with(Vec::new).push(slope);
            }
        }
    }
    gradients
}

/// What is made of per-sample gradients: the mean within each group, its power, the sum over groups.
fn expected(
    gradients: &[BTreeMap<String, Vec<f64>>],
    shape: impl Fn(&str) -> Vec<usize>,
    group: usize,
    power: impl Fn(f64) -> f64,
) -> Sums {
    let mut sums = Sums::default();
    for group in gradients.chunks(group) {
        sums.count += 1;
        for name in group[0].keys() {
            let shape = shape(name);
            let total = sums.weights.entry(name.clone()).or_insert_with(|| ndarray::ArrayD::zeros(shape));
            for (index, total) in total.iter_mut().enumerate() {
                let mean = group.iter().map(|g| g[name][index]).sum::<f64>() / group.len() as f64;
                *total += power(mean);
            }
        }
    }
    sums
}

#[test]
fn objectives_are_the_gradients_of_their_definitions() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = perceptron(DType::F64);
    let data = data(&graph, 5, Some(vec![3, 0, 1, 1, 2]));
    for objective in Objective::ALL {
        let gradients = differences(&graph, &runtime, &data, objective);
        let square = objective == Objective::Fisher;
        let power = |g: f64| if square { g * g } else { g.abs() };
        let shape = |name: &str| graph.constants[name].shape().to_vec();
        for (reduction, size, group) in [(Reduction::Sample, 3, 1), (Reduction::Batch, 3, 3)] {
            let settings = Settings { objective, ..settings(reduction, size) };
            let found = importance(&graph, &runtime, &settings, &data).0;
            assert_close(&found, &expected(&gradients, shape, group, power), 1e-5);
        }
    }
}

/// Outputs of several shapes: rows, tokens first, samples and tokens merged, and one that no input reaches.
#[test]
fn outputs_of_every_layout_enter_the_norm() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let build = |extra: bool| {
        let build = Build::new(DType::F64, &[2, 3])
            .weight("w", &[3, 2])
            .weight("v", &[4])
            .integers("s", &[-1, 2])
            .node("MatMul", &["x", "w"], "a")
            .node("Transpose", &["a"], "b")
            .with(attribute("perm", vec![1i64, 0, 2]))
            .node("Reshape", &["b", "s"], "c")
            .node("Sigmoid", &["c"], "d")
            .node("Tanh", &["v"], "e");
        build.outputs(if extra { &["a", "b", "d", "e"] } else { &["a", "b", "d"] })
    };
    for (extra, objective, reduction) in [
        (false, Objective::SquaredL2, Reduction::Sample),
        (false, Objective::L2, Reduction::Sample),
        (false, Objective::L2, Reduction::Batch),
        (true, Objective::SquaredL2, Reduction::Sample),
        (true, Objective::L2, Reduction::Sample),
        (true, Objective::L2, Reduction::Batch),
    ] {
        let mut graph = build(extra);
        if !extra {
            graph.constants.remove("v");
            graph.nodes.pop();
        }
        let data = data(&graph, 6, None);
        let gradients = differences(&graph, &runtime, &data, objective);
        let group = if reduction == Reduction::Sample { 1 } else { 3 };
        let shape = |name: &str| graph.constants[name].shape().to_vec();
        let settings = Settings { objective, ..settings(reduction, 3) };
        let (found, warnings) = importance(&graph, &runtime, &settings, &data);
        assert_eq!(warnings.is_empty(), !extra || reduction == Reduction::Batch, "{warnings:?}");
        assert_close(&found, &expected(&gradients, shape, group, f64::abs), 1e-5);
    }
}

#[test]
fn objectives_over_classes_need_rows_of_classes() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[2, 3]).weight("w", &[3, 2]).node("MatMul", &["x", "w"], "y").outputs(&["y"]);
    let settings = Settings { objective: Objective::Top, ..Default::default() };
    let parameters = parameters(&graph);
    let mut importance = Importance::new(&runtime, &graph, &parameters, settings).unwrap();
    let error = importance.run(&data(&graph, 4, None), |_| {}).unwrap_err().to_string();
    assert!(error.contains("objective top needs an output of shape [batch, classes]"), "{error}");
}

#[test]
fn runtimes_and_batch_sizes_agree() {
    let (onnxruntime, tract) = (runtime(RuntimeChoice::OnnxRuntime), runtime(RuntimeChoice::Tract));
    for graph in [perceptron(DType::F32), network(DType::F32), attention(DType::F32)] {
        // One full batch of 64 and a partial one.
        let data = data(&graph, 70, None);
        let reference = importance(&graph, &onnxruntime, &settings(Reduction::Sample, 1), &data).0;
        assert_eq!(reference.count, 70);
        for size in [1, 7, 64] {
            for runtime in [&onnxruntime, &tract] {
                let (found, warnings) = importance(&graph, runtime, &settings(Reduction::Sample, size), &data);
                assert_eq!(warnings, Vec::<String>::new());
                assert_close(&found, &reference, 1e-5);
            }
            let [a, b] =
                [&onnxruntime, &tract].map(|r| importance(&graph, r, &settings(Reduction::Batch, size), &data).0);
            assert_eq!(a.count, 70usize.div_ceil(size) as u64);
            assert_close(&a, &b, 1e-4);
        }
    }
}

#[test]
fn the_same_bits_at_every_run() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = network(DType::F32);
    let data = data(&graph, 10, None);
    let run = || importance(&graph, &runtime, &settings(Reduction::Sample, 4), &data).0;
    assert_eq!(run(), run());
}

/// The importance of a half-precision graph, bit for bit, is that of the same numbers in single precision.
#[test]
fn half_precision_is_computed_in_single() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for dtype in [DType::F16, DType::BF16] {
        let mut half = network(dtype);
        let mut single = half.clone();
        single.inputs[0].dtype = DType::F32;
        single.constants.values_mut().for_each(|t| *t = Arc::new(t.to_single().unwrap()));
        half.prepare().unwrap();
        assert_eq!(half.inputs[0].dtype, dtype);
        let settings = settings(Reduction::Sample, 3);
        let given = data(&half, 5, None);
        let wide = given.batches(5).next().unwrap().unwrap().inputs["x"].to_single().unwrap();
        let spec = InputSpec { name: "x".into(), dtype: DType::F32, shape: single.inputs[0].shape.clone() };
        let wide = DataSet::from_arrays(BTreeMap::from([("x".into(), wide)]), None, &[spec]).unwrap();
        let found = importance(&half, &runtime, &settings, &given).0;
        assert_eq!(found, importance(&single, &runtime, &settings, &wide).0);
    }
}

/// Graphs in which a sample of a batch sees the others.
#[test]
fn mixed_samples_fall_back_to_batches_of_one() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let start = || Build::new(DType::F64, &[3]).weight("w", &[3, 3]).node("MatMul", &["x", "w"], "h");
    let mean =
        start().node("ReduceMean", &["h"], "m").with(attribute("axes", vec![0i64])).node("Mul", &["h", "m"], "y");
    let softmax = start().node("Softmax", &["h"], "s").with(attribute("axis", 0i64)).node("Mul", &["s", "h"], "y");
    let attention = start()
        .node("Transpose", &["h"], "t")
        .node("MatMul", &["h", "t"], "s")
        .node("Softmax", &["s"], "p")
        .node("MatMul", &["p", "h"], "y");
    let sum = start().node("ReduceSum", &["h"], "y").with(attribute("keepdims", 0i64));
    for (build, at) in [(mean, "ReduceMean"), (softmax, "Softmax"), (attention, "MatMul"), (sum, "ReduceSum")] {
        let graph = build.outputs(&["y"]);
        let data = data(&graph, 5, None);
        let gradients = differences(&graph, &runtime, &data, Objective::SquaredL2);
        let (found, warnings) = importance(&graph, &runtime, &settings(Reduction::Sample, 4), &data);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with(&format!("samples cannot be told apart at {at}")), "{warnings:?}");
        let shape = |name: &str| graph.constants[name].shape().to_vec();
        assert_close(&found, &expected(&gradients, shape, 1, f64::abs), 1e-5);
    }
}

/// The gradients of a computed weight are built for each sample where there is room for them, else the samples mix.
#[test]
fn gradients_of_computed_weights_need_room() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[512])
        .weight("w", &[512, 1024])
        .node("Tanh", &["w"], "v")
        .node("MatMul", &["x", "v"], "y")
        .outputs(&["y"]);
    let parameters = parameters(&graph);
    let mixed = |batch: usize| {
        let feed = data(&graph, batch, None).batches(batch).next().unwrap().unwrap().inputs;
        let specialised = specialise(&graph, &parameters, &feed, batch, &runtime).unwrap();
        differentiate(specialised, &parameters, Objective::SquaredL2, Reduction::Sample).unwrap().mixed
    };
    // 2 MiB for each sample.
    assert_eq!(mixed(128), None);
    assert_eq!(mixed(129).as_deref(), Some("Tanh giving 'v'"));
}

/// Parts of different sizes have different strides; with as many tokens as samples the wrong one would
/// take tokens for samples.
#[test]
fn uneven_parts_keep_their_samples() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let mut graph = Build::new(DType::F64, &[2, 6])
        .weight("w", &[4, 3])
        .integers("s", &[2, 4])
        .node("Split", &["x", "s"], "a")
        .with(attribute("axis", -1i64))
        .node("MatMul", &["b", "w"], "m")
        .outputs(&["m", "a"]);
    graph.nodes[0].outputs.push(Some("b".into()));
    let data = data(&graph, 4, None);
    let one = importance(&graph, &runtime, &settings(Reduction::Sample, 1), &data).0;
    let (two, warnings) = importance(&graph, &runtime, &settings(Reduction::Sample, 2), &data);
    assert_eq!(warnings, Vec::<String>::new());
    assert_close(&two, &one, 1e-12);
}

/// Of ten tokens, two of which are read.
#[test]
fn tokens_that_nothing_reads_are_not_computed() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = Build::new(DType::F32, &[10, 4])
        .weight("first", &[4, 4])
        .weight("second", &[4, 3])
        .integers("read", &[7, 5])
        .node("MatMul", &["x", "first"], "h")
        .node("ReduceMean", &["h"], "mean")
        .with(attribute("axes", vec![1i64]))
        .node("Mul", &["h", "mean"], "scaled")
        .node("MatMul", &["scaled", "second"], "m")
        .node("Tanh", &["m"], "t")
        .node("Gather", &["t", "read"], "y")
        .with(attribute("axis", 1i64))
        .outputs(&["y"]);
    let weights = parameters(&graph);
    let feed = data(&graph, 3, None).batches(3).next().unwrap().unwrap().inputs;
    let specialised = specialise(&graph, &weights, &feed, 3, &runtime).unwrap();
    let backward = differentiate(specialised, &weights, Objective::SquaredL2, Reduction::Sample).unwrap();
    let shape = |name: &str| backward.kinds[name].1.clone();
    assert_eq!(["h", "scaled", "m", "t", "y"].map(|name| shape(name)[1]), [10, 3, 3, 3, 2]);
}

#[test]
fn missing_rules_are_listed_at_once() {
    let graph = Build::new(DType::F32, &[3])
        .weight("w", &[3])
        .node("Mul", &["x", "w"], "a")
        .node("Unknowable", &["a"], "b")
        .node("Unknowable", &["b"], "c")
        .node("Unique", &["c"], "d")
        .node("Cos", &["x"], "unreached")
        .node("Add", &["d", "unreached"], "y")
        .outputs(&["y"]);
    let error = check_rules(&graph, &parameters(&graph)).unwrap_err().to_string();
    assert_eq!(
        error,
        "no gradient rule for: Unique: the number of its outputs depends on data (1 node), Unknowable (2 nodes)"
    );
}

#[test]
fn backward_graphs_are_the_same_bytes_every_time() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for graph in [perceptron(DType::F32), network(DType::F32), attention(DType::F32)] {
        let parameters = parameters(&graph);
        let feed = data(&graph, 3, None).batches(3).next().unwrap().unwrap().inputs;
        let build = || {
            let specialised = specialise(&graph, &parameters, &feed, 3, &runtime).unwrap();
            let backward = differentiate(specialised, &parameters, Objective::L2, Reduction::Sample).unwrap();
            let kinds = backward.kinds.clone();
            to_model_proto(&backward.graph, |name| kinds.get(name).cloned()).write_to_bytes().unwrap()
        };
        assert_eq!(build(), build());
    }
}

/// A batch filled up with copies of a sample counts that sample once.
#[test]
fn padding_counts_for_nothing() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = network(DType::F32);
    let all = data(&graph, 5, None);
    let whole = importance(&graph, &runtime, &settings(Reduction::Sample, 32), &all).0;
    let halves = [&[0, 1, 2][..], &[3, 4]]
        .map(|part| importance(&graph, &runtime, &settings(Reduction::Sample, 32), &all.select(part).unwrap()).0);
    assert_close(&whole, &halves[0].merge(&halves[1]).unwrap(), 1e-6);
}

#[test]
fn large_backward_graphs_are_small_and_the_same_every_time() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let (graph, weights, feed) = large::transformer(1000);
    let specialised = large::specialised(&graph, &weights, &feed, &runtime);
    let backward = large::backward(specialised.clone(), &weights);
    assert!(backward.graph.nodes.len() <= 4 * graph.nodes.len(), "{} nodes", backward.graph.nodes.len());
    assert!(large::bytes(&backward) == large::bytes(&large::backward(specialised, &weights)));
}
