//! Contractions in standard operators, with sums that stay with the runtime, against the fused kernels.

use crate::autograd::build::{Build, attention, data, importance, network, parameters, perceptron, runtime, settings};
use onnx_unlearn::autograd::{Power, Reduction, accumulating, differentiate, objective::Objective};
use onnx_unlearn::data::DataSet;
use onnx_unlearn::graph::{Graph, Name, attribute};
use onnx_unlearn::importance::{Done, Importance, Lowering, Settings, Shard, Sums};
use onnx_unlearn::model::{Limits, Model};
use onnx_unlearn::session::{Runtime, RuntimeChoice};
use onnx_unlearn::specialise::specialise;
use onnx_unlearn::tensor::DType;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

fn in_graph(settings: Settings) -> Settings {
    Settings { lowering: Some(Lowering::Graph), ..settings }
}

fn assert_near(found: &Sums, expected: &Sums, tolerance: f64, what: &str) {
    assert_eq!((found.count, found.weights.len()), (expected.count, expected.weights.len()), "{what}");
    for (name, expected) in &expected.weights {
        let largest = expected.iter().fold(0.0, |max: f64, e| max.max(e.abs()));
        for (f, e) in found.weights[name].iter().zip(expected) {
            assert!((f - e).abs() <= tolerance * largest, "{what}, {name}: {f}, expected {e} (largest {largest})");
        }
    }
}

fn check(graph: &Graph, set: &DataSet, settings: &Settings, runtime: &Runtime, tolerance: f64, what: &str) {
    let (kernels, _) = importance(graph, runtime, settings, set);
    let (found, warnings) = importance(graph, runtime, &in_graph(settings.clone()), set);
    assert_eq!(warnings, Vec::<String>::new(), "{what}");
    assert_near(&found, &kernels, tolerance, what);
}

#[test]
fn every_objective_and_reduction() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-11)] {
        // Convolutions have no float64 here.
        let convolutions = (dtype == DType::F32).then(|| network(dtype));
        for graph in [perceptron(dtype), attention(dtype)].into_iter().chain(convolutions) {
            let set = data(&graph, 7, Some((0..7).map(|i| i % 2).collect()));
            for objective in Objective::ALL {
                for (reduction, size) in [(Reduction::Sample, 3), (Reduction::Sample, 1), (Reduction::Batch, 4)] {
                    let settings = Settings { objective, ..settings(reduction, size) };
                    let what = format!("{dtype} {objective:?} {reduction:?} {size}");
                    check(&graph, &set, &settings, &runtime, tolerance, &what);
                }
            }
        }
    }
}

/// Large enough that sums, Gelu and the gradients of it and of LayerNormalization are left to operators of our own, over
/// rows and over the tokens of a sample; what the graph shows goes through reshapes.
#[test]
fn operators_of_our_own() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let mut graph = Build::new(DType::F32, &[40, 24])
        .weight("w1", &[24, 160])
        .weight("b1", &[160])
        .weight("scale", &[160])
        .weight("spread", &[160])
        .weight("w2", &[160, 24])
        .integers("rows", &[-1, 160])
        .integers("tokens", &[-1, 40, 24])
        .node("MatMul", &["x", "w1"], "h")
        .node("Add", &["h", "b1"], "b")
        .node("Reshape", &["b", "rows"], "r")
        .node("LayerNormalization", &["r", "spread"], "n")
        .node("Gelu", &["n"], "g")
        .node("Mul", &["g", "scale"], "s")
        .node("MatMul", &["s", "w2"], "m")
        .node("Reshape", &["m", "tokens"], "y")
        .outputs(&["y"]);
    graph.opsets.insert(String::new(), 20);
    let set = data(&graph, 19, None);
    for (reduction, size) in [(Reduction::Sample, 8), (Reduction::Sample, 1), (Reduction::Batch, 16)] {
        check(&graph, &set, &settings(reduction, size), &runtime, 1e-5, &format!("{reduction:?} {size}"));
    }
}

/// Convolutions of the runtime's own, of ours and of ReLU's gradient between them: the runtime takes its own to another
/// layout, behind which it does not know shapes.
#[test]
fn convolutions_in_other_layouts() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let pads = || attribute("pads", vec![1i64; 4]);
    let graph = Build::new(DType::F32, &[3, 8, 8])
        .weight("v", &[64, 3, 3, 3])
        .weight("w", &[64, 64, 3, 3])
        .weight("bias", &[64])
        .node("Conv", &["x", "v"], "a")
        .with(pads())
        .node("Relu", &["a"], "b")
        .node("Conv", &["b", "w", "bias"], "c")
        .with(pads())
        .node("Relu", &["c"], "d")
        .node("MaxPool", &["d"], "e")
        .with(attribute("kernel_shape", vec![2i64; 2]))
        .with(attribute("strides", vec![2i64; 2]))
        .node("GlobalAveragePool", &["e"], "f")
        .node("Flatten", &["f"], "y")
        .outputs(&["y"]);
    let set = data(&graph, 32, None);
    for reduction in [Reduction::Sample, Reduction::Batch] {
        check(&graph, &set, &settings(reduction, 32), &runtime, 1e-4, &format!("{reduction:?}"));
    }
}

fn trained(name: &str) -> Graph {
    let path = format!("{}/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    Graph::new(&Model::read(Path::new(&path), &Limits::default()).unwrap()).unwrap()
}

#[test]
fn trained_models() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    for name in ["resnet18_dynamo", "vit_torchscript"] {
        let graph = trained(name);
        let set = data(&graph, 6, None);
        let weight = |weight: &Name| graph.constants[weight].len() > 1 && !weight.contains("running_");
        let weights: BTreeSet<Name> = parameters(&graph).into_iter().filter(weight).collect();
        for reduction in [Reduction::Sample, Reduction::Batch] {
            let sums = |settings: Settings| {
                let mut engine = Importance::new(&runtime, &graph, &weights, settings).unwrap();
                engine.run(&set, |_| ()).unwrap()
            };
            let (kernels, found) = (sums(settings(reduction, 4)), sums(in_graph(settings(reduction, 4))));
            assert_near(&found, &kernels, 2e-5, &format!("{name} {reduction:?}"));
        }
    }
}

/// Convolutions of batches that are large enough are computed another way, within rounding the same.
#[test]
fn convolutions_by_tiles() {
    let graph = trained("resnet18_dynamo");
    let set = data(&graph, 40, None);
    let weights: BTreeSet<Name> = parameters(&graph).into_iter().filter(|w| w.contains(".weight")).collect();
    for reduction in [Reduction::Sample, Reduction::Batch] {
        let sums = |settings: Settings| {
            let runtime = runtime(RuntimeChoice::OnnxRuntime);
            Importance::new(&runtime, &graph, &weights, settings).unwrap().run(&set, |_| ()).unwrap()
        };
        let (found, expected) = (sums(settings(reduction, 40)), sums(in_graph(settings(reduction, 40))));
        assert_near(&found, &expected, 2e-5, &format!("{reduction:?}"));
    }
}

/// Gradients of single samples are held for as many samples as there is room for; the result is the same.
#[test]
fn gradients_of_samples_are_held_in_pieces() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = attention(DType::F64);
    let parameters = parameters(&graph);
    let set = data(&graph, 4, None);
    let feed = set.batches(4).next().unwrap().unwrap().inputs;
    let nodes = |room: usize| {
        let specialised = specialise(&graph, &parameters, &feed, 4, &runtime).unwrap();
        let backward = differentiate(specialised, &parameters, Objective::SquaredL2, Reduction::Sample).unwrap();
        let made = accumulating(&backward, Power::Absolute, room).unwrap();
        made.graph.nodes.iter().filter(|n| n.op == "Abs").count()
    };
    let weights = parameters.len();
    assert!(nodes(usize::MAX) <= weights, "one piece for each weight");
    assert!(nodes(1) >= 2 * nodes(usize::MAX), "a piece for each sample of a weight that is not rank one");
    let kernels = importance(&graph, &runtime, &settings(Reduction::Sample, 4), &set).0;
    // An eighth of the memory is for pieces: less than two samples of any weight.
    let small = Settings { memory: Some(64), ..settings(Reduction::Sample, 4) };
    assert_near(&importance(&graph, &runtime, &in_graph(small), &set).0, &kernels, 1e-11, "in pieces");
}

/// What is done of a pass is always whole: stopped at any batch and gone on with, it gives the same bits.
#[test]
fn a_stopped_pass_goes_on_from_whole_sums() {
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let graph = perceptron(DType::F32);
    let (parameters, set) = (parameters(&graph), data(&graph, 150, None));
    let settings = in_graph(settings(Reduction::Sample, 1));
    let whole = importance(&graph, &runtime, &settings, &set).0;
    for stop in [1, 63, 64, 65, 149] {
        let mut done = Done::default();
        for limit in [stop, usize::MAX] {
            let mut engine = Importance::new(&runtime, &graph, &parameters, settings.clone()).unwrap();
            let after = |_: &Done, step: onnx_unlearn::importance::Progress| {
                Ok(if step.samples >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            engine.go_on(&set, Shard::WHOLE, &mut done, after).unwrap();
            assert_eq!(done.sums.count, done.batches as u64);
        }
        assert!(done.sums == whole, "stopped after {stop}");
    }
}
