//! What a user sees.

use super::{Home, trained};
use std::fs;

/// No line is wider than 80 columns, but for lines that begin so.
pub fn assert_narrow(text: &str, but: &[&str]) {
    for line in text.lines().filter(|line| !but.iter().any(|start| line.starts_with(start))) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end());
    }
}

/// The text with the version of the runtime left out.
fn lasting(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("ONNX Runtime ") {
        Some(at) => format!("{}ONNX Runtime …\n", &line[..at]),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn help() {
    let home = Home::new();
    insta::assert_snapshot!("help", home.ok("--help"));
    insta::assert_snapshot!("help_forget", home.ok("forget -h"));
    insta::assert_snapshot!("help_grad", home.ok("grad -h"));
    insta::assert_snapshot!("help_importance", home.ok("importance -h"));
    insta::assert_snapshot!("help_merge", home.ok("merge -h"));
    insta::assert_snapshot!("help_sweep", home.ok("sweep -h"));
}

/// A model of few numbers, all of them exact, so that the tables are the same everywhere.
#[test]
fn tables() {
    let home = Home::small();
    let forget = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 -o out.onnx";
    let shown = [
        ("inspect", "inspect m.onnx".to_owned()),
        ("dry_run", format!("{forget} --dry-run")),
        ("forget", forget.to_owned()),
        ("diff", "diff m.onnx out.onnx".into()),
        ("diff_same", "diff m.onnx m.onnx".into()),
        ("validate", "validate m.onnx out.onnx --forget f.npy --retain r.npy".into()),
        ("grad", "grad m.onnx -o g.onnx".into()),
        ("importance", "importance m.onnx --data f.npy -o profile".into()),
        ("shard", "importance m.onnx --data r.npy --batch-size 1 --shard 1/3 -o part".into()),
        ("merge", "merge part -o parts".into()),
        ("sweep", "sweep m.onnx --forget f.npy --retain r.npy -o folder".into()),
        ("sweep_full", "sweep m.onnx --forget f.npy --full r.npy --alphas 0.5 --lambdas 0.5,1 -o folder".into()),
        (
            "dampen",
            "dampen m.onnx --forget-profile profile --profile profile --alpha 0.5 --lambda 0.5 -o o.onnx".into(),
        ),
    ];
    for (name, line) in shown {
        let text = home.ok(&line);
        assert_narrow(&text, &[]);
        insta::assert_snapshot!(name, lasting(&text));
    }
}

#[test]
fn the_trained_models_are_shown_in_eighty_columns() {
    let home = Home::new();
    let folder = trained("");
    let models = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let models: Vec<_> = models.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    assert!(models.len() >= 6);
    for path in models {
        // A short path, as a user in the folder gives.
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::copy(&path, home.path(name)).unwrap();
        let text = home.ok(&format!("inspect {name}"));
        assert_narrow(&text, &[]);
        let unsupported = text.lines().find_map(|line| line.strip_prefix("unsupported")).unwrap();
        assert_eq!(unsupported.trim(), "none", "{name}");
    }
}
