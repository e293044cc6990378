//! The command as its users meet it: the real program, its files, its exit codes and its words.

mod classical;
mod faults;
mod grad;
mod guards;
mod job;
mod killed;
mod output;
mod place;
mod resume;
mod runtime;
mod schema;
mod shards;
mod shown;
mod sweep;
mod types;

use crate::model::build::{self, node, raw};
use assert_cmd::Command;
use ndarray::{Array2, ArrayD};
use ndarray_npy::WriteNpyExt;
use onnx_protobuf::{ModelProto, NodeProto};
use onnx_unlearn::data::{Batch, DataSet, InputSpec, Limits};
use onnx_unlearn::tensor::{DType, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_onnx-unlearn");
const RESNET: &str = "resnet18_torchscript.onnx";
const VIT: &str = "vit_dynamo.onnx";

/// One of the trained models.
fn trained(name: &str) -> String {
    format!("{}/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A folder in which the command runs; files in it are named without a path.
struct Home(TempDir);

/// What a run of the command left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command, ready to run in the folder, not steered by the caller's environment.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.0.path()).env_remove("ORT_DYLIB_PATH").env_remove("ONNX_UNLEARN_RUNTIME");
        command.args(line.split_whitespace());
        command
    }

    /// Runs a command line; arguments hold no spaces.
    fn run(&self, line: &str) -> Ran {
        ran(&mut self.command(line))
    }

    /// Runs a command line that must succeed; gives standard output.
    fn ok(&self, line: &str) -> String {
        let found = self.run(line);
        assert_eq!(found.code, 0, "{line}: {found:?}");
        found.out
    }

    /// Runs a command line with `--json`, which must succeed.
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }

    /// Runs a command line that must fail: with this code, one line on standard error that holds all
    /// `parts`, nothing on standard output, and every file in the folder as it was.
    fn fails(&self, line: &str, code: i32, parts: &[&str]) {
        let before = self.content();
        let found = self.run(line);
        assert_eq!(found.code, code, "{line}: {found:?}");
        assert_eq!(found.out, "", "{line}");
        assert_message(&found.err, parts, line);
        assert_same(&before, &self.content(), line);
    }

    /// Every file, folder and link below the folder, with its bytes.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn list(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    list(&path, found);
                }
                found.insert(path.clone(), fs::read(path).unwrap_or_default());
            }
        }
        let mut found = BTreeMap::new();
        list(self.0.path(), &mut found);
        found
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn read_json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Rows of three numbers as the data for a small model.
    fn rows(&self, name: &str, rows: &[[f32; 3]]) {
        self.npy(name, &Array2::from(rows.to_vec()).into_dyn());
    }

    fn npy<T: ndarray_npy::WritableElement>(&self, name: &str, array: &ArrayD<T>) {
        array.write_npy(fs::File::create(self.path(name)).unwrap()).unwrap();
    }

    /// Samples of the digits that were held out: `forgotten` of the digit to forget, then `kept` others.
    fn digits(&self, name: &str, forgotten: usize, kept: usize) {
        let mut parts = Vec::new();
        for (set, count) in [("test_forget", forgotten), ("test_retain", kept)] {
            if count > 0 {
                parts.push(first(set, count));
            }
        }
        let images: Vec<_> = parts.iter().map(|batch| array(&batch.inputs["input"]).view()).collect();
        let images = ndarray::concatenate(ndarray::Axis(0), &images).unwrap();
        if name.ends_with(".npy") {
            return self.npy(name, &images);
        }
        let labels: Vec<i64> = parts.iter().flat_map(|batch| batch.labels.clone().unwrap()).collect();
        let images_bytes: Vec<u8> = images.iter().flat_map(|x| x.to_le_bytes()).collect();
        let labels_bytes: Vec<u8> = labels.iter().flat_map(|x| x.to_le_bytes()).collect();
        let views = [
            ("input", TensorView::new(Dtype::F32, images.shape().to_vec(), &images_bytes).unwrap()),
            ("labels", TensorView::new(Dtype::I64, vec![labels.len()], &labels_bytes).unwrap()),
        ];
        self.write(name, safetensors::serialize(views, None).unwrap());
    }

    /// A small model `m.onnx` and data for it: `f.npy` and `r.npy`, three numbers a sample. The samples to
    /// forget live in the last number, which the others leave alone.
    fn small() -> Home {
        let home = Home::new();
        home.write("m.onnx", build::bytes(&small_model()));
        home.rows("f.npy", &[[0.5, 0.25, 4.0], [0.25, 0.5, 3.0]]);
        home.rows("r.npy", &[[3.0, 1.0, 0.0], [1.0, 3.0, 0.0], [2.0, 0.5, 0.0], [0.5, 2.0, 0.0], [4.0, 1.0, 0.0]]);
        home
    }
}

fn first(set: &str, count: usize) -> Batch {
    let path = format!("{}/fixtures/digits/{set}.npz", env!("CARGO_MANIFEST_DIR"));
    let spec = InputSpec { name: "input".into(), dtype: DType::F32, shape: vec![None, Some(1), Some(32), Some(32)] };
    let all = DataSet::open(Path::new(&path), &[spec], &Limits::default()).unwrap();
    let few = all.select(&(0..count).collect::<Vec<_>>()).unwrap();
    few.batches(count).next().unwrap().unwrap()
}

fn array(tensor: &Tensor) -> &ArrayD<f32> {
    match tensor {
        Tensor::F32(array) => array,
        other => panic!("{} in place of float32", other.dtype()),
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// `err` is one line, says that it is an error, and holds all `parts`.
fn assert_message(err: &str, parts: &[&str], line: &str) {
    assert!(err.starts_with("error: ") && err.ends_with('\n') && err.lines().count() == 1, "{line}: {err}");
    for part in parts {
        assert!(err.contains(part), "{line}: no '{part}' in: {err}");
    }
    // A cause is told once.
    for cause in ["(os error", "there is no output"] {
        assert!(err.matches(cause).count() <= 1, "{line}: {err}");
    }
}

/// Two JSON values are the same, numbers but for rounding: outputs of the original come from the graph that its
/// importance was computed with, or from its own.
fn assert_near(found: &Value, expected: &Value, what: &str) {
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}: {a}, expected {b}");
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{what}: {found}, expected {expected}");
            b.iter().for_each(|(key, value)| assert_near(&a[key], value, &format!("{what}, {key}")));
        }
        _ => assert_eq!(found, expected, "{what}"),
    }
}

fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>, line: &str) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{line}");
    assert!(before == after, "{line}: an input was changed");
}

/// `y = x · weight + bias`, three numbers to three.
fn small_model() -> ModelProto {
    let weight = Tensor::new(&[3, 3], vec![1.0f32, 0.0, 0.25, 0.0, 1.0, 0.25, 0.5, 0.25, 2.0]).unwrap();
    let bias = build::f32s(&[0.25, 0.5, 0.125]);
    with_nodes(
        vec![node("MatMul", &["x", "weight"], &["product"]), node("Add", &["product", "bias"], &["y"])],
        vec![raw("weight", &weight), raw("bias", &bias)],
    )
}

/// A model of these nodes from `x` to `y`.
fn with_nodes(nodes: Vec<NodeProto>, initializers: Vec<onnx_protobuf::TensorProto>) -> ModelProto {
    let mut model = build::model(initializers, vec![]);
    model.graph.mut_or_insert_default().node = nodes;
    model
}
