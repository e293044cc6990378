//! The command line as clap reads it.

use super::options::{
    CommonArgs, GuardArgs, ObjectiveArgs, Output, ReferenceArgs, RunArgs, TargetArgs, alpha, cuda, objective, shape,
    shard,
};
use clap::{Parser, Subcommand};
use onnx_unlearn::autograd::objective::Objective;
use onnx_unlearn::importance::Shard;
use onnx_unlearn::pipeline::Alpha;
use onnx_unlearn::validate;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a bug, 2 usage, 3 malformed model or data, 4 unsupported (operator, \
type, opset), 5 over a resource limit, 6 input/output, 7 not finite, 8 nothing to forget, 9 a guard failed: the new \
model must not be deployed, 130 and 143 stopped by SIGINT and SIGTERM. On any code but 0 nothing is left at the output path.";

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
    Forget {
        model: PathBuf,
        /// Samples to forget
        #[arg(long, value_name = "DATA")]
        forget: PathBuf,
        #[command(flatten)]
        reference: ReferenceArgs,
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
        /// The profile to write; while it is computed, PROFILE.checkpoint lies beside it, from which the same
        /// command goes on
        #[arg(short, long, value_name = "PROFILE")]
        out: PathBuf,
        /// Go over part I of N of the data; 'merge' adds the parts up
        #[arg(long, value_name = "I/N", default_value = "1/1", hide_default_value = true, value_parser = shard)]
        shard: Shard,
        /// Seconds between two checkpoints; 0 makes one after every batch
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        checkpoint_every: u64,
        #[command(flatten)]
        objective: ObjectiveArgs,
        #[command(flatten)]
        common: CommonArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Profiles of parts of the data, or of several data sets, added up
    Merge {
        #[arg(required = true, value_name = "PROFILE")]
        profiles: Vec<PathBuf>,
        /// The profile to write
        #[arg(short, long, value_name = "OUT")]
        out: PathBuf,
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
    /// Forgetting against retention over alpha and lambda; importance is computed once, no model is written
    Sweep {
        model: PathBuf,
        /// Samples to forget
        #[arg(long, value_name = "DATA")]
        forget: PathBuf,
        #[command(flatten)]
        reference: ReferenceArgs,
        /// Alphas to try, such as 1.5,2,3 [default: ten from 1 to where nothing is selected, evenly spaced by ratio]
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        alphas: Vec<f64>,
        /// Lambdas to try with each
        #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
        lambdas: Vec<f64>,
        /// A folder for sweep.json and sweep.csv
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// Save importance there too, as forget.safetensors and full.safetensors
        #[arg(long)]
        save_profiles: bool,
        #[command(flatten)]
        objective: ObjectiveArgs,
        #[command(flatten)]
        common: CommonArgs,
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
    SecondRuntime { model: PathBuf, folder: PathBuf, name: String, memory_bytes: u64 },
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
        /// The build for NVIDIA GPUs, with CUDA 13 or 12 [default: 13] and cuDNN 9: links to those of the machine (system,
        /// LD_LIBRARY_PATH, CUDA_PATH, packages of PYTHON such as PyTorch), or 1.5 GB of downloads
        #[arg(long, value_name = "MAJOR", num_args = 0..=1, default_missing_value = "13", value_parser = cuda)]
        cuda: Option<u32>,
        /// Take CUDA and cuDNN from this machine, download none
        #[arg(long, requires = "cuda")]
        system_cuda: bool,
        /// Take wheels from this folder, without network
        #[arg(long, value_name = "DIR")]
        find_links: Option<PathBuf>,
    },
}
