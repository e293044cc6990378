//! Forgetting against retention over alpha and lambda.

use super::{Home, RESNET, VIT, assert_near, trained};
use serde_json::Value;

/// The numbers of each point are those of `forget`, and of `dampen` and `validate`, with its alpha and lambda.
fn points_are_single_runs(home: &Home, model: &str, options: &str, grid: &str) {
    let data = format!("{model} --forget f.safetensors --retain r.safetensors {options}");
    let found = home.json(&format!("sweep {data} {grid} --save-profiles -o here/s"));
    assert_eq!(found, home.read_json("here/s/sweep.json"));
    super::schema::assert_sweep(&found);
    assert_eq!(found["format"], "onnx-unlearn.sweep.v1");
    let guards = "--min-retained-agreement 0 --force";
    let mut selected = 0;
    for point in found["points"].as_array().unwrap() {
        let factors = format!("--alpha {} --lambda {}", point["alpha"], point["lambda"]);
        if point["selected_weights"] == 0 {
            assert_eq!(home.run(&format!("forget {data} {factors} -o none.onnx")).code, 8);
            continue;
        }
        selected += 1;
        let report = home.json(&format!("forget {data} {factors} {guards} -o a.onnx"));
        for key in ["selected_weights", "validation"] {
            assert_eq!(report[key], point[key], "{factors}: {key}");
        }
        assert_eq!(report["total_weights"], found["total_weights"]);
        let profiles = "--forget-profile here/s/forget.safetensors --profile here/s/full.safetensors";
        home.ok(&format!("dampen {model} {profiles} {factors} -o b.onnx"));
        assert!(home.read("a.onnx") == home.read("b.onnx"), "{factors}: forget and dampen differ");
        let sets = "--forget f.safetensors --retain r.safetensors --threads 1 --min-retained-agreement 0";
        let checked = home.json(&format!("validate {model} b.onnx {sets}"));
        assert_near(&checked["validation"], &point["validation"], &factors);
    }
    assert!(selected >= 2, "{found}");
}

fn home() -> Home {
    let home = Home::new();
    home.digits("f.safetensors", 12, 0);
    home.digits("r.safetensors", 0, 40);
    home
}

#[test]
fn resnet_points_are_single_runs() {
    points_are_single_runs(&home(), &trained(RESNET), "--batch-size 8 --threads 1", "--alphas 3,1.5 --lambdas 1");
}

#[test]
fn vit_points_are_single_runs() {
    points_are_single_runs(&home(), &trained(VIT), "--threads 1", "--alphas 2 --lambdas 0.5,1");
}

/// The small model, with a grid chosen by the program.
#[test]
fn a_grid_from_the_data() {
    let home = Home::small();
    let line = "sweep m.onnx --forget f.npy --retain r.npy";
    let found = home.json(&format!("{line} -o s"));
    let numbers = |key: &str| -> Vec<f64> {
        found["points"].as_array().unwrap().iter().map(|p| p[key].as_f64().unwrap()).collect()
    };
    let (alphas, selected, highest) = (numbers("alpha"), numbers("selected_weights"), &found["largest_ratio"]);
    assert_eq!((alphas[0], alphas.len(), numbers("lambda")), (1.0, 10, vec![1.0; 10]));
    assert!(alphas.is_sorted() && alphas[9] < highest.as_f64().unwrap(), "{found}");
    assert!(selected.is_sorted_by(|a, b| a >= b) && selected[9] > 0.0, "{found}");
    let mut left: Vec<_> = home.content().into_keys().collect();
    left.retain(|path| path.starts_with(home.path("s")));
    assert_eq!(left, ["s", "s/sweep.csv", "s/sweep.json"].map(|name| home.path(name)));

    // The table for spreadsheets holds the same numbers.
    let csv = String::from_utf8(home.read("s/sweep.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    for (line, point) in lines.zip(found["points"].as_array().unwrap()) {
        for (&title, &field) in header.iter().zip(&line) {
            let value = match title.split_once('_') {
                Some((set @ ("forget" | "retain"), name)) => &point["validation"][set][name],
                _ => &point[title],
            };
            let (expected, found) = (value.as_f64(), field.parse::<f64>().ok());
            assert_eq!(expected.is_none(), field.is_empty(), "{title}: {field}");
            // The reader of JSON rounds the last digit.
            let same = expected.zip(found).is_none_or(|(a, b)| (a - b).abs() <= 1e-12 * a.abs());
            assert!(same && expected.is_some() == found.is_some(), "{title}: {field}, {expected:?}");
        }
    }
    assert_eq!(csv.lines().count(), 11);
    // Again, into the same folder, the same.
    assert_eq!(home.json(&format!("{line} -o s")), found);
}

/// Without retained data of its own, retention is not compared, and that is said.
#[test]
fn other_references() {
    let home = Home::small();
    home.rows("d.npy", &[[0.5, 0.25, 4.0], [0.25, 0.5, 3.0], [3.0, 1.0, 0.0], [1.0, 3.0, 0.0]]);
    let line = "sweep m.onnx --forget f.npy --alphas 1.2,1.4";
    let full = home.run(&format!("{line} --full d.npy -o s --save-profiles --json"));
    assert!(full.err.contains("warning: retained behaviour was not compared"), "{full:?}");
    let full: Value = serde_json::from_str(&full.out).unwrap();
    assert!(full["points"][0]["validation"]["retain"].is_null());
    let saved = home.json(&format!("{line} --profile s/full.safetensors -o t --save-profiles"));
    assert_eq!(saved["points"], full["points"]);
    assert_eq!(home.read("s/forget.safetensors"), home.read("t/forget.safetensors"));
    assert!(!home.path("t/full.safetensors").exists(), "it was read from a profile");
    // Far above what can be selected.
    let none = home.run("sweep m.onnx --forget f.npy --full d.npy --alphas 50 -o u");
    assert_eq!(none.code, 0);
    assert!(none.err.contains("no alpha selects a weight") && none.out.contains("0.00 %"), "{none:?}");
}

#[test]
fn what_cannot_be_swept_is_refused() {
    let home = Home::small();
    let line = "sweep m.onnx --forget f.npy --retain r.npy";
    std::fs::create_dir(home.path("s")).unwrap();
    std::fs::copy(home.path("r.npy"), home.path("s/sweep.npy")).unwrap();
    home.ok("importance m.onnx --data r.npy -o s/forget.safetensors -q");
    home.fails(&format!("{line} --alphas=1,-2 -o s"), 2, &["--alphas", "-2"]);
    home.fails(&format!("{line} --alphas 1 --lambdas nan -o s"), 2, &["--lambdas", "NaN"]);
    home.fails(&format!("{line} -o f.npy"), 6, &["f.npy"]);
    home.fails(&format!("{line} -o none/none --outputs none"), 2, &["'none'"]);
    let profile = "sweep m.onnx --forget f.npy --profile s/forget.safetensors -o s --alphas 2 --save-profiles";
    home.fails(profile, 2, &["s/forget.safetensors", "inputs"]);
    #[cfg(target_os = "linux")]
    home.fails(&format!("{line} -o /proc/s"), 6, &["/proc"]);
    let found = home.run(&format!("{line} --alphas many -o s"));
    assert_eq!((found.code, found.err.contains("--alphas")), (2, true), "{found:?}");
}
