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
    home.fails(&format!("{FORGET} --device cuda"), 4, &["CUDA", "cannot be used", "--device cpu"]);
    home.fails(&format!("{FORGET} --device cuda:1"), 4, &["CUDA", "cannot be used"]);
    let report = home.json(&format!("{FORGET} --device auto"));
    assert_eq!(report["runtime"]["provider"], "CPUExecutionProvider");
}
