//! Models in half precision, of older operator sets and with several inputs, from end to end.

use super::{Home, node, raw, small_model, with_nodes};
use crate::model::build;
use onnx_protobuf::{AttributeProto, ModelProto};
use onnx_unlearn::graph::{Graph, Input, to_model_proto};
use onnx_unlearn::model::{Limits, Model};
use onnx_unlearn::tensor::{DType, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// Token numbers and a mask, both integers: the table and the matrix behind it are dampened.
#[test]
fn several_inputs_of_integers() {
    let home = Home::new();
    let nodes = "e = Gather(table, ids); f = Cast<to=1>(mask); m = Unsqueeze(f, last); z = Mul(e, m); \
                 s = ReduceSum<keepdims=0>(z, tokens); y = MatMul(s, weight)";
    let input = |name: &str| Input { name: name.into(), dtype: DType::I64, shape: vec![None, Some(3)] };
    let numbers = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        Tensor::new(shape, (0..count).map(|i| (i as f32 * 1.3).sin()).collect()).unwrap()
    };
    let axis = |axis: i64| Tensor::new(&[1], vec![axis]).unwrap();
    let constants =
        [("table", numbers(&[6, 4])), ("weight", numbers(&[4, 3])), ("last", axis(-1)), ("tokens", axis(1))];
    let graph = Graph {
        nodes: crate::prepare::parse::nodes(nodes),
        constants: constants.map(|(name, tensor)| (name.into(), Arc::new(tensor))).into(),
        inputs: vec![input("ids"), input("mask")],
        outputs: vec!["y".into()],
        opsets: BTreeMap::from([(String::new(), 17)]),
        ir_version: 8,
    };
    home.write("m.onnx", build::bytes(&to_model_proto(&graph, |_| None)));
    // Only the samples to forget hold the token 5.
    for (name, ids) in [("f", [[5, 5, 0], [5, 1, 0]]), ("r", [[0, 1, 2], [3, 4, 2]])] {
        let ids: Vec<u8> = ids.iter().flatten().flat_map(|id: &i64| id.to_le_bytes()).collect();
        let mask: Vec<u8> = [1, 1, 1, 1, 1, 0].iter().flat_map(|on: &i64| on.to_le_bytes()).collect();
        let view = |bytes| TensorView::new(Dtype::I64, vec![2, 3], bytes).unwrap();
        let bytes = safetensors::serialize([("ids", view(&ids)), ("mask", view(&mask))], None).unwrap();
        home.write(&format!("{name}.safetensors"), bytes);
    }
    let line =
        "forget m.onnx --forget f.safetensors --retain r.safetensors --alpha 1.9 --min-retained-agreement 0 -o n.onnx";
    home.ok(line);
    let (before, after) = (weights(&home, "m.onnx"), weights(&home, "n.onnx"));
    let table = |list: &[(String, Tensor)]| elements(&list.iter().find(|(name, _)| name == "table").unwrap().1);
    let changed: Vec<_> = table(&before).iter().zip(table(&after)).map(|(b, a)| *b != a).collect();
    assert!(changed[20..].iter().all(|&changed| changed), "{changed:?}");
    assert!(changed[8..20].iter().all(|&changed| !changed), "{changed:?}");
}
