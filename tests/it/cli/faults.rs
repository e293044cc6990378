//! Every fault of the inputs has its exit code and one clear message, and leaves nothing behind.

use super::{Home, assert_message, node, raw, small_model, with_nodes};
use crate::model::build;
use ndarray::Array2;
use onnx_protobuf::OperatorSetIdProto;

const FORGET: &str = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 -o out.onnx";

/// The same job with another file for one of the inputs.
fn with(old: &str, new: &str) -> String {
    FORGET.replace(old, new)
}

#[test]
fn files_that_are_not_there() {
    let home = Home::small();
    home.fails(&with("m.onnx", "none.onnx"), 6, &["none.onnx", "No such file"]);
    home.fails(&with("f.npy", "none.npy"), 6, &["none.npy", "No such file"]);
    home.fails(&with("r.npy", "none.npy"), 6, &["none.npy", "No such file"]);
    home.fails(&with("--retain r.npy", "--profile none"), 6, &["none", "No such file"]);
    home.fails("inspect none.onnx", 6, &["none.onnx", "No such file"]);
    home.fails("diff m.onnx none.onnx", 6, &["none.onnx", "No such file"]);
    home.fails("importance m.onnx --data none.npy -o p", 6, &["none.npy", "No such file"]);
    home.fails("validate m.onnx none.onnx --forget f.npy", 6, &["none.onnx", "No such file"]);
    home.fails("dampen m.onnx --forget-profile none --profile none --alpha 1 -o out.onnx", 6, &["none", "No such"]);
}

#[test]
fn models_that_are_none() {
    let home = Home::small();
    let whole = home.read("m.onnx");
    home.write("cut.onnx", &whole[..whole.len() - 7]);
    home.write("text.onnx", "this is no model\nbut a text\n");
    home.write("empty.onnx", "");
    home.fails(&with("m.onnx", "cut.onnx"), 3, &["cut.onnx", "truncated"]);
    home.fails(&with("m.onnx", "text.onnx"), 3, &["text.onnx", "not an ONNX model", "text file"]);
    home.fails(&with("m.onnx", "empty.onnx"), 3, &["empty.onnx", "empty"]);
    for command in ["inspect cut.onnx", "diff m.onnx cut.onnx", "validate m.onnx cut.onnx --forget f.npy"] {
        home.fails(command, 3, &["cut.onnx", "truncated"]);
    }
}

#[test]
fn data_that_does_not_fit() {
    let home = Home::small();
    home.npy("wide.npy", &Array2::<f32>::zeros((2, 4)).into_dyn());
    home.npy("f64.npy", &Array2::<f64>::zeros((2, 3)).into_dyn());
    home.rows("nan.npy", &[[1.0, 2.0, 3.0], [1.0, f32::NAN, 3.0]]);
    home.rows("none.npy", &[]);
    home.write("cut.npy", &home.read("r.npy")[..150]);
    home.fails(&with("f.npy", "wide.npy"), 3, &["wide.npy", "shape [2, 4]", "[?, 3]"]);
    home.fails(&with("r.npy", "wide.npy"), 3, &["wide.npy", "shape [2, 4]"]);
    home.fails(&with("f.npy", "f64.npy"), 3, &["f64.npy", "float64", "float32", "astype"]);
    home.fails(&with("r.npy", "cut.npy"), 3, &["cut.npy", "truncated"]);
    home.fails(&with("f.npy", "nan.npy"), 7, &["nan.npy", "sample 1", "not finite"]);
    home.fails(&with("r.npy", "nan.npy"), 7, &["nan.npy", "sample 1", "not finite"]);
    home.fails(&with("f.npy", "none.npy"), 8, &["none.npy", "no samples"]);
    home.fails("importance m.onnx --data none.npy -o p", 8, &["none.npy", "no samples"]);
    home.fails("validate m.onnx m.onnx --forget none.npy", 8, &["none.npy", "no samples"]);
    home.fails(&with("f.npy", "m.onnx"), 4, &["m.onnx", ".npz", "not supported"]);
}

#[test]
fn more_memory_than_may_be_taken() {
    let home = Home::small();
    let why = ["GiB of memory", "may be taken", "--batch-size", "--memory"];
    home.fails(&with("--alpha 1.5", "--alpha 1.5 --memory 1MiB"), 5, &why);
    home.fails("importance m.onnx --data f.npy -o p --memory 1MiB --batch-size 2", 5, &why);
    home.ok("importance m.onnx --data f.npy -o p --memory 8GiB -q");
}

#[test]
fn weights_that_are_not_finite() {
    let home = Home::small();
    let weight = onnx_unlearn::tensor::Tensor::new(&[3], vec![1.0f32, f32::NAN, 2.0]).unwrap();
    home.write("nan.onnx", build::bytes(&build::model(vec![raw("weight", &weight)], vec![])));
    home.fails(&with("m.onnx", "nan.onnx"), 7, &["nan.onnx", "'weight'", "element 1"]);
    // Finite weights whose outputs are not.
    let weight = build::f32s(&[3e38, 3e38, 3e38]);
    home.write("huge.onnx", build::bytes(&build::model(vec![raw("weight", &weight)], vec![])));
    home.rows("huge.npy", &[[3e38, 3e38, 3e38]]);
    home.fails(
        "forget huge.onnx --forget huge.npy --retain r.npy --alpha 1.5 -o out.onnx",
        7,
        &["'weight'", "not finite"],
    );
}

#[test]
fn alphas_that_select_nothing() {
    let home = Home::small();
    // |D| / |D_f| = 7 / 2.
    let why = ["alpha 4", "3.50", "7 / 2", "smaller --alpha"];
    home.fails(&with("1.5", "4"), 8, &why);
    home.fails(&with("1.5", "3.5"), 8, &["alpha 3.5"]);
    home.rows("d.npy", &[[1.0, 2.0, 3.0], [0.5, 0.25, 4.0], [0.25, 0.5, 3.0]]);
    home.fails(&with("--retain r.npy --alpha 1.5", "--full d.npy --alpha 2"), 8, &["alpha 2", "3 / 2"]);
    home.ok("importance m.onnx --data f.npy -o f.profile -q");
    let dampen = "dampen m.onnx --forget-profile f.profile --profile f.profile -o out.onnx --alpha 1.5";
    home.fails(dampen, 8, &["selects no weight", "largest ratio", "smaller --alpha"]);
}

#[test]
fn operators_and_opsets_that_are_not_supported() {
    let home = Home::small();
    let mut nodes = vec![node("Add", &["x", "bias"], &["v0"])];
    for (i, op) in ["Twist", "Turn", "Twist"].into_iter().enumerate() {
        nodes.push(node(op, &[&format!("v{i}")], &[&format!("v{}", i + 1)]));
        nodes.last_mut().unwrap().domain = "org.example".into();
    }
    nodes.push(node("Identity", &["v3"], &["y"]));
    let mut model = with_nodes(nodes, vec![raw("bias", &build::f32s(&[1.0, 2.0, 3.0]))]);
    model.opset_import.push(OperatorSetIdProto { domain: "org.example".into(), version: 1, ..Default::default() });
    home.write("new.onnx", build::bytes(&model));
    home.fails(&with("m.onnx", "new.onnx"), 4, &["org.example.Twist", "2", "org.example.Turn"]);
    let shown = home.json("inspect new.onnx");
    assert_eq!(shown["unsupported"], serde_json::json!(["org.example.Turn", "org.example.Twist"]));
    for version in [6, 27] {
        let mut model = small_model();
        model.opset_import[0].version = version;
        home.write("opset.onnx", build::bytes(&model));
        let parts = ["opset.onnx", &format!("opset {version}"), "7 to 26"];
        home.fails(&with("m.onnx", "opset.onnx"), 4, &parts);
    }
}

#[test]
fn names_that_are_not_there() {
    let home = Home::small();
    home.fails(&format!("{FORGET} --include none*"), 2, &["--include", "none*", "inspect"]);
    home.fails(&format!("{FORGET} --exclude none*"), 2, &["--exclude", "none*"]);
    home.fails(&format!("{FORGET} --outputs none"), 2, &["m.onnx", "'none'", "y"]);
    home.fails(&format!("{FORGET} --objective fisher"), 2, &["fisher", "labels"]);
}

#[test]
fn profiles_that_do_not_fit() {
    let home = Home::small();
    let mut other = small_model();
    other.producer_name = "another".into();
    home.write("other.onnx", build::bytes(&other));
    home.ok("importance other.onnx --data r.npy -o other.profile -q");
    home.ok("importance m.onnx --data r.npy -o prob.profile --objective prob -q");
    home.ok("importance m.onnx --data r.npy -o batch.profile --reduction batch --batch-size 2 -q");
    home.ok("importance m.onnx --data f.npy -o f.profile -q");
    home.write("text.profile", "no profile");
    let bare = safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView)>::new(), None).unwrap();
    home.write("bare.profile", bare);
    let cases: [(&str, &[&str]); 5] = [
        ("other.profile", &["other.profile", "another model"]),
        ("text.profile", &["text.profile", "safetensors"]),
        ("bare.profile", &["bare.profile", "not an importance profile"]),
        ("prob.profile", &["objective", "prob", "sq-l2"]),
        ("batch.profile", &["reduction", "batch", "sample"]),
    ];
    for (profile, parts) in cases {
        home.fails(&with("--retain r.npy", &format!("--profile {profile}")), 3, parts);
        let line = format!("dampen m.onnx --forget-profile f.profile --profile {profile} --alpha 1.5 -o out.onnx");
        home.fails(&line, 3, parts);
    }
    // A chosen alpha needs data to be tried on.
    let line = "forget m.onnx --forget f.npy --profile f.profile -o out.onnx";
    home.fails(line, 2, &["--alpha auto", "give a number"]);
}

#[test]
fn command_lines_that_make_no_sense() {
    let home = Home::small();
    let before = home.content();
    let cases = [
        ("", "Usage"),
        ("remember m.onnx", "remember"),
        ("forget m.onnx", "--forget"),
        ("forget m.onnx --forget f.npy -o out.onnx", "--retain"),
        (&format!("{FORGET} --full r.npy"), "--full"),
        (&format!("{FORGET} --speed 3"), "--speed"),
        (&with("1.5", "many"), "a number, or auto"),
        (&with("1.5", "2 --objective none"), "sq-l2"),
        (&with("1.5", "2 --device gpu"), "cuda:N"),
        (&with("1.5", "2 --batch-size 0"), "--batch-size"),
    ];
    for (line, part) in cases {
        let found = home.run(line);
        assert_eq!((found.code, found.out.as_str()), (2, ""), "{line}: {found:?}");
        assert!(found.err.contains(part), "{line}: {}", found.err);
    }
    for (line, part) in [("--alpha=-1", "--alpha"), ("--alpha=nan", "--alpha"), ("--lambda=-1", "--lambda")] {
        let found = home.run(&with("--alpha 1.5", line).replace("--lambda", "--alpha 1.5 --lambda"));
        assert_eq!((found.code, found.out.as_str()), (2, ""), "{line}: {found:?}");
        assert_message(&found.err, &[part], line);
    }
    super::assert_same(&before, &home.content(), "usage");
}
