//! Standard output and standard error, for people and for programs.

use super::{Home, PROGRAM, node, raw, with_nodes};
use crate::model::build;
use serde_json::Value;
use std::process::{Command, Stdio};

const FORGET: &str = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 --min-retained-agreement 0 -o out.onnx";

/// A command line of each command, in an order in which all succeed.
const ALL: [&str; 11] = [
    "inspect m.onnx",
    FORGET,
    "importance m.onnx --data f.npy -o f.profile",
    "importance m.onnx --data r.npy -o r.profile",
    "merge f.profile r.profile -o d.profile",
    "sweep m.onnx --forget f.npy --retain r.npy --alphas 1.5 -o swept",
    "dampen m.onnx --forget-profile f.profile --profile r.profile --alpha 1.5 -o dampened.onnx",
    "validate m.onnx out.onnx --forget f.npy --retain r.npy --min-retained-agreement 0",
    "diff m.onnx out.onnx",
    "grad m.onnx -o g.onnx",
    "runtime show",
];

#[test]
fn every_command_prints_json() {
    let home = Home::small();
    let found: Vec<Value> = ALL.iter().map(|line| home.json(line)).collect();
    super::schema::assert_report(&found[1]);
    super::schema::assert_report(&found[6]);
    let keys = [
        "total_weights",
        "guards",
        "count",
        "count",
        "shard",
        "points",
        "guards",
        "validation",
        "tensors",
        "nodes",
        "version",
    ];
    for (value, key) in found.iter().zip(keys) {
        assert!(!value[key].is_null(), "{value}");
    }
}

#[test]
fn quiet_means_quiet() {
    let home = Home::small();
    for line in ALL {
        for quiet in ["-q", "--quiet --json"] {
            let found = home.run(&format!("{line} {quiet}"));
            assert_eq!((found.code, found.err.as_str()), (0, ""), "{line}");
            assert!(!found.out.is_empty(), "{line}");
        }
    }
}

/// A reader that goes away is no failure, on either stream.
#[test]
fn closed_streams_are_no_panic() {
    let home = Home::small();
    let run = |line: &str, stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(PROGRAM);
        command.args(line.split(' ')).current_dir(home.path("")).stdin(Stdio::null());
        command.stdout(stdout).stderr(stderr).output().unwrap()
    };
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for line in ALL.into_iter().chain(["--help", "--version", "forget --help"]) {
        let found = run(line, closed(), Stdio::piped());
        let err = String::from_utf8_lossy(&found.stderr);
        assert_eq!(found.status.code(), Some(0), "{line}: {err}");
        assert!(!err.contains("panicked"), "{line}: {err}");
    }
    assert_eq!(run("inspect none.onnx", closed(), closed()).status.code(), Some(6));
    assert_eq!(run("nonsense", closed(), closed()).status.code(), Some(2));
    // A warning, and a result.
    let found = run(&format!("{FORGET} --runtime tract"), Stdio::piped(), closed());
    assert_eq!(found.status.code(), Some(0));
}

/// A disk that is full is told, on standard output too.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let home = Home::small();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["inspect", "m.onnx"]).current_dir(home.path("")).stdout(full);
    let found = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(found.status.code(), Some(6));
    super::assert_message(&String::from_utf8(found.stderr).unwrap(), &["standard output", "No space"], "/dev/full");
}

#[test]
fn help_and_version_are_results() {
    let home = Home::new();
    assert_eq!(home.ok("--version"), format!("onnx-unlearn {}\n", env!("CARGO_PKG_VERSION")));
    for line in ["--help", "-h", "help", "forget --help", "help validate"] {
        let found = home.run(line);
        assert_eq!((found.code, found.err.as_str()), (0, ""), "{line}");
        assert!(found.out.contains("Usage: onnx-unlearn"), "{line}: {}", found.out);
    }
}

/// What a file says reaches no terminal unescaped.
#[test]
fn terminal_escapes_in_names_are_escaped() {
    const EVIL: &str = "w\u{1b}]0;evil\u{7}\n\u{9b}31m";
    let home = Home::small();
    let model = |third: f32| {
        let nodes = vec![node("Add", &["x", EVIL], &[EVIL2]), node("Identity", &[EVIL2], &["y"])];
        let mut model = with_nodes(nodes, vec![raw(EVIL, &build::f32s(&[1.0, 2.0, third]))]);
        model.producer_name = EVIL.into();
        build::bytes(&model)
    };
    const EVIL2: &str = "v\u{1b}[2J";
    home.write("m.onnx", model(3.0));
    home.write("n.onnx", model(4.0));
    home.write("nan.onnx", model(f32::NAN));
    home.write("named\u{1b}[31m.onnx", "text");
    let ends = [
        "--outputs none",
        "--include none",
        "--retain r.npy --full r.npy",
        "--objective none",
        "--alpha 90",
        "--report f.npy",
    ];
    let mut lines: Vec<String> = ALL.map(str::to_owned).to_vec();
    lines.extend(ends.map(|end| format!("{} {end}", FORGET.replace(" --alpha 1.5", ""))));
    lines.extend([FORGET.replace("m.onnx", "nan.onnx"), "diff m.onnx n.onnx".into(), "diff m.onnx nan.onnx".into()]);
    lines.push("inspect named\u{1b}[31m.onnx".into());
    lines.push(FORGET.replace("m.onnx", "named\u{1b}[31m.onnx"));
    lines.push(FORGET.replace("r.npy", "named\u{1b}[31m.onnx"));
    for line in lines {
        for end in ["", " --json", " -v"] {
            let found = home.run(&format!("{line}{end}"));
            let bad = |c: char| c.is_control() && c != '\n';
            assert!(!found.out.contains(bad) && !found.err.contains(bad), "{line}{end}: {found:?}");
        }
    }
}
