//! Without ONNX Runtime, with a broken one, and on a device that is not there.

use super::{Home, PROGRAM, Ran, assert_message, ran};
use assert_cmd::Command;

const FORGET: &str = "forget m.onnx --forget f.npy --retain r.npy --alpha 1.5 --min-retained-agreement 0 -o out.onnx";

/// The command where no ONNX Runtime is to be found.
struct Bare(Home);

impl Bare {
    fn new() -> Bare {
        let home = Home::small();
        std::fs::create_dir_all(home.path("a/b/c")).unwrap();
        std::fs::copy(PROGRAM, home.path("a/b/c/onnx-unlearn")).unwrap();
        Bare(home)
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = Command::new(self.0.path("a/b/c/onnx-unlearn"));
        command.current_dir(self.0.path("")).args(line.split(' ')).env("HOME", self.0.path("a/b"));
        for name in ["XDG_DATA_HOME", "ORT_DYLIB_PATH", "ONNX_UNLEARN_RUNTIME"] {
            command.env_remove(name);
        }
        ran(&mut command)
    }

    /// Whether the machine itself has ONNX Runtime in its library folders.
    fn installed(&self) -> bool {
        !self.run("runtime show").out.contains("embedded")
    }
}

#[test]
fn without_a_runtime_the_embedded_one_serves() {
    let bare = Bare::new();
    if bare.installed() {
        return;
    }
    let before = bare.0.content();
    let found = bare.run(&format!("{FORGET} --runtime onnxruntime"));
    assert_eq!((found.code, found.out.as_str()), (6, ""), "{found:?}");
    assert_message(&found.err, &["ONNX Runtime was not found", "runtime install", "--runtime tract"], FORGET);
    let found = bare.run(&format!("{FORGET} --device cuda"));
    assert_eq!((found.code, found.out.as_str()), (6, ""), "{found:?}");
    super::assert_same(&before, &bare.0.content(), FORGET);

    let found = bare.run(&format!("{FORGET} --json"));
    assert_eq!(found.code, 0, "{found:?}");
    let warnings: Vec<&str> = found.err.lines().collect();
    assert!(warnings[0].starts_with("warning: using the embedded tract runtime: ONNX Runtime was not"), "{warnings:?}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].starts_with("warning: guard runtimes_agree was not checked"), "{warnings:?}");
    let report: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    super::schema::assert_report(&report);
    assert_eq!(report["runtime"]["name"], "tract");
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2);
    let asked = bare.run(&format!("{FORGET} --runtime tract --quiet"));
    assert_eq!((asked.code, asked.err.as_str()), (0, ""), "{asked:?}");
}

#[test]
fn a_broken_library_is_told_by_its_name() {
    let home = Home::small();
    home.write("broken.so", "not a library");
    let run = |line: &str, library: &str| ran(home.command(line).env("ORT_DYLIB_PATH", home.path(library)));
    let before = home.content();
    for library in ["broken.so", "none.so"] {
        let found = run(&format!("{FORGET} --runtime onnxruntime"), library);
        assert_eq!((found.code, found.out.as_str()), (6, ""), "{found:?}");
        assert_message(&found.err, &[library, "cannot be loaded"], FORGET);
    }
    super::assert_same(&before, &home.content(), FORGET);
    let found = run(FORGET, "broken.so");
    assert_eq!(found.code, 0, "{found:?}");
    assert!(found.err.starts_with("warning: using the embedded tract runtime: "), "{}", found.err);
    assert!(found.err.contains("broken.so"), "{}", found.err);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let home = Home::small();
    home.fails(&format!("{FORGET} --runtime tract --device cuda"), 4, &["--device cuda", "tract"]);
    let runtime = home.json("runtime show");
    let library = std::path::PathBuf::from(runtime["library"].as_str().unwrap());
    if library.with_file_name("libonnxruntime_providers_cuda.so").exists() {
        return;
    }
    home.fails(
        &format!("{FORGET} --device cuda"),
        4,
        &["CUDA", "cannot be used", "runtime install --cuda", "--device cpu"],
    );
    home.fails(&format!("{FORGET} --device cuda:1"), 4, &["CUDA", "cannot be used"]);
    let report = home.json(&format!("{FORGET} --device auto"));
    assert_eq!(report["runtime"]["provider"], "CPUExecutionProvider");
}

#[test]
fn the_report_tells_where_the_nodes_ran() {
    let home = Home::small();
    let report = home.json(&format!("{FORGET} --device cpu"));
    super::schema::assert_report(&report);
    let runtime = &report["runtime"];
    assert_eq!((&runtime["device"], &runtime["allow_tf32"]), (&"cpu".into(), &false.into()));
    let assignment = runtime["assignment"].as_array().unwrap();
    assert_eq!(assignment.len(), 1, "{assignment:?}");
    assert_eq!(assignment[0]["provider"], "CPUExecutionProvider");
    let count = |key: &str| assignment[0][key].as_u64().unwrap();
    assert!(count("products") > 0 && count("nodes") > count("products"), "{assignment:?}");
    let allowed = home.json(&format!("{FORGET} --device cpu --allow-tf32"));
    assert_eq!(allowed["runtime"]["allow_tf32"], true);
    let tract = home.json(&format!("{FORGET} --runtime tract"));
    assert_eq!((&tract["runtime"]["device"], &tract["runtime"]["assignment"]), (&"cpu".into(), &serde_json::json!([])));
}

#[test]
fn devices_are_told_by_their_number() {
    let home = Home::small();
    for device in ["cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "gpu", "cpu:0"] {
        let found = home.run(&format!("{FORGET} --device {device}"));
        assert_eq!(found.code, 2, "{found:?}");
    }
}

#[test]
fn what_would_be_used_is_shown() {
    let home = Home::small();
    let shown = home.json("runtime show");
    assert!(shown["providers"].as_array().unwrap().iter().any(|p| p == "CPUExecutionProvider"), "{shown}");
    assert!(shown["cuda"]["libraries"].is_array() && shown["cuda"]["advice"].is_array(), "{shown}");
    let text = home.ok("runtime show");
    assert!(text.contains("providers: ") && text.contains("library: "), "{text}");
    if shown["cuda"]["provider"].is_null() {
        assert!(text.contains("runtime install --cuda"), "{text}");
    }
}

/// A wheel of the right name that is another file is refused, and what was there stays.
#[test]
fn a_wheel_with_another_hash_is_not_installed() {
    let home = Home::new();
    home.write("onnxruntime_gpu-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl", "no wheel");
    for line in ["runtime install --find-links . --to here", "runtime install --cuda --find-links . --to here"] {
        let found = home.run(line);
        assert_eq!((found.code, found.out.as_str()), (6, ""), "{found:?}");
        assert_message(&found.err, &["installing ONNX Runtime", "onnxruntime"], line);
        assert!(!home.path("here").exists());
    }
    let usage = home.run("runtime install --system-cuda --to here");
    assert_eq!(usage.code, 2, "{usage:?}");
    let usage = home.run("runtime install --cuda 11 --to here");
    assert!(usage.code == 2 && usage.err.contains("13 or 12"), "{usage:?}");
}

/// ONNX Runtime's released libraries keep a number of the device and what they tell their maker in the user's folders.
#[test]
fn nobody_is_told_of_a_run() {
    let home = Home::small();
    std::fs::create_dir(home.path("user")).unwrap();
    let mut command = home.command("importance m.onnx --data f.npy --runtime onnxruntime -o profile");
    // Under continuous integration the library keeps quiet by itself.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name != "PATH") {
        command.env_remove(name);
    }
    let found = ran(command.env("HOME", home.path("user")));
    assert_eq!(found.code, 0, "{found:?}");
    let left: Vec<_> = std::fs::read_dir(home.path("user")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
