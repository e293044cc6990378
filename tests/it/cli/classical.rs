//! Networks of scikit-learn as its converter writes them: labels beside probabilities, dictionaries, scaled inputs.

use super::{Home, trained};
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
