//! ONNX Runtime, loaded from a shared library at run time.

use super::{DeviceChoice, Feed, Output, RuntimeInfo, RuntimeOptions, Session, SessionError, assignment, locate};
use crate::graph::{Graph, Name, to_split_model_proto};
use crate::tensor::{DType, Element};
use crate::with_array;
use ndarray::ArrayViewD;
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{SessionInputValue, SessionInputs};

use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef};
use protobuf::Message;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Mutex;

const NAME: &str = "ONNX Runtime";
/// The name under which a graph finds its larger constants.
const CONSTANTS: &str = "constants";

/// The environment is one per process: it is made by the first that needs it, from the library that one chose.
static ENVIRONMENT: Mutex<Option<(ort::environment::Environment, PathBuf)>> = Mutex::new(None);

pub(super) struct OnnxRuntime {
    environment: ort::environment::Environment,
    library: PathBuf,
    cuda: Option<u32>,
}

impl OnnxRuntime {
    pub(super) fn open(options: &RuntimeOptions) -> Result<(Self, Vec<String>), SessionError> {
        let (environment, library) = environment(options)?;
        let mut runtime = OnnxRuntime { environment, library, cuda: None };
        let mut warnings = Vec::new();
        match options.device {
            DeviceChoice::Cpu => {}
            DeviceChoice::Cuda(device) => {
                runtime.try_cuda(device).map_err(|reason| SessionError::Cuda { reason })?;
                runtime.cuda = Some(device);
            }
            DeviceChoice::Auto if runtime.has_cuda() => match runtime.try_cuda(0) {
                Ok(()) => runtime.cuda = Some(0),
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
        RuntimeInfo {
            name: "onnxruntime".into(),
            version: library_version.map_or_else(|| version.trim().to_string(), str::to_string),
            provider: if self.cuda.is_some() { "CUDAExecutionProvider" } else { "CPUExecutionProvider" }.into(),
            library: Some(self.library.clone()),
        }
    }

    fn has_cuda(&self) -> bool {
        ep::CUDA::is_available().unwrap_or(false)
    }

    /// Whether a session can be built on the GPU: the provider being compiled in says nothing of its libraries.
    fn try_cuda(&self, device: u32) -> Result<(), String> {
        if !self.has_cuda() {
            return Err(format!("{} was built without it", self.library.display()));
        }
        self.on_cuda(device).map(|_| ())
    }

    fn on_cuda(&self, device: u32) -> Result<SessionBuilder, String> {
        let cuda = ep::CUDA::default().with_device_id(device as i32).with_tf32(false);
        ort::session::Session::builder(&self.environment)
            .map_err(|e| e.to_string())?
            .with_execution_providers([cuda.build().error_on_failure()])
            .map_err(|e| e.to_string())
    }

    pub(super) fn session(
        &self,
        graph: &Graph,
        kind: impl Fn(&Name) -> Option<(DType, Vec<usize>)>,
        threads: usize,
        optimise: bool,
    ) -> Result<Box<dyn Session>, SessionError> {
        let (model, constants) = to_split_model_proto(graph, kind, CONSTANTS);
        let bytes = model.write_to_bytes().map_err(refusal)?;
        let builder = match self.cuda {
            Some(device) => self.on_cuda(device).map_err(|reason| SessionError::Cuda { reason })?,
            None => ort::session::Session::builder(&self.environment).map_err(refusal)?,
        };
        let level = if optimise { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
        let mut builder = builder
            .with_optimization_level(level)
            .map_err(refusal)?
            .with_intra_threads(threads)
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
        if !constants.is_empty() {
            builder = builder.with_external_initializer_file_in_memory(CONSTANTS, constants).map_err(refusal)?;
        }
        let session = builder.commit_from_memory(&bytes).map_err(refusal)?;
        if self.cuda.is_some() {
            prove_cuda(&session)?;
        }
        Ok(Box::new(OrtSession { session }))
    }
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
    let environment = builder.with_name("onnx-unlearn").build().map_err(|e| fail(e.to_string()))?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    *shared = Some((environment.clone(), library.clone()));
    Ok((environment, library))
}

/// Every operator that does the work must be on the GPU; the runtime would move it to the CPU without a word.
fn prove_cuda(session: &ort::session::Session) -> Result<(), SessionError> {
    let record = assignment::of(session).map_err(|reason| SessionError::Cuda { reason })?;
    let heavy =
        |op: &str| ["Conv", "ConvTranspose", "MatMul", "Gemm", "FusedConv", "FusedMatMul", "FusedGemm"].contains(&op);
    match record.iter().find(|n| heavy(&n.op) && n.provider != "CUDAExecutionProvider") {
        Some(node) => Err(SessionError::Cuda {
            reason: format!("{} '{}' was assigned to {}", node.op, crate::error::printable(&node.name), node.provider),
        }),
        None => Ok(()),
    }
}

fn refusal(error: impl std::fmt::Display) -> SessionError {
    SessionError::Refused { runtime: NAME, reason: error.to_string() }
}

struct OrtSession {
    session: ort::session::Session,
}

impl Session for OrtSession {
    fn show(&mut self, feed: &Feed, see: &mut dyn FnMut(Vec<Output>)) -> Result<(), SessionError> {
        let failed = |e: ort::Error| SessionError::Failed { runtime: NAME, reason: e.to_string() };
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for input in self.session.inputs() {
            let name = input.name().to_string();
            let Some(tensor) = feed.get(&name) else { return Err(SessionError::MissingInput { name }) };
            let value = with_array!(tensor, a => TensorRef::from_array_view(a.view()).map(SessionInputValue::from));
            inputs.push((name.into(), value.map_err(failed)?));
        }
        let inputs: SessionInputs<'_, '_, 0> = SessionInputs::ValueMap(inputs);
        let outputs = self.session.run(inputs).map_err(failed)?;
        see((0..outputs.len()).map(|i| read(&outputs[i], i)).collect::<Result<_, _>>()?);
        Ok(())
    }
}

fn read(value: &DynValue, index: usize) -> Result<Output<'_>, SessionError> {
    fn view<T: PrimitiveTensorElementType>(value: &DynValue) -> Result<ArrayViewD<'_, T>, SessionError> {
        let view = value.try_extract_array::<T>();
        view.map_err(|e| SessionError::Failed { runtime: NAME, reason: e.to_string() })
    }
    fn get<T: PrimitiveTensorElementType + Element>(value: &DynValue) -> Result<Output<'_>, SessionError> {
        Ok(Output::Tensor(T::wrap(view::<T>(value)?.to_owned())))
    }
    let unsupported = |found: String| SessionError::OutputType { runtime: NAME, index, found };
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => view::<f32>(value).map(Output::Single),
        Some(TensorElementType::Float64) => get::<f64>(value),
        Some(TensorElementType::Float16) => get::<half::f16>(value),
        Some(TensorElementType::Bfloat16) => get::<half::bf16>(value),
        Some(TensorElementType::Int8) => get::<i8>(value),
        Some(TensorElementType::Int16) => get::<i16>(value),
        Some(TensorElementType::Int32) => get::<i32>(value),
        Some(TensorElementType::Int64) => get::<i64>(value),
        Some(TensorElementType::Uint8) => get::<u8>(value),
        Some(TensorElementType::Bool) => get::<bool>(value),
        other => Err(unsupported(other.map_or_else(|| "not a tensor".into(), |t| t.to_string()))),
    }
}
