//! Running a graph: ONNX Runtime from a shared library, or the embedded tract, behind one trait.

mod assignment;
pub mod cuda;
pub mod install;
pub mod locate;
mod onnxruntime;
mod tract;

pub use assignment::Assignment;
pub use onnxruntime::Brought;

use crate::error::Kind;
use crate::graph::{Graph, Name, Node, to_model_proto};
use crate::tensor::{DType, Tensor};
use ndarray::ArrayViewD;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Values for the inputs of a graph, by name.
pub type Feed = BTreeMap<String, Tensor>;
/// Type and shape of values, where they are known.
pub type Kinds = BTreeMap<Name, (DType, Vec<usize>)>;

/// An output of a run.
#[derive(Clone, Debug)]
pub enum Output<'a> {
    /// In the runtime's own memory; images may have their channels last there.
    Single(ArrayViewD<'a, f32>),
    Tensor(Tensor),
}

impl Output<'_> {
    /// Type and shape.
    pub fn kind(&self) -> (DType, Vec<usize>) {
        match self {
            Output::Single(view) => (DType::F32, view.shape().to_vec()),
            Output::Tensor(tensor) => (tensor.dtype(), tensor.shape().to_vec()),
        }
    }

    pub fn into_tensor(self) -> Tensor {
        match self {
            Output::Single(view) => Tensor::F32(view.as_standard_layout().into_owned()),
            Output::Tensor(tensor) => tensor,
        }
    }
}

/// An input that is an output of the run before.
#[derive(Clone, Debug)]
pub struct Carried {
    pub input: Name,
    pub output: Name,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

/// A graph made ready to run. Outputs come in the order of the graph's outputs.
pub trait Session: Send {
    /// Runs the graph once and shows its outputs to `see`, before the runtime takes their memory back.
    ///
    /// # Errors
    /// Missing inputs, a failure inside the runtime, an output of a type that is not a tensor.
    fn show(&mut self, feed: &Feed, see: &mut dyn FnMut(Vec<Output>)) -> Result<(), SessionError>;

    /// Runs the graph once with inputs that are outputs of the run before, zeros in the first, which stay where the
    /// runtime has them; shows the other outputs. Of the other inputs some may have been [brought](Runtime::bring) ahead.
    ///
    /// # Errors
    /// As [`Session::show`]; the runtime does not keep values. What was carried before is still there.
    fn carry(
        &mut self,
        _feed: &Feed,
        _brought: Option<Brought>,
        _carried: &[Carried],
        _see: &mut dyn FnMut(Vec<Output>),
    ) -> Result<(), SessionError> {
        Err(SessionError::Refused { runtime: "the runtime", reason: "it keeps no values between runs".into() })
    }

    /// The carried values, in the order of their inputs' names; they begin with zeros again.
    ///
    /// # Errors
    /// They cannot be fetched.
    fn fetch(&mut self) -> Result<BTreeMap<Name, Tensor>, SessionError> {
        Ok(BTreeMap::new())
    }

    /// Runs the graph once.
    ///
    /// # Errors
    /// As [`Session::show`].
    fn run(&mut self, feed: &Feed) -> Result<Vec<Tensor>, SessionError> {
        let mut found = Vec::new();
        self.show(feed, &mut |outputs| found = outputs.into_iter().map(Output::into_tensor).collect())?;
        Ok(found)
    }
}

/// Which library runs graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// ONNX Runtime where it can be loaded, else tract.
    Auto,
    OnnxRuntime,
    Tract,
}

/// Which device runs graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where a session on it can be had, else the CPU.
    Auto,
    Cpu,
    Cuda(u32),
}

/// What to run graphs on.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    pub runtime: RuntimeChoice,
    pub device: DeviceChoice,
    /// Threads inside an operator; 0 takes one per core.
    pub threads: usize,
    /// Products in TensorFloat-32 on the GPU: faster, with 10 bits of mantissa in place of 23.
    pub allow_tf32: bool,
    /// Bytes that the memory arena of a GPU may grow to; the device's own limit where absent.
    pub gpu_memory: Option<u64>,
    /// Path of the ONNX Runtime library; searched for where absent.
    pub library: Option<PathBuf>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        let (runtime, device) = (RuntimeChoice::Auto, DeviceChoice::Auto);
        RuntimeOptions { runtime, device, threads: 0, allow_tf32: false, gpu_memory: None, library: None }
    }
}

/// The runtime that really runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct RuntimeInfo {
    /// `onnxruntime` or `tract`.
    pub name: String,
    pub version: String,
    /// Execution provider: `CPUExecutionProvider`, `CUDAExecutionProvider`, or `tract` itself.
    pub provider: String,
    /// `cpu`, or `cuda:N`.
    pub device: String,
    /// Whether products in TensorFloat-32 were allowed; on the CPU there are none.
    pub allow_tf32: bool,
    /// Path of the library; none for the embedded runtime.
    pub library: Option<PathBuf>,
    /// Where the nodes of all graphs that were run went, by ONNX Runtime's own record; empty for the embedded runtime.
    pub assignment: Vec<Assignment>,
}

/// What lies around a runtime: what it could use, and what it would need for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Surroundings {
    /// Execution providers of this build of ONNX Runtime.
    pub providers: Vec<String>,
    /// None for the embedded runtime.
    pub cuda: Option<cuda::Cuda>,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(
        "ONNX Runtime was not found; looked in: {searched}. Run 'onnx-unlearn runtime install', or use --runtime tract"
    )]
    NoLibrary { searched: String },
    #[error(
        "{path}: ONNX Runtime cannot be loaded: {reason}. Run 'onnx-unlearn runtime install', or use --runtime tract"
    )]
    Library { path: PathBuf, reason: String },
    #[error(
        "the CUDA execution provider cannot be used: {reason}. Run 'onnx-unlearn runtime show' to see what is missing, or use --device cpu"
    )]
    Cuda { reason: String },
    #[error("--device cuda needs ONNX Runtime; the embedded tract runtime has no GPU")]
    TractOnGpu,
    #[error("{runtime} refuses the graph: {reason}")]
    Refused { runtime: &'static str, reason: String },
    #[error("{runtime} failed while running: {reason}")]
    Failed { runtime: &'static str, reason: String },
    #[error("input '{name}' is missing")]
    MissingInput { name: String },
    #[error("output {index} of {runtime} has type {found}, which is not supported")]
    OutputType { runtime: &'static str, index: usize, found: String },
    #[error("threads cannot be started: {0}; use a smaller --threads")]
    Threads(String),
    #[error("installing ONNX Runtime: {0}")]
    Install(String),
}

impl SessionError {
    /// Whether a runtime failed because its device had too little memory.
    pub fn out_of_memory(&self) -> bool {
        const SIGNS: [&str; 4] = ["Failed to allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc"];
        matches!(self, SessionError::Failed { reason, .. } if SIGNS.iter().any(|sign| reason.contains(sign)))
    }

    pub fn kind(&self) -> Kind {
        match self {
            SessionError::NoLibrary { .. } | SessionError::Library { .. } | SessionError::Install(_) => Kind::Io,
            SessionError::Cuda { .. } | SessionError::TractOnGpu => Kind::Unsupported,
            SessionError::Threads(_) => Kind::Limit,
            SessionError::Refused { .. } | SessionError::OutputType { .. } => Kind::Unsupported,
            SessionError::Failed { .. } | SessionError::MissingInput { .. } => Kind::Malformed,
        }
    }
}

/// Tells the nodes whose results may be rounded more: no kink of a later function turns on them.
pub type Rough<'a> = &'a (dyn Fn(&Node) -> bool + Sync);

/// What a session is for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// A run or two.
    Look,
    /// Many runs.
    Runs,
    /// Many runs, for gradients.
    Gradients(Rough<'a>),
}

enum Backend {
    OnnxRuntime(onnxruntime::OnnxRuntime),
    Tract,
}

/// A runtime that has been opened.
pub struct Runtime {
    backend: Backend,
    options: RuntimeOptions,
    pool: ThreadPool,
    warnings: Vec<String>,
}

impl Runtime {
    /// Opens a runtime. Under `Auto` what cannot be had is passed over with a warning.
    ///
    /// # Errors
    /// The runtime or device that was asked for by name cannot be used.
    pub fn open(options: RuntimeOptions) -> Result<Runtime, SessionError> {
        let pool = ThreadPoolBuilder::new().num_threads(options.threads).build();
        let pool = pool.map_err(|e| SessionError::Threads(e.to_string()))?;
        let open = |backend, options, warnings| Ok(Runtime { backend, options, pool, warnings });
        let tract = |options: &RuntimeOptions| match options.device {
            DeviceChoice::Cuda(_) => Err(SessionError::TractOnGpu),
            _ => Ok(Backend::Tract),
        };
        if options.runtime == RuntimeChoice::Tract {
            return open(tract(&options)?, options, vec![]);
        }
        match onnxruntime::OnnxRuntime::open(&options) {
            Ok((backend, warnings)) => open(Backend::OnnxRuntime(backend), options, warnings),
            Err(error @ (SessionError::NoLibrary { .. } | SessionError::Library { .. }))
                if options.runtime == RuntimeChoice::Auto && !matches!(options.device, DeviceChoice::Cuda(_)) =>
            {
                open(tract(&options)?, options, vec![format!("using the embedded tract runtime: {error}")])
            }
            Err(error) => Err(error),
        }
    }

    /// What happened that the user should know.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(self.fallback()).collect()
    }

    /// Why the CPU took over after a graph had been refused by the GPU.
    pub fn fallback(&self) -> Option<String> {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.fallback(),
            Backend::Tract => None,
        }
    }

    /// Whether graphs run on a GPU.
    pub fn on_gpu(&self) -> bool {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.on_gpu(),
            Backend::Tract => false,
        }
    }

    /// The threads that work beside the runtime's own, as many.
    pub(crate) fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    pub fn info(&self) -> RuntimeInfo {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.info(),
            Backend::Tract => RuntimeInfo { allow_tf32: self.options.allow_tf32, ..tract::info() },
        }
    }

    pub fn surroundings(&self) -> Surroundings {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.surroundings(),
            Backend::Tract => Surroundings::default(),
        }
    }

    /// Copies values ahead to where sessions compute, while another run goes on there; none where sessions compute in the
    /// memory of the host, or the device has too little memory.
    pub fn bring(&self, feed: &Feed) -> Option<Brought> {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.bring(feed),
            Backend::Tract => None,
        }
    }

    /// Makes a graph ready to run. `kinds` gives the types and shapes of outputs where they are known.
    /// Under `Auto`, a graph that CUDA does not take whole moves this and all later ones to the CPU.
    ///
    /// # Errors
    /// The runtime refuses the graph; where CUDA was asked for, also when an operator that does the work is not on it.
    pub fn session(&self, graph: &Graph, kinds: &Kinds) -> Result<Box<dyn Session>, SessionError> {
        self.prepare(graph, kinds, Purpose::Runs)
    }

    /// A session for the gradients of many batches: on the CPU, ONNX Runtime leaves convolutions with 3×3 taps to Winograd's
    /// method where that is faster. Its results differ by rounding, as a sum over taps would, and for those that `rough` tells
    /// about four times as much.
    ///
    /// # Errors
    /// As [`Runtime::session`].
    pub fn gradients(&self, graph: &Graph, kinds: &Kinds, rough: Rough) -> Result<Box<dyn Session>, SessionError> {
        self.prepare(graph, kinds, Purpose::Gradients(rough))
    }

    /// Bytes of kernels that [`Runtime::gradients`] keeps beside the constants of a graph, at most.
    pub(crate) fn beside(&self, graph: &Graph, kinds: &Kinds, rough: Rough) -> u64 {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.beside(graph, kinds, rough),
            Backend::Tract => 0,
        }
    }

    /// A session for one or two runs: built fast, without the optimisations that pay over many.
    ///
    /// # Errors
    /// As [`Runtime::session`].
    pub fn observer(&self, graph: &Graph) -> Result<Box<dyn Session>, SessionError> {
        self.prepare(graph, &Kinds::new(), Purpose::Look)
    }

    fn prepare(&self, graph: &Graph, kinds: &Kinds, purpose: Purpose) -> Result<Box<dyn Session>, SessionError> {
        match &self.backend {
            Backend::OnnxRuntime(backend) => backend.session(graph, kinds, &self.pool, purpose),
            Backend::Tract => {
                let model = to_model_proto(graph, |name| kinds.get(name).cloned());
                tract::session(&model, !matches!(purpose, Purpose::Look))
            }
        }
    }
}

/// Runs a model file in tract, with input shapes fixed to those of each feed, and gives one output for each.
///
/// # Errors
/// tract refuses the model or fails on it.
pub fn run_file_in_tract(model: &std::path::Path, feeds: &[Feed], output: &str) -> Result<Vec<Tensor>, SessionError> {
    tract::run_file(model, feeds, output)
}
