//! ONNX Runtime, loaded from a shared library at run time.

mod after;
mod convolutions;
mod depthwise;
mod elementwise;
mod implicit;
mod last;
mod moves;
mod normal;
mod operators;
mod pooling;
mod products;
mod running;
mod scatter;
mod seen;
mod sums;

pub(super) use convolutions::OPERATOR as WINOGRAD_CONV;
pub(super) use depthwise::OPERATOR as DEPTHWISE_CONV;
pub(super) use implicit::OPERATOR as IMPLICIT_CONV;
pub use running::Brought;

use super::assignment::{self, Assigned, Tally};
use super::{DeviceChoice, RuntimeInfo, RuntimeOptions, Session, SessionError, Surroundings, cuda, locate};
use super::{Feed, Kinds, Purpose, Rough};
use crate::graph::{Graph, to_split_model_proto};
use ort::ep::{self, ExecutionProvider};
use ort::memory::AllocationDevice;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use protobuf::Message;
use rayon::ThreadPool;
use running::OrtSession;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

const NAME: &str = "ONNX Runtime";
/// The name under which a graph finds its larger constants.
const CONSTANTS: &str = "constants";
const CUDA: &str = "CUDAExecutionProvider";

/// The environment is one per process: it is made by the first that needs it, from the library that one chose.
static ENVIRONMENT: Mutex<Option<(ort::environment::Environment, PathBuf)>> = Mutex::new(None);

pub(super) struct OnnxRuntime {
    environment: ort::environment::Environment,
    library: PathBuf,
    cuda: Option<Cuda>,
    threads: usize,
    allow_tf32: bool,
    gpu_memory: Option<u64>,
    /// Why the CPU took over from the GPU.
    fallback: OnceLock<String>,
    tally: Mutex<Tally>,
}

/// The GPU in use.
struct Cuda {
    device: u32,
    /// A graph that it does not take whole is an error, not a reason for the CPU.
    demanded: bool,
}

impl OnnxRuntime {
    pub(super) fn open(options: &RuntimeOptions) -> Result<(Self, Vec<String>), SessionError> {
        let (environment, library) = environment(options)?;
        let (fallback, tally) = (OnceLock::new(), Mutex::default());
        let RuntimeOptions { threads, allow_tf32, gpu_memory, .. } = *options;
        let mut runtime =
            OnnxRuntime { environment, library, cuda: None, threads, allow_tf32, gpu_memory, fallback, tally };
        let mut warnings = Vec::new();
        match options.device {
            DeviceChoice::Cpu => {}
            DeviceChoice::Cuda(device) => {
                runtime.try_cuda(device).map_err(|reason| SessionError::Cuda { reason })?;
                runtime.cuda = Some(Cuda { device, demanded: true });
            }
            DeviceChoice::Auto if runtime.has_cuda() => match runtime.try_cuda(0) {
                Ok(()) => runtime.cuda = Some(Cuda { device: 0, demanded: false }),
                Err(reason) => warnings.push(format!("running on the CPU: CUDA cannot be used: {reason}")),
            },
            DeviceChoice::Auto => {}
        }
        Ok((runtime, warnings))
    }

    pub(super) fn info(&self) -> RuntimeInfo {
        let version = ort::info().split("git-commit-id").next().unwrap_or_default();
        let version = version.split("ORT Build Info:").next().unwrap_or_default();
        let library_version = self.library.file_name().and_then(|n| n.to_str()).and_then(|n| n.split(".so.").nth(1));
        let device = self.device();
        RuntimeInfo {
            name: "onnxruntime".into(),
            version: library_version.map_or_else(|| version.trim().to_string(), str::to_string),
            provider: if device.is_some() { CUDA } else { "CPUExecutionProvider" }.into(),
            device: device.map_or("cpu".into(), |cuda| format!("cuda:{}", cuda.device)),
            allow_tf32: self.allow_tf32,
            library: Some(self.library.clone()),
            assignment: self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).list(),
        }
    }

    pub(super) fn fallback(&self) -> Option<String> {
        self.fallback.get().cloned()
    }

    /// The GPU, until the CPU takes over.
    fn device(&self) -> Option<&Cuda> {
        self.cuda.as_ref().filter(|_| self.fallback.get().is_none())
    }

    pub(super) fn on_gpu(&self) -> bool {
        self.device().is_some()
    }

    pub(super) fn bring(&self, feed: &Feed) -> Option<Brought> {
        let device = i32::try_from(self.device()?.device).ok()?;
        Brought::new(feed, &AllocationDevice::CUDA, device).ok()
    }

    fn has_cuda(&self) -> bool {
        ep::CUDA::is_available().unwrap_or(false)
    }

    /// Whether a session can be built on the GPU: the provider being compiled in says nothing of its libraries.
    fn try_cuda(&self, device: u32) -> Result<(), String> {
        if !self.has_cuda() {
            return Err(format!(
                "{} was built without it; 'onnx-unlearn runtime install --cuda' fetches a build that has it",
                self.library.display()
            ));
        }
        let found = cuda::look(&self.library, &cuda::folders::of_machine(&self.library));
        let failed = cuda::preload(&found);
        let told = |error: String| [found.advice.clone(), failed.clone(), vec![error]].concat().join("; ");
        self.on_cuda(device).map(|_| ()).map_err(told)
    }

    pub(super) fn surroundings(&self) -> Surroundings {
        let providers = assignment::providers().unwrap_or_default();
        Surroundings { providers, cuda: Some(cuda::on_this_machine(&self.library)) }
    }

    fn on_cuda(&self, device: u32) -> Result<SessionBuilder, String> {
        let number = i32::try_from(device).map_err(|_| format!("there is no device {device}"))?;
        let mut cuda = ep::CUDA::default().with_device_id(number).with_tf32(self.allow_tf32);
        if let Some(limit) = self.gpu_memory {
            cuda = cuda.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        ort::session::Session::builder(&self.environment)
            .map_err(|e| e.to_string())?
            .with_execution_providers([cuda.build().error_on_failure()])
            .map_err(|e| e.to_string())
    }

    pub(super) fn session(
        &self,
        graph: &Graph,
        kinds: &Kinds,
        pool: &ThreadPool,
        purpose: Purpose,
    ) -> Result<Box<dyn Session>, SessionError> {
        let plan = || Plan::new(graph, kinds, self.threads, purpose);
        let on_cpu = || {
            let builder = ort::session::Session::builder(&self.environment).map_err(refusal)?;
            let Purpose::Gradients(rough) = purpose else { return Ok((build(builder, &plan()?)?, None)) };
            let (mut graph, operators) = operators::replaced(graph, kinds, rough, pool).map_err(refusal)?;
            let builder = match operators {
                Some(operators) => builder.with_operators(operators).map_err(refusal)?,
                None => builder,
            };
            let seen = seen::through(&mut graph, kinds);
            Ok((build(builder, &Plan::new(&graph, kinds, self.threads, purpose)?)?, Some(seen)))
        };
        let ((session, record), seen) = match self.device() {
            None => on_cpu()?,
            Some(cuda) => {
                let on_gpu = plan().and_then(|plan| Ok((self.build_on_gpu(cuda.device, &plan)?, None)));
                let (built, reason) = settle(on_gpu, cuda.demanded, on_cpu)?;
                if let Some(reason) = reason {
                    let _ =
                        self.fallback.set(format!("running on the CPU: CUDA does not take the whole graph: {reason}"));
                }
                built
            }
        };
        self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&record);
        let device = self.device().map(|cuda| cuda.device);
        Ok(Box::new(OrtSession::new(session, device, seen)))
    }

    /// Bytes of kernels that a session for gradients keeps beside the constants of the graph, at most.
    pub(super) fn beside(&self, graph: &Graph, kinds: &Kinds, rough: Rough) -> u64 {
        if self.on_gpu() { 0 } else { convolutions::bytes(graph, kinds, rough) }
    }

    fn build_on_gpu(&self, device: u32, plan: &Plan) -> Result<Built, SessionError> {
        let failed = |reason| SessionError::Cuda { reason };
        let (session, record) = build(self.on_cuda(device).map_err(failed)?, plan)?;
        assignment::all_on(CUDA, &record).map_err(failed)?;
        Ok((session, record))
    }
}

/// A session and where its nodes went.
type Built = (ort::session::Session, Vec<Assigned>);

/// What was built on the GPU; where that failed and the GPU was not demanded, what is built on the CPU, and the reason.
fn settle<T>(
    on_gpu: Result<T, SessionError>,
    demanded: bool,
    on_cpu: impl FnOnce() -> Result<T, SessionError>,
) -> Result<(T, Option<String>), SessionError> {
    match on_gpu {
        Ok(built) => Ok((built, None)),
        Err(error) if demanded => Err(error),
        Err(SessionError::Cuda { reason }) => Ok((on_cpu()?, Some(reason))),
        Err(error) => Ok((on_cpu()?, Some(error.to_string()))),
    }
}

/// What a session is built of.
struct Plan {
    /// The model, but for its larger constants.
    bytes: Vec<u8>,
    constants: Arc<[u8]>,
    threads: usize,
    optimise: bool,
}

impl Plan {
    fn new(graph: &Graph, kinds: &Kinds, threads: usize, purpose: Purpose) -> Result<Plan, SessionError> {
        let (model, constants) = to_split_model_proto(graph, |name| kinds.get(name).cloned(), CONSTANTS);
        let bytes = model.write_to_bytes().map_err(refusal)?;
        Ok(Plan { bytes, constants, threads, optimise: !matches!(purpose, Purpose::Look) })
    }
}

fn build(builder: SessionBuilder, plan: &Plan) -> Result<Built, SessionError> {
    let level = if plan.optimise { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
    let mut builder = builder
        .with_optimization_level(level)
        .map_err(refusal)?
        .with_intra_threads(plan.threads)
        .map_err(refusal)?
        .with_memory_pattern(false)
        .map_err(refusal)?
        .with_flush_to_zero()
        .map_err(refusal)?
        // Waiting threads would otherwise take the processor from the accumulation between two runs.
        .with_config_entry("session.force_spinning_stop", "1")
        .map_err(refusal)?
        .with_config_entry("session.record_ep_graph_assignment_info", "1")
        .map_err(refusal)?;
    if !plan.constants.is_empty() {
        let constants = plan.constants.clone();
        builder = builder.with_external_initializer_file_in_memory(CONSTANTS, constants).map_err(refusal)?;
    }
    let session = builder.commit_from_memory(&plan.bytes).map_err(refusal)?;
    let record = assignment::of(&session).map_err(refusal)?;
    Ok((session, record))
}

fn environment(options: &RuntimeOptions) -> Result<(ort::environment::Environment, PathBuf), SessionError> {
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((environment, library)) = shared.as_ref() {
        return Ok((environment.clone(), library.clone()));
    }
    let folders = locate::folders();
    let library = match &options.library {
        Some(path) => std::path::absolute(path)
            .map_err(|e| SessionError::Library { path: path.clone(), reason: e.to_string() })?,
        None => locate::library(&folders).ok_or_else(|| SessionError::NoLibrary {
            searched: folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
        })?,
    };
    let fail = |reason: String| SessionError::Library { path: library.clone(), reason };
    let builder = ort::init_from(&library).map_err(|e| fail(e.to_string()))?;
    let builder = builder.with_name("onnx-unlearn").with_telemetry(false);
    let environment = builder.build().map_err(|e| fail(e.to_string()))?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    operators::announce(&environment).map_err(|e| fail(e.to_string()))?;
    *shared = Some((environment.clone(), library.clone()));
    Ok((environment, library))
}

fn refusal(error: impl std::fmt::Display) -> SessionError {
    SessionError::Refused { runtime: NAME, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(reason: &str) -> Result<u8, SessionError> {
        Err(SessionError::Cuda { reason: reason.into() })
    }

    #[test]
    fn the_cpu_takes_over_where_the_gpu_was_not_demanded() {
        assert_eq!(settle(Ok(1), false, || Ok(2)).unwrap(), (1, None));
        let reason = "Gemm 'head' was assigned to CPUExecutionProvider";
        assert_eq!(settle(gpu(reason), false, || Ok(2)).unwrap(), (2, Some(reason.into())));
        // What the CPU refuses too is its own fault.
        let refused = settle(gpu(reason), false, || Err::<u8, _>(refusal("no such operator")));
        assert_eq!(refused.unwrap_err().to_string(), "ONNX Runtime refuses the graph: no such operator");
    }

    #[test]
    fn too_little_memory_is_told_from_other_failures() {
        let failed = |reason: &str| SessionError::Failed { runtime: NAME, reason: reason.into() };
        assert!(failed("BFCArena: Failed to allocate memory for requested buffer of size 4096").out_of_memory());
        assert!(failed("CUDA failure 2: out of memory").out_of_memory());
        assert!(!failed("Gather: index 7 is out of bounds").out_of_memory());
        assert!(!refusal("out of memory").out_of_memory());
    }

    #[test]
    fn a_gpu_that_was_demanded_is_no_matter_of_taste() {
        let error = settle(gpu("Gemm 'head' was assigned to CPUExecutionProvider"), true, || Ok(2)).unwrap_err();
        insta::assert_snapshot!(error, @"the CUDA execution provider cannot be used: Gemm 'head' was assigned to CPUExecutionProvider. Run 'onnx-unlearn runtime show' to see what is missing, or use --device cpu");
    }
}
