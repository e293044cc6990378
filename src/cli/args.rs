//! The command line as clap reads it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use onnx_unlearn::autograd::Reduction;
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::pipeline::{Alpha, Checks, Common};
use onnx_unlearn::session::{DeviceChoice, RuntimeChoice, RuntimeOptions};
use onnx_unlearn::validate::{Limits, second::Bounds};
use onnx_unlearn::{importance, validate};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a bug, 2 usage, 3 malformed model or data, 4 unsupported (operator, \
type, opset), 5 over a resource limit, 6 input/output, 7 not finite, 8 nothing to forget, 9 a guard failed: the new \
model must not be deployed. On any code but 0 nothing is left at the output path.";

/// Makes an exported ONNX model forget some of its training data: no training framework, no labels, no retraining.
#[derive(Parser)]
#[command(name = "onnx-unlearn", version, after_long_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// What can be unlearned: parameters, inputs, operators without a gradient rule
    Inspect {
        model: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// The whole pipeline: importance, dampening, validation, a new model
    #[command(group(clap::ArgGroup::new("reference").required(true).args(["retain", "full", "profile"])))]
    Forget {
        model: PathBuf,
        /// Samples to forget
        #[arg(long, value_name = "DATA")]
        forget: PathBuf,
        /// Samples to keep
        #[arg(long, value_name = "DATA")]
        retain: Option<PathBuf>,
        /// All data, the samples to forget included, in place of --retain
        #[arg(long, value_name = "DATA")]
        full: Option<PathBuf>,
        /// Saved importance over all data, in place of --retain
        #[arg(long, value_name = "FILE")]
        profile: Option<PathBuf>,
        /// A weight is dampened where its importance on the forget set exceeds ALPHA times that on all data; auto
        /// takes the smallest that keeps the retained behaviour
        #[arg(long, default_value = "auto", value_parser = alpha)]
        alpha: Alpha,
        #[command(flatten)]
        objective: ObjectiveArgs,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        guards: GuardArgs,
        #[command(flatten)]
        output: Output,
    },
    /// One pass over one data set, saved as a profile
    Importance {
        model: PathBuf,
        #[arg(long, value_name = "DATA")]
        data: PathBuf,
        /// The profile to write
        #[arg(short, long, value_name = "PROFILE")]
        out: PathBuf,
        #[command(flatten)]
        objective: ObjectiveArgs,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Dampening alone, by saved profiles
    Dampen {
        model: PathBuf,
        /// Importance over the samples to forget
        #[arg(long, value_name = "PROFILE")]
        forget_profile: PathBuf,
        /// Importance over all data
        #[arg(long, value_name = "PROFILE")]
        profile: PathBuf,
        #[arg(long)]
        alpha: f64,
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Compare a new model with the original, in two runtimes
    Validate {
        original: PathBuf,
        new: PathBuf,
        #[arg(long, value_name = "DATA")]
        forget: PathBuf,
        #[arg(long, value_name = "DATA")]
        retain: Option<PathBuf>,
        /// A folder for report.json
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        guards: GuardArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Which tensors and how many weights differ between two models; anything else that differs
    Diff {
        a: PathBuf,
        b: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// The backward graph itself, in standard ONNX operators: the model's outputs, then <initializer>.grad
    Grad {
        model: PathBuf,
        /// The gradient graph to write
        #[arg(short, long, value_name = "GRAD")]
        out: PathBuf,
        /// The number per sample whose mean over the batch is differentiated: sq-l2, l2, prob, top
        #[arg(long, default_value = "sq-l2", value_parser = objective, conflicts_with = "seed_input")]
        objective: Objective,
        /// Take the gradient of each output as an input <output>.seed, in place of an objective
        #[arg(long)]
        seed_input: bool,
        /// Differentiate with respect to initializers whose name matches [default: the weights]
        #[arg(long, value_name = "GLOB")]
        wrt: Vec<String>,
        /// Differentiate with respect to the inputs too: outputs <input>.grad
        #[arg(long)]
        wrt_inputs: bool,
        /// The shape of an input whose dimensions the model leaves open, such as ids=1,16; the first is the batch's
        #[arg(long, value_name = "NAME=D,D", value_parser = shape)]
        shape: Vec<(String, Vec<usize>)>,
        /// Samples to take shapes from, where made-up values do not do
        #[arg(long, value_name = "DATA")]
        data: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Where ONNX Runtime comes from
    Runtime {
        #[command(subcommand)]
        action: Option<RuntimeAction>,
        #[command(flatten)]
        output: Output,
    },
    /// Runs a model in tract for a parent process
    #[command(hide = true, name = validate::second::SUBCOMMAND)]
    SecondRuntime { model: PathBuf, inputs: PathBuf, outputs: PathBuf, name: String, memory_bytes: u64 },
}

#[derive(Subcommand)]
pub enum RuntimeAction {
    /// What would be used
    Show,
    /// Fetch ONNX Runtime with pip
    Install {
        /// The folder to put it into; by default the user's data folder
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// The Python that has pip
        #[arg(long, default_value = "python3")]
        python: String,
    },
}

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

fn alpha(text: &str) -> Result<Alpha, String> {
    match text {
        "auto" => Ok(Alpha::Auto),
        number => number.parse().map(Alpha::Value).map_err(|_| "a number, or auto".to_string()),
    }
}

fn objective(text: &str) -> Result<Objective, String> {
    let names = || Objective::ALL.map(Objective::name).join(", ");
    Objective::named(text).ok_or_else(|| format!("one of {}", names()))
}

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let parts = text.rsplit_once('=');
    let dims = parts.and_then(|(_, dims)| dims.split(',').map(|d| d.parse().ok()).collect::<Option<Vec<usize>>>());
    let shape = parts.zip(dims).map(|((name, _), dims)| (name.to_string(), dims));
    shape.ok_or_else(|| "a name and its dimensions, such as ids=1,16".to_string())
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
        let runtime = RuntimeOptions { runtime, device: self.device, threads: self.threads, library: None };
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
        importance::Settings { objective: self.objective, reduction, batch_size, signed: false }
    }
}

impl GuardArgs {
    pub fn to_checks(&self) -> Checks {
        Checks {
            limits: Limits { retained_agreement: self.min_retained_agreement, runtimes: self.max_runtime_difference },
            bounds: Bounds { seconds: self.check_seconds, program: std::env::current_exe().ok(), ..Bounds::default() },
        }
    }
}
