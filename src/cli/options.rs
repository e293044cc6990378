//! Options that mean the same for every command, and how their values are read.

use clap::{Args, ValueEnum};
use onnx_unlearn::autograd::Reduction;
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::importance::{self, Shard};
use onnx_unlearn::pipeline::{Alpha, Checks, Common, Reference};
use onnx_unlearn::session::{DeviceChoice, RuntimeChoice, RuntimeOptions};
use onnx_unlearn::validate::{Limits, second::Bounds};
use std::path::PathBuf;

#[derive(Args, Clone, Copy, Default)]
pub struct Output {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress bar, no warnings
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Longer tables
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(Args)]
pub struct CommonArgs {
    /// Change only weights whose name matches
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave weights alone whose name matches
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// What runs, and on what.
#[derive(Args)]
pub struct RunArgs {
    /// Outputs of the model to look at [default: all]
    #[arg(long, value_name = "NAME", num_args = 1..)]
    outputs: Vec<String>,
    #[arg(long, value_enum, default_value = "auto")]
    runtime: RuntimeArg,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Threads [default: one for each core]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Allow TensorFloat-32 on the GPU: faster, less exact
    #[arg(long)]
    allow_tf32: bool,
}

/// What the forget set is held against.
#[derive(Args)]
#[group(id = "reference", required = true, multiple = false)]
pub struct ReferenceArgs {
    /// Samples to keep
    #[arg(long, value_name = "DATA")]
    retain: Option<PathBuf>,
    /// All data, the samples to forget included, in place of --retain
    #[arg(long, value_name = "DATA")]
    full: Option<PathBuf>,
    /// Saved importance over all data, in place of --retain
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

#[derive(Args)]
pub struct ObjectiveArgs {
    /// The number per sample whose gradient makes the importance: sq-l2, l2, prob, top; fisher needs labels
    #[arg(long, default_value = "sq-l2", value_parser = objective)]
    objective: Objective,
    /// Absolute gradients of each sample, or of each batch
    #[arg(long, value_enum, default_value = "sample")]
    reduction: ReductionArg,
    /// Samples in a batch [default: by size of the activations; 64 for the batch reduction]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,
    /// Memory that the process, or the arena of a GPU, may take, such as 4GiB or 800MiB; the batch size follows it
    /// [default: 80 % of what is free]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
}

#[derive(Args)]
pub struct TargetArgs {
    /// The new model
    #[arg(short, long, value_name = "OUT")]
    pub out: PathBuf,
    /// Selected weights are multiplied by min(LAMBDA * importance on all data / on the forget set, 1)
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// A folder for report.json
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Write nothing, print what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Write even where a guard fails
    #[arg(long)]
    pub force: bool,
}

#[derive(Args)]
pub struct GuardArgs {
    /// Least top-1 agreement with the original on retained samples
    #[arg(long, value_name = "SHARE", default_value_t = Limits::default().retained_agreement)]
    min_retained_agreement: f64,
    /// Largest difference between the runtimes, relative to the largest output
    #[arg(long, value_name = "SHARE", default_value_t = Limits::default().runtimes)]
    max_runtime_difference: f64,
    /// Seconds that the check in the second runtime may take
    #[arg(long, value_name = "S", default_value_t = Bounds::default().seconds)]
    check_seconds: u64,
    /// Samples of each data set that the new model is run on, spread evenly; 0 for all [default: 512 for a model just
    /// made, all for 'validate']
    #[arg(long, value_name = "N")]
    check_samples: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuntimeArg {
    Auto,
    Onnxruntime,
    Tract,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReductionArg {
    Sample,
    Batch,
}

pub fn alpha(text: &str) -> Result<Alpha, String> {
    match text {
        "auto" => Ok(Alpha::Auto),
        number => number.parse().map(Alpha::Value).map_err(|_| "a number, or auto".to_string()),
    }
}

/// One part of a data set.
pub fn shard(text: &str) -> Result<Shard, String> {
    let shard: Shard = text.parse().map_err(|e: importance::NoShard| e.to_string())?;
    let one = shard.is_whole() || shard.first() == shard.last();
    one.then_some(shard).ok_or_else(|| "one part, such as 3/8".to_string())
}

/// A number of bytes, with a unit of powers of 1024 or 1000.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("G", 1 << 30),
        ("M", 1 << 20),
    ];
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1));
    let number: f64 = number.trim().parse().map_err(|_| "a number of bytes, such as 4GiB or 800MiB".to_string())?;
    match number * size as f64 {
        bytes if bytes.is_finite() && bytes >= 1.0 => Ok(bytes as u64),
        _ => Err("a number of bytes from 1 up".into()),
    }
}

pub fn objective(text: &str) -> Result<Objective, String> {
    let names = || Objective::ALL.map(Objective::name).join(", ");
    Objective::named(text).ok_or_else(|| format!("one of {}", names()))
}

pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let parts = text.rsplit_once('=');
    let dims = parts.and_then(|(_, dims)| dims.split(',').map(|d| d.parse().ok()).collect::<Option<Vec<usize>>>());
    let shape = parts.zip(dims).map(|((name, _), dims)| (name.to_string(), dims));
    shape.ok_or_else(|| "a name and its dimensions, such as ids=1,16".to_string())
}

/// A major version of CUDA that there is a build for.
pub fn cuda(text: &str) -> Result<u32, String> {
    let known = onnx_unlearn::session::cuda::MAJORS;
    text.parse().ok().filter(|major| known.contains(major)).ok_or_else(|| "13 or 12".to_string())
}

fn device(text: &str) -> Result<DeviceChoice, String> {
    let number = |n: &str| n.parse().map(DeviceChoice::Cuda).map_err(|_| "cuda:N takes a number".to_string());
    match text.split_once(':') {
        None if text == "auto" => Ok(DeviceChoice::Auto),
        None if text == "cpu" => Ok(DeviceChoice::Cpu),
        None if text == "cuda" => Ok(DeviceChoice::Cuda(0)),
        Some(("cuda", n)) => number(n),
        _ => Err("auto, cpu, cuda or cuda:N".into()),
    }
}

impl ReferenceArgs {
    pub fn to_reference(&self) -> Reference {
        match (&self.retain, &self.full, &self.profile) {
            (Some(path), _, _) => Reference::Retain(path.clone()),
            (_, Some(path), _) => Reference::Full(path.clone()),
            (_, _, path) => Reference::Profile(path.clone().unwrap_or_default()),
        }
    }
}

impl CommonArgs {
    pub fn to_common(&self) -> Common {
        Common { include: self.include.clone(), exclude: self.exclude.clone(), ..self.run.to_common() }
    }
}

impl RunArgs {
    pub fn to_common(&self) -> Common {
        let runtime = match self.runtime {
            RuntimeArg::Auto => RuntimeChoice::Auto,
            RuntimeArg::Onnxruntime => RuntimeChoice::OnnxRuntime,
            RuntimeArg::Tract => RuntimeChoice::Tract,
        };
        let (device, threads, allow_tf32) = (self.device, self.threads, self.allow_tf32);
        let runtime = RuntimeOptions { runtime, device, threads, allow_tf32, ..RuntimeOptions::default() };
        Common { runtime, outputs: self.outputs.clone(), ..Common::default() }
    }
}

impl ObjectiveArgs {
    pub fn to_settings(&self) -> importance::Settings {
        let reduction = match self.reduction {
            ReductionArg::Sample => Reduction::Sample,
            ReductionArg::Batch => Reduction::Batch,
        };
        let batch_size = self.batch_size.map(|n| n as usize);
        importance::Settings {
            objective: self.objective,
            reduction,
            batch_size,
            memory: self.memory,
            ..importance::Settings::default()
        }
    }
}

impl GuardArgs {
    pub fn to_checks(&self) -> Checks {
        Checks {
            limits: Limits { retained_agreement: self.min_retained_agreement, runtimes: self.max_runtime_difference },
            samples: self.check_samples.map(|n| if n == 0 { usize::MAX } else { n }),
            bounds: Bounds { seconds: self.check_seconds, program: std::env::current_exe().ok(), ..Bounds::default() },
        }
    }
}
