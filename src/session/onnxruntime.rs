//! ONNX Runtime, loaded from a shared library at run time.

use super::assignment::{self, Assigned, Tally};
use super::{
    Carried, DeviceChoice, Feed, Output, RuntimeInfo, RuntimeOptions, Session, SessionError, Surroundings, cuda, locate,
};
use crate::graph::{Graph, Name, to_split_model_proto};
use crate::tensor::{DType, Element, Tensor};
use crate::with_array;
use ndarray::{ArrayD, ArrayViewD};
use ort::ep::{self, ExecutionProvider};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{SessionInputValue, SessionInputs};

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::value::{DynTensorValueType, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, Value};
use protobuf::Message;
use std::borrow::Cow;
use std::collections::BTreeMap;
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
        let (allow_tf32, gpu_memory) = (options.allow_tf32, options.gpu_memory);
        let mut runtime = OnnxRuntime { environment, library, cuda: None, allow_tf32, gpu_memory, fallback, tally };
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
        kind: impl Fn(&Name) -> Option<(DType, Vec<usize>)>,
        threads: usize,
        optimise: bool,
    ) -> Result<Box<dyn Session>, SessionError> {
        let (model, constants) = to_split_model_proto(graph, kind, CONSTANTS);
        let plan = Plan { bytes: model.write_to_bytes().map_err(refusal)?, constants, threads, optimise };
        let on_cpu = || build(ort::session::Session::builder(&self.environment).map_err(refusal)?, &plan);
        let (session, record) = match self.device() {
            None => on_cpu()?,
            Some(cuda) => {
                let (built, reason) = settle(self.build_on_gpu(cuda.device, &plan), cuda.demanded, on_cpu)?;
                if let Some(reason) = reason {
                    let _ =
                        self.fallback.set(format!("running on the CPU: CUDA does not take the whole graph: {reason}"));
                }
                built
            }
        };
        self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&record);
        let device = self.device().map(|cuda| cuda.device);
        Ok(Box::new(OrtSession { session, device, kept: BTreeMap::new() }))
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
    *shared = Some((environment.clone(), library.clone()));
    Ok((environment, library))
}

fn refusal(error: impl std::fmt::Display) -> SessionError {
    SessionError::Refused { runtime: NAME, reason: error.to_string() }
}

struct OrtSession {
    session: ort::session::Session,
    /// The GPU that carried values stay on.
    device: Option<u32>,
    kept: BTreeMap<Name, DynValue>,
}

impl OrtSession {
    fn place(&self) -> Result<MemoryInfo<'static>, ort::Error> {
        match self.device {
            Some(device) => MemoryInfo::new(
                AllocationDevice::CUDA,
                i32::try_from(device).unwrap_or_default(),
                AllocatorType::Device,
                MemoryType::Default,
            ),
            None => Ok(MemoryInfo::default()),
        }
    }
}

fn failed(error: ort::Error) -> SessionError {
    SessionError::Failed { runtime: NAME, reason: error.to_string() }
}

/// Zeros in the memory of the host.
fn zeros(carried: &Carried) -> Result<DynValue, SessionError> {
    let made = match carried.dtype {
        DType::F64 => Value::from_array(ArrayD::<f64>::zeros(carried.shape.clone())).map(|v| v.into_dyn()),
        _ => Value::from_array(ArrayD::<f32>::zeros(carried.shape.clone())).map(|v| v.into_dyn()),
    };
    made.map_err(failed)
}

/// A value in the memory of the host.
fn on_host(value: DynValue) -> Result<DynValue, SessionError> {
    let value = value.downcast::<DynTensorValueType>().map_err(failed)?;
    if value.memory_info().is_cpu_accessible() {
        return Ok(value.into_dyn());
    }
    Ok(value.to(AllocationDevice::CPU, 0).map_err(failed)?.into_dyn())
}

impl Session for OrtSession {
    fn show(&mut self, feed: &Feed, see: &mut dyn FnMut(Vec<Output>)) -> Result<(), SessionError> {
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

    fn carry(
        &mut self,
        feed: &Feed,
        carried: &[Carried],
        see: &mut dyn FnMut(Vec<Output>),
    ) -> Result<(), SessionError> {
        let mut binding = self.session.create_binding().map_err(failed)?;
        let names: Vec<String> = self.session.inputs().iter().map(|input| input.name().to_string()).collect();
        for name in names {
            if let Some(own) = carried.iter().find(|c| *c.input == *name) {
                let value = match self.kept.get(&own.input) {
                    Some(value) => value,
                    None => self.kept.entry(own.input.clone()).or_insert(zeros(own)?),
                };
                binding.bind_input(&name, value).map_err(failed)?;
                continue;
            }
            let Some(tensor) = feed.get(&name) else { return Err(SessionError::MissingInput { name }) };
            // A value of its own: binding a borrowed one would have it copied by another session.
            let value = with_array!(tensor, a => Value::from_array(a.clone()).map(|value| value.into_dyn()));
            binding.bind_input(&name, &value.map_err(failed)?).map_err(failed)?;
        }
        let place = self.place().map_err(failed)?;
        let outputs: Vec<String> = self.session.outputs().iter().map(|output| output.name().to_string()).collect();
        for name in &outputs {
            let stays = carried.iter().any(|c| *c.output == **name);
            let host = MemoryInfo::default();
            binding.bind_output_to_device(name, if stays { &place } else { &host }).map_err(failed)?;
        }
        let mut found = self.session.run_binding(&binding).map_err(failed)?;
        let mut shown = Vec::new();
        for (index, name) in outputs.iter().enumerate() {
            let Some(value) = found.remove(name) else { continue };
            match carried.iter().find(|c| *c.output == **name) {
                Some(own) => drop(self.kept.insert(own.input.clone(), value)),
                None => shown.push((index, value)),
            }
        }
        see(shown.iter().map(|(index, value)| read(value, *index)).collect::<Result<_, _>>()?);
        Ok(())
    }

    fn fetch(&mut self) -> Result<BTreeMap<Name, Tensor>, SessionError> {
        let fetch = |(index, (name, value)): (usize, (Name, DynValue))| {
            let value = on_host(value)?;
            Ok((name, read(&value, index)?.into_tensor()))
        };
        std::mem::take(&mut self.kept).into_iter().enumerate().map(fetch).collect()
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
