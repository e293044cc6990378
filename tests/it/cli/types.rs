//! Models in half precision and of older operator sets, from end to end.

use super::{Home, node, raw, small_model, with_nodes};
use crate::model::build;
use onnx_protobuf::{AttributeProto, ModelProto};
use onnx_unlearn::model::{Limits, Model};
use onnx_unlearn::tensor::{DType, Tensor};

const FORGET: &str = "--forget f.npy --retain r.npy --alpha 1.5 --min-retained-agreement 0";

fn weights(home: &Home, name: &str) -> Vec<(String, Tensor)> {
    let model = Model::read(&home.path(name), &Limits::default()).unwrap();
    model.places().keys().map(|tensor| (tensor.clone(), model.tensor(tensor).unwrap())).collect()
}

fn elements(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64().unwrap().into_iter().collect()
}

/// The small model with its tensors, its input and its output in another type.
fn retyped(dtype: DType) -> ModelProto {
    let mut model = small_model();
    let graph = model.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        let values = onnx_unlearn::model::inline(tensor).unwrap().to_f64().unwrap();
        let halves = match dtype {
            DType::F16 => Tensor::F16(values.mapv(half::f16::from_f64)),
            _ => Tensor::BF16(values.mapv(half::bf16::from_f64)),
        };
        *tensor = raw(&tensor.name, &halves);
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        value.type_.as_mut().unwrap().mut_tensor_type().elem_type = dtype.to_onnx();
    }
    model
}

/// A half-precision model loses what the same model in single precision loses, up to rounding; no weight grows,
/// and nothing else changes.
#[test]
fn halves_are_dampened_as_singles() {
    for dtype in [DType::F16, DType::BF16] {
        let home = Home::small();
        home.write("half.onnx", build::bytes(&retyped(dtype)));
        let single = home.json(&format!("forget m.onnx -o single.onnx {FORGET}"));
        let half = home.json(&format!("forget half.onnx -o new.onnx {FORGET}"));
        assert_eq!(half["selected_weights"], single["selected_weights"]);
        assert_eq!(half["parameters"][0]["dtype"], dtype.to_string());
        let diff = home.json("diff half.onnx new.onnx");
        assert_eq!(diff["other"], serde_json::json!([]));
        let (before, after, wanted) =
            (weights(&home, "half.onnx"), weights(&home, "new.onnx"), weights(&home, "single.onnx"));
        for (((name, before), (_, after)), (_, wanted)) in before.iter().zip(&after).zip(&wanted) {
            assert_eq!(after.dtype(), dtype);
            for ((b, a), w) in elements(before).into_iter().zip(elements(after)).zip(elements(wanted)) {
                assert!(a.abs() <= b.abs() && a * b >= 0.0, "{name}: {b} became {a}");
                assert!((a - w).abs() <= w.abs() / 128.0, "{name}: {a}, in single precision {w}");
            }
        }
        let inspected = home.json("inspect half.onnx");
        assert_eq!(inspected["parameters"][0]["dtype"], dtype.to_string());
        assert_eq!(inspected["inputs"][0]["dtype"], dtype.to_string());
    }
}

/// A model of opset 9 is forgotten as it is; its file keeps its opset.
#[test]
fn older_operator_sets_are_kept() {
    let home = Home::small();
    let three = |values: &[f32]| Tensor::new(&[3, 3], values.to_vec()).unwrap();
    let weight = three(&[1.0, 0.0, 0.25, 0.0, 1.0, 0.25, 0.5, 0.25, 2.0]);
    let mut clip = node("Clip", &["product"], &["clipped"]);
    clip.attribute = vec![AttributeProto {
        name: "max".into(),
        type_: protobuf::EnumOrUnknown::from_i32(1),
        f: 6.0,
        ..Default::default()
    }];
    let nodes = vec![
        node("MatMul", &["x", "weight"], &["product"]),
        clip,
        node("Softmax", &["clipped"], &["p"]),
        node("Identity", &["p"], &["y"]),
    ];
    let mut model = with_nodes(nodes, vec![raw("weight", &weight)]);
    model.opset_import[0].version = 9;
    home.write("old.onnx", build::bytes(&model));
    let report = home.json(&format!("forget old.onnx -o new.onnx {FORGET}"));
    for guard in report["guards"].as_array().unwrap() {
        assert_eq!(guard["passed"], true, "{guard}");
    }
    assert_eq!(home.json("diff old.onnx new.onnx")["other"], serde_json::json!([]));
    let inspected = home.json("inspect new.onnx");
    assert_eq!((&inspected["opset"], &inspected["parameters"].as_array().unwrap().len()), (&9.into(), &1));
}
