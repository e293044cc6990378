//! The new model in a second runtime: tract, in a child process with a limit on memory and time, since
//! it may run away or die on a model that another runtime takes.

use super::ValidateError;
use crate::session::Feed;
use crate::tensor::{DType, Tensor};
use ndarray::{ArrayD, ArrayView1, ArrayViewD, Axis, Slice};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wait_timeout::ChildExt;

/// The hidden sub-command by which this program runs itself as the child.
pub const SUBCOMMAND: &str = "second-runtime";

/// What the child may use.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub seconds: u64,
    pub memory_bytes: u64,
    /// The program to start; the check is not made without one.
    pub program: Option<PathBuf>,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { seconds: 120, memory_bytes: 8 << 30, program: None }
    }
}

/// What came of the check.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Compared {
        /// Largest absolute difference over the largest absolute output.
        difference: f64,
        /// The largest output of every row is the same, ties within the difference apart.
        same_top1: bool,
    },
    NotCheckable(String),
}

/// A whole batch, and so many of its samples to compare.
pub struct Case {
    pub inputs: Feed,
    pub samples: usize,
}

/// A check that is under way.
pub struct Running {
    child: Child,
    folder: TempDir,
    output: String,
    samples: Vec<usize>,
    started: Instant,
    seconds: u64,
}

/// Starts the model file in the child on some batches; none without a program to start.
///
/// # Errors
/// The exchange of files with the child cannot be set up.
pub fn start(model: &Path, output: &str, cases: &[Case], bounds: &Bounds) -> Result<Option<Running>, ValidateError> {
    let Some(program) = &bounds.program else { return Ok(None) };
    let setup = |e: &dyn std::fmt::Display| ValidateError::Setup(e.to_string());
    let folder = tempfile::tempdir().map_err(|e| setup(&e))?;
    for (number, case) in cases.iter().enumerate() {
        let bytes = encode(&case.inputs).map_err(|e| setup(&e))?;
        std::fs::write(inputs_of(folder.path(), number), bytes).map_err(|e| setup(&e))?;
    }
    let child = Command::new(program)
        .arg(SUBCOMMAND)
        .args([model, folder.path()])
        .arg(output)
        .arg(bounds.memory_bytes.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| setup(&format!("{}: {e}", program.display())))?;
    let (started, seconds, output) = (Instant::now(), bounds.seconds, output.to_string());
    let samples = cases.iter().map(|case| case.samples).collect();
    Ok(Some(Running { child, folder, output, samples, started, seconds }))
}

impl Running {
    /// Waits for the end, and takes the worst of all batches. `expected` is what another runtime gives for each of them, for
    /// the samples to compare at least.
    ///
    /// # Errors
    /// The exchange of files with the child fails.
    pub fn finish(mut self, expected: &[ArrayD<f64>]) -> Result<Verdict, ValidateError> {
        let setup = |e: &dyn std::fmt::Display| ValidateError::Setup(e.to_string());
        let left = Duration::from_secs(self.seconds).saturating_sub(self.started.elapsed());
        let Some(status) = self.child.wait_timeout(left).map_err(|e| setup(&e))? else {
            return Ok(Verdict::NotCheckable(format!("tract needed more than {} s", self.seconds)));
        };
        if !status.success() {
            let mut text = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut text).map_err(|e| setup(&e))?;
            }
            let reason = text.trim().lines().last().map_or_else(|| status.to_string(), crate::error::printable);
            return Ok(Verdict::NotCheckable(format!("tract: {reason}")));
        }
        let mut worst = Verdict::NotCheckable("no samples".into());
        for (number, (expected, &samples)) in expected.iter().zip(&self.samples).enumerate() {
            let bytes = std::fs::read(outputs_of(self.folder.path(), number)).map_err(|e| setup(&e))?;
            let outputs = decode(&bytes).map_err(|e| setup(&e))?;
            worst = match (worst, judge(expected, outputs.get(&self.output), samples)) {
                (
                    Verdict::Compared { difference: a, same_top1: x },
                    Verdict::Compared { difference: b, same_top1: y },
                ) => Verdict::Compared { difference: a.max(b), same_top1: x && y },
                (Verdict::NotCheckable(_), verdict @ Verdict::Compared { .. }) => verdict,
                (_, verdict) => return Ok(verdict),
            };
        }
        Ok(worst)
    }
}

/// The child ends with the check, finished or given up.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares the first so many samples.
fn judge(expected: &ArrayD<f64>, actual: Option<&Tensor>, samples: usize) -> Verdict {
    let Some(actual) = actual.and_then(Tensor::to_f64) else {
        return Verdict::NotCheckable("tract gave no such output".into());
    };
    let (found, shape) = (actual.shape(), expected.shape());
    match (found, shape) {
        ([all, found @ ..], [known, shape @ ..]) if found == shape && samples <= *all.min(known) => {
            let [expected, actual] = [expected, &actual].map(|a| a.slice_axis(Axis(0), Slice::from(..samples)));
            verdict(expected, actual)
        }
        _ => Verdict::NotCheckable(format!("tract gave the shape {found:?}, expected {shape:?}")),
    }
}

fn inputs_of(folder: &Path, case: usize) -> PathBuf {
    folder.join(format!("inputs.{case}"))
}

fn outputs_of(folder: &Path, case: usize) -> PathBuf {
    folder.join(format!("outputs.{case}"))
}

fn verdict(expected: ArrayViewD<f64>, actual: ArrayViewD<f64>) -> Verdict {
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    // NaN is a difference: `max` would drop it.
    let gap = |a: &f64, b: &f64| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    let largest = expected.iter().zip(&actual).map(|(a, b)| gap(a, b)).fold(0.0, f64::max);
    let axis = Axis(super::compare::class_axis(expected.ndim()));
    let same_top1 = expected.lanes(axis).into_iter().zip(actual.lanes(axis)).all(|(a, b)| {
        let best = |row: ArrayView1<f64>| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (best_a, best_b) = (best(a), best(b));
        a.iter().zip(b).any(|(&x, &y)| best_a - x <= 2.0 * largest && best_b - y <= 2.0 * largest)
    });
    Verdict::Compared { difference: largest / scale, same_top1 }
}

/// The child's side: runs `model` in tract on the inputs in a folder, and writes one output for each there.
///
/// # Errors
/// In words, for the parent to pass on.
pub fn child(model: &Path, folder: &Path, output: &str, memory_bytes: u64) -> Result<(), String> {
    limit_memory(memory_bytes);
    let given = (0..).map(|case| inputs_of(folder, case)).take_while(|path| path.exists());
    let read = |path: PathBuf| decode(&std::fs::read(path).map_err(|e| e.to_string())?);
    let feeds = given.map(read).collect::<Result<Vec<_>, String>>()?;
    let values = crate::session::run_file_in_tract(model, &feeds, output).map_err(|e| e.to_string())?;
    for (case, value) in values.into_iter().enumerate() {
        let bytes = encode(&BTreeMap::from([(output.to_string(), value)]))?;
        std::fs::write(outputs_of(folder, case), bytes).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(unix)]
fn limit_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: bytes as libc::rlim_t };
    // SAFETY: setrlimit reads the struct it is given and touches no memory of ours.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
}

#[cfg(not(unix))]
fn limit_memory(_bytes: u64) {}

const TYPES: [(DType, Dtype); 10] = [
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I8, Dtype::I8),
    (DType::I16, Dtype::I16),
    (DType::I32, Dtype::I32),
    (DType::I64, Dtype::I64),
    (DType::U8, Dtype::U8),
    (DType::Bool, Dtype::BOOL),
];

fn encode(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, String> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors.iter().map(|(name, t)| (name, t.to_le_bytes())).collect();
    let mut views = Vec::new();
    for (name, tensor) in tensors {
        let dtype = TYPES.iter().find(|(ours, _)| *ours == tensor.dtype()).map_or(Dtype::F32, |(_, theirs)| *theirs);
        let view = TensorView::new(dtype, tensor.shape().to_vec(), &bytes[name]).map_err(|e| e.to_string())?;
        views.push((name.clone(), view));
    }
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = TYPES.iter().find(|(_, theirs)| *theirs == view.dtype()).map(|(ours, _)| *ours);
        let tensor = dtype.and_then(|dtype| Tensor::from_le_bytes(dtype, view.shape(), view.data()));
        tensors.insert(name, tensor.ok_or("unknown type")?);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_samples_asked_for_are_compared() {
        let rows = |rows: &[[f64; 2]]| ndarray::arr2(rows).into_dyn();
        let expected = rows(&[[1.0, 4.0], [8.0, 2.0], [5.0, 6.0]]);
        let judge = |actual: ArrayD<f64>, samples| judge(&expected, Some(&Tensor::F64(actual)), samples);
        let same = Verdict::Compared { difference: 0.0, same_top1: true };
        let padded = rows(&[[1.0, 4.0], [8.0, 2.0], [8.0, 2.0], [8.0, 2.0]]);
        assert_eq!(judge(padded.clone(), 2), same);
        let worse = Verdict::Compared { difference: 4.0 / 8.0, same_top1: true };
        assert_eq!(judge(padded, 3), worse);
        // Neither fewer samples nor another shape.
        assert!(matches!(judge(rows(&[[1.0, 4.0]]), 2), Verdict::NotCheckable(_)));
        assert!(matches!(judge(ndarray::arr1(&[1.0, 4.0]).into_dyn(), 2), Verdict::NotCheckable(_)));
        assert!(matches!(judge(ndarray::arr0(1.0).into_dyn(), 1), Verdict::NotCheckable(_)));
    }
}
