//! Where the new files go: never over an input, never half.

use super::{Home, small_model};
use crate::model::build::{self, external, raw};
use std::fs;

const FORGET: &str = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 -q";

#[test]
fn the_output_is_none_of_the_inputs() {
    let home = Home::small();
    fs::hard_link(home.path("m.onnx"), home.path("hard.onnx")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("m.onnx", home.path("soft.onnx")).unwrap();
    fs::create_dir(home.path("folder")).unwrap();
    for output in ["m.onnx", "./m.onnx", "folder/../m.onnx", "hard.onnx", "soft.onnx", "f.npy", "r.npy"] {
        home.fails(&format!("{FORGET} -o {output}"), 2, &[output, "inputs"]);
        home.fails(&format!("{FORGET} -o {output} --force"), 2, &[output, "inputs"]);
    }
    home.fails("importance m.onnx --data r.npy -o m.onnx", 2, &["m.onnx", "inputs"]);
    home.fails("importance m.onnx --data r.npy -o r.npy", 2, &["r.npy", "inputs"]);
    home.ok("importance m.onnx --data f.npy -o f.profile -q");
    home.ok("importance m.onnx --data r.npy -o r.profile -q");
    for output in ["m.onnx", "f.profile", "r.profile"] {
        let line = "dampen m.onnx --forget-profile f.profile --profile r.profile --alpha 0.5";
        home.fails(&format!("{line} -o {output}"), 2, &[output, "inputs"]);
    }
    home.fails("forget m.onnx --forget f.npy --profile r.profile --alpha 1 -o r.profile", 2, &["r.profile", "inputs"]);
}

#[test]
fn the_output_is_no_file_that_an_input_refers_to() {
    let home = Home::small();
    let weight = build::f32s(&[1.0, 2.0, 3.0]);
    let outside = external(raw("weight", &weight), &[("location", "weights.bin")]);
    home.write("weights.bin", weight.to_le_bytes());
    home.write("large.onnx", build::bytes(&build::model(vec![outside], vec![])));
    fs::create_dir_all(home.path("sets/test_data_set_0")).unwrap();
    let row = onnx_unlearn::tensor::Tensor::new(&[1, 3], vec![1.0f32, 2.0, 3.0]).unwrap();
    home.write("sets/test_data_set_0/input_0.pb", protobuf::Message::write_to_bytes(&raw("x", &row)).unwrap());
    for output in ["weights.bin", "sets/test_data_set_0/input_0.pb"] {
        let forget = "forget large.onnx --forget f.npy --retain sets --alpha 1";
        home.fails(&format!("{forget} -o {output}"), 2, &[output, "inputs"]);
        home.fails(&format!("importance large.onnx --data sets -o {output}"), 2, &[output, "inputs"]);
    }
    home.ok("importance large.onnx --data sets -o profile -q");
}

#[test]
fn folders_that_cannot_be_written_to() {
    let home = Home::small();
    fs::create_dir(home.path("folder")).unwrap();
    home.fails(&format!("{FORGET} -o none/out.onnx"), 6, &["none", "does not exist"]);
    home.fails(&format!("{FORGET} -o folder"), 6, &["folder", "is a folder"]);
    home.fails(&format!("{FORGET} -o f.npy/out.onnx"), 6, &["f.npy", "does not exist"]);
    home.fails("importance m.onnx --data r.npy -o none/p", 6, &["none", "does not exist"]);
    #[cfg(target_os = "linux")]
    home.fails(&format!("{FORGET} -o /proc/out.onnx"), 6, &["/proc", "cannot be written to"]);
}

/// A report that cannot be written is found before the model is.
#[test]
fn reports_that_cannot_be_written() {
    let home = Home::small();
    home.ok("importance m.onnx --data f.npy -o f.profile -q");
    home.ok("importance m.onnx --data r.npy -o r.profile -q");
    let dampen = "dampen m.onnx --forget-profile f.profile --profile r.profile --alpha 0.5 -q";
    for line in [FORGET, dampen] {
        home.fails(&format!("{line} -o out.onnx --report f.npy"), 6, &["f.npy"]);
        home.fails(&format!("{line} -o ./report.json --report ."), 2, &["report.json", "two paths"]);
        #[cfg(target_os = "linux")]
        home.fails(&format!("{line} -o out.onnx --report /proc/reports"), 6, &["/proc"]);
    }
}

#[test]
fn an_earlier_output_is_replaced_only_by_a_whole_one() {
    let home = Home::small();
    home.write("out.onnx", "from before");
    home.fails(&format!("{} -o out.onnx", FORGET.replace("1.5", "9")), 8, &["alpha 9"]);
    assert_eq!(home.read("out.onnx"), b"from before");
    home.ok(&format!("{FORGET} -o out.onnx --min-retained-agreement 0"));
    assert_eq!(home.read("out.onnx").len(), build::bytes(&small_model()).len());
}

/// External data goes beside the new model, and the new model reads it there.
#[test]
fn external_data_goes_with_the_model() {
    let home = Home::small();
    let weight = build::f32s(&[1.0, 2.0, 3.0]);
    let outside = external(raw("weight", &weight), &[("location", "weights.bin")]);
    home.write("weights.bin", weight.to_le_bytes());
    home.write("m.onnx", build::bytes(&build::model(vec![outside], vec![])));
    home.fails(&format!("{FORGET} -o out.onnx"), 2, &["weights.bin", "another folder"]);
    fs::create_dir(home.path("new")).unwrap();
    home.ok(&format!("{FORGET} -o new/out.onnx --min-retained-agreement 0"));
    assert_eq!(home.read("new/out.onnx"), home.read("m.onnx"));
    assert_eq!(home.json("diff m.onnx new/out.onnx")["tensors"][0]["name"], "weight");
}
