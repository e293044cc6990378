//! A new model that fails a guard is not handed over.

use super::schema::assert_report;
use super::{Home, RESNET, assert_message, small_model, trained};
use crate::model::build;
use std::fs;

/// Five samples of the digits that are kept: to forget them with a small alpha ruins the model.
fn careless() -> (Home, String) {
    let home = Home::new();
    home.digits("f.npy", 0, 5);
    home.digits("r.npy", 0, 40);
    let model = trained(RESNET);
    (home, format!("forget {model} --forget f.npy --retain r.npy --alpha 1 --threads 1 -o out.onnx --report report"))
}

#[test]
fn a_careless_alpha_is_refused() {
    let (home, line) = careless();
    let found = home.run(&line);
    assert_eq!(found.code, 9, "{found:?}");
    assert_message(&found.err, &["a guard failed", "retained_agreement", "0.95", "--force"], &line);
    assert!(found.out.contains("FAILED") && found.out.contains("a guard failed: nothing was written"), "{}", found.out);
    assert!(!home.path("out.onnx").exists());
    let report = home.read_json("report/report.json");
    assert_report(&report);
    assert_eq!(report["status"], "guard_failed");
    assert!(report["output"].is_null());
    let guards = report["guards"].as_array().unwrap();
    let failed: Vec<_> = guards.iter().filter(|g| g["passed"] == false).map(|g| &g["name"]).collect();
    assert_eq!(failed, ["retained_agreement"]);
}

#[test]
fn force_writes_all_the_same_and_says_so() {
    let (home, line) = careless();
    let shown = home.ok(&format!("{line} --force"));
    assert!(shown.contains("wrote out.onnx although a guard failed"), "{shown}");
    let report = home.read_json("report/report.json");
    assert_report(&report);
    assert_eq!(report["status"], "forced");
    // What was forced is still refused by the check of its own.
    let line =
        format!("validate {} out.onnx --forget f.npy --retain r.npy --threads 1 --report found", trained(RESNET));
    let found = home.run(&line);
    assert_eq!(found.code, 9, "{found:?}");
    assert_message(&found.err, &["retained_agreement", "must not be deployed"], &line);
    assert!(home.read_json("found/report.json")["guards"].is_array());
    assert!(home.path("out.onnx").exists());
}

#[test]
fn limits_are_options_and_a_dry_run_writes_nothing() {
    let home = Home::small();
    let line = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 -o out.onnx";
    home.ok(&format!("{line} --dry-run --min-retained-agreement 0"));
    let strict = home.run(&format!("{line} --dry-run --min-retained-agreement 1.5"));
    assert_eq!(strict.code, 9, "{strict:?}");
    let strict = home.run(&format!("{line} --max-runtime-difference=-1 --min-retained-agreement 0"));
    assert_eq!(strict.code, 9, "{strict:?}");
    assert_message(&strict.err, &["runtimes_agree"], line);
    assert!(!home.path("out.onnx").exists());
    home.ok(&format!("{line} --dry-run --min-retained-agreement 0 --report dry"));
    let report = home.read_json("dry/report.json");
    assert_report(&report);
    assert_eq!(report["status"], "dry_run");
    assert!(!home.path("out.onnx").exists() && report["output"].is_null());
}

/// A model that a second runtime takes for another is one that fails.
#[test]
fn models_that_do_not_fit_together_are_told() {
    let home = Home::small();
    fs::copy(trained(super::VIT), home.path("vit.onnx")).unwrap();
    home.fails("validate m.onnx vit.onnx --forget f.npy --retain r.npy", 3, &["vit.onnx", "input"]);
}

/// The new model is run on as many samples as asked for, spread over the set, and on all where two are compared.
#[test]
fn the_number_of_checked_samples_is_an_option() {
    let home = Home::new();
    home.digits("f.npy", 12, 0);
    home.digits("r.npy", 0, 150);
    let model = trained(RESNET);
    let samples = |line: &str| {
        let report = home.json(line);
        ["forget", "retain"].map(|set| report["validation"][set]["samples"].as_u64().unwrap())
    };
    let line = format!("forget {model} --forget f.npy --retain r.npy --alpha 2 -o out.onnx --dry-run --batch-size 16");
    assert_eq!(samples(&line), [12, 150]);
    assert_eq!(samples(&format!("{line} --check-samples 70")), [12, 70]);
    assert_eq!(samples(&format!("{line} --check-samples 0")), [12, 150]);
    let line = format!("validate {model} {model} --forget f.npy --retain r.npy");
    assert_eq!(samples(&line), [12, 150]);
    assert_eq!(samples(&format!("{line} --check-samples 5")), [5, 5]);
}

/// Models of other batch sizes are compared sample by sample, in both runtimes; a size of 0 is an open one.
#[test]
fn batch_sizes_may_differ() {
    let home = Home::small();
    home.rows("f.npy", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0].map(|x| [x, 0.5, 3.5]));
    for samples in [0, 4, 16] {
        let mut model = small_model();
        let graph = model.graph.mut_or_insert_default();
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            let tensor = value.type_.mut_or_insert_default().mut_tensor_type();
            tensor.shape.mut_or_insert_default().dim[0].set_dim_value(samples);
        }
        home.write(&format!("of{samples}.onnx"), build::bytes(&model));
    }
    let pairs = ["m.onnx of4.onnx", "m.onnx of16.onnx", "of4.onnx m.onnx", "of4.onnx of16.onnx", "of16.onnx of4.onnx"];
    for pair in pairs.into_iter().chain(["of0.onnx of4.onnx", "m.onnx of0.onnx"]) {
        let report = home.json(&format!("validate {pair} --forget f.npy --retain r.npy"));
        for (set, samples) in [("forget", 7), ("retain", 5)] {
            assert_eq!(report["validation"][set]["samples"], samples, "{pair}");
            assert_eq!(report["validation"][set]["top1_agreement"], 1.0, "{pair}");
        }
        assert!(report["guards"].as_array().unwrap().iter().all(|guard| guard["passed"] == true), "{pair}: {report}");
    }
}
