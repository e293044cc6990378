//! The slopes taken where operators are not smooth, worked out by hand.

use super::build::*;
use onnx_unlearn::data::{DataSet, InputSpec};
use onnx_unlearn::graph::attribute;
use onnx_unlearn::importance::{Importance, Settings};
use onnx_unlearn::session::{Feed, RuntimeChoice};
use onnx_unlearn::tensor::{DType, Tensor};
use std::sync::Arc;

/// The gradients of `Σ o²` for the parameters `a` and `b`, the nodes giving `o` of shape `[1, …]` or of one axis.
fn slopes(nodes: Build, output: &[usize], parameters: &[(&str, Tensor)], others: &[(&str, Tensor)]) -> Vec<Vec<f64>> {
    let mut graph = nodes.node("Mul", &["x", "o"], "y").outputs(&["y"]);
    for (name, tensor) in parameters.iter().chain(others) {
        graph.constants.insert((*name).into(), Arc::new(tensor.clone()));
    }
    let ones = Tensor::new(output, vec![1f32; output.iter().product()]).unwrap();
    let spec = InputSpec { name: "x".into(), dtype: DType::F32, shape: graph.inputs[0].shape.clone() };
    let data = DataSet::from_arrays(Feed::from([("x".to_string(), ones)]), None, &[spec]).unwrap();
    let settings = Settings { signed: true, ..Default::default() };
    let names = parameters.iter().map(|(name, _)| (*name).into()).collect();
    let runtime = runtime(RuntimeChoice::OnnxRuntime);
    let mut importance = Importance::new(&runtime, &graph, &names, settings).unwrap();
    let sums = importance.run(&data, |_| {}).unwrap();
    parameters.iter().map(|(name, _)| sums.weights[*name].iter().copied().collect()).collect()
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape, values.to_vec()).unwrap()
}

#[test]
fn equal_operands_share() {
    let (a, b) = (floats(&[3], &[1.0, 2.0, 3.0]), floats(&[3], &[1.0, 5.0, 3.0]));
    let both = |op: &str| {
        let nodes = Build::new(DType::F32, &[3]).node(op, &["a", "b"], "o");
        slopes(nodes, &[1, 3], &[("a", a.clone()), ("b", b.clone())], &[])
    };
    assert_eq!(both("Max"), [[1.0, 0.0, 3.0], [1.0, 10.0, 3.0]]);
    assert_eq!(both("Min"), [[1.0, 4.0, 3.0], [1.0, 0.0, 3.0]]);
}

#[test]
fn equal_elements_share_or_the_first_takes_all() {
    let of = |nodes: Build, output: &[usize], shape: &[usize], values: &[f32]| {
        slopes(nodes, output, &[("a", floats(shape, values))], &[]).remove(0)
    };
    let single = |op: &str| Build::new(DType::F32, &[1]).node(op, &["a"], "o");
    assert_eq!(of(single("ReduceMax"), &[1, 1], &[4], &[2.0, 5.0, 5.0, 1.0]), [0.0, 5.0, 5.0, 0.0]);
    assert_eq!(of(single("ReduceMin"), &[1, 1], &[3], &[1.0, 1.0, 3.0]), [1.0, 1.0, 0.0]);
    let image = |op: &str, size: usize| Build::new(DType::F32, &[1, size]).node(op, &["a"], "o");
    let pool = image("MaxPool", 2).with(attribute("kernel_shape", vec![2i64])).with(attribute("strides", vec![2i64]));
    assert_eq!(of(pool, &[1, 1, 2], &[1, 1, 4], &[3.0, 3.0, 1.0, 1.0]), [6.0, 0.0, 2.0, 0.0]);
    assert_eq!(of(image("GlobalMaxPool", 1), &[1, 1, 1], &[1, 1, 3], &[4.0, 1.0, 4.0]), [8.0, 0.0, 0.0]);
}

/// Levels are eighths from -16 to 15.875: 0.3 is rounded to a quarter, -20 and 17 lie beyond the ends.
#[test]
fn rounding_is_passed_straight_through_where_nothing_saturates() {
    let others = [("s", floats(&[], &[0.125])), ("z", Tensor::new(&[], vec![0i8]).unwrap())];
    let found = |values: &[f32]| {
        let nodes = Build::new(DType::F32, &[values.len()]).node("QuantizeLinear", &["a", "s", "z"], "q").node(
            "DequantizeLinear",
            &["q", "s", "z"],
            "o",
        );
        slopes(nodes, &[1, values.len()], &[("a", floats(&[values.len()], values))], &others).remove(0)
    };
    assert_eq!(found(&[0.3, -2.0]), [0.5, -4.0]);
    assert_eq!(found(&[0.3, -20.0, 17.0, 15.9, -16.0]), [0.5, 0.0, 0.0, 31.75, -32.0]);
}
