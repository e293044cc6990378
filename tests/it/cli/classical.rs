//! Networks of scikit-learn as its converter writes them: labels beside probabilities, dictionaries, scaled inputs.

use super::{Home, trained, with_nodes};
use crate::model::build::node;
use onnx_protobuf::OperatorSetIdProto;
use onnx_unlearn::graph::attribute;
use protobuf::Message;
use serde_json::json;

fn fixture(name: &str) -> String {
    trained(&format!("../fixtures/classical/{name}"))
}

fn forget(model: &str) -> String {
    let [model, forget, retain] = [model, "forget.npz", "retain.npz"].map(fixture);
    format!("forget {model} --forget {forget} --retain {retain} --alpha 1.2 -o new.onnx --min-retained-agreement 0.5")
}

/// The probabilities are looked at, under the name that the model gives them; the labels are not.
#[test]
fn probabilities_are_found() {
    for (model, output) in
        [("pipeline.onnx", "output_probability"), ("tensor.onnx", "probabilities"), ("regressor.onnx", "variable")]
    {
        let home = Home::new();
        let report = home.json(&forget(model));
        assert_eq!(report["settings"]["outputs"], json!([output]), "{model}");
        if model != "regressor.onnx" {
            let accuracy = |set: &str, when: &str| report["validation"][set][when].as_f64().unwrap();
            let (forgotten, kept) = (accuracy("forget", "accuracy_after"), accuracy("retain", "accuracy_after"));
            assert!(forgotten < 0.1 && kept > 0.9, "{model}: {forgotten} {kept}");
        }
        let diff = home.json(&format!("diff {} new.onnx", fixture(model)));
        assert_eq!(diff["other"], json!([]), "{model}");
        let named = home.json(&format!("{} --outputs {output} --force", forget(model)));
        assert_eq!(named["parameters"], report["parameters"], "{model}");
    }
}

#[test]
fn outputs_that_could_all_be_meant_are_listed() {
    let home = Home::new();
    let parts = ["columns.onnx", "output_label (int64), i0 (float32), i1 (float32), i2 (float32)", "--outputs"];
    home.fails(&forget("columns.onnx"), 2, &parts);
    home.fails(&format!("{} --outputs output_label", forget("tensor.onnx")), 2, &["there is no output"]);
    home.fails(&format!("{} --outputs label", forget("tensor.onnx")), 4, &["'label' of type int64 has no gradient"]);
}

/// Numbers that were fitted but lie in attributes are named where they are looked for.
#[test]
fn weights_in_attributes_are_told() {
    let mut linear = node("LinearRegressor", &["x"], &["y"]);
    linear.domain = "ai.onnx.ml".into();
    linear.attribute = vec![attribute("coefficients", vec![1.0f32, 2.0, 3.0]), attribute("intercepts", vec![0.5f32])];
    let mut model = with_nodes(vec![linear], vec![]);
    let domain = OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 1, ..Default::default() };
    model.opset_import.push(domain);
    let home = Home::new();
    home.write("linear.onnx", model.write_to_bytes().unwrap());
    let found = home.json("inspect linear.onnx");
    assert_eq!(found["total_weights"], 0);
    let list = found["parameters"].as_array().unwrap();
    assert_eq!(list.iter().map(|p| &p["name"]).collect::<Vec<_>>(), ["y.coefficients", "y.intercepts"]);
    assert!(list[0]["reason"].as_str().unwrap().contains("an attribute of ai.onnx.ml.LinearRegressor"), "{found}");
    home.digits("f.npy", 1, 0);
    home.fails("importance linear.onnx --data f.npy -o p.safetensors", 4, &["no weights left", "inspect"]);
}
