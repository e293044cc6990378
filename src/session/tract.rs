//! The embedded runtime: pure Rust, no native library. It runs graphs of fixed shapes.

use super::{Feed, Output, RuntimeInfo, Session, SessionError};
use crate::tensor::{Element, Tensor};
use onnx_protobuf::ModelProto;
use protobuf::Message;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use tract_onnx::prelude::{
    Arc, DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TractError, TractResult,
    TypedRunnableModel,
};

const NAME: &str = "tract";

pub(super) fn info() -> RuntimeInfo {
    RuntimeInfo {
        name: NAME.into(),
        version: "0.23.9".into(),
        provider: NAME.into(),
        device: "cpu".into(),
        allow_tf32: false,
        library: None,
        assignment: vec![],
    }
}

pub(super) fn session(model: &ModelProto, optimise: bool) -> Result<Box<dyn Session>, SessionError> {
    let refused = |reason: String| SessionError::Refused { runtime: NAME, reason };
    let inputs = model.graph.input.iter().map(|i| i.name.clone()).collect();
    let bytes = model.write_to_bytes().map_err(|e| refused(e.to_string()))?;
    let runnable = guarded(|| {
        let model = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(bytes))?;
        let model = if optimise { model.into_optimized()? } else { model.into_typed()? };
        model.into_runnable()
    })
    .map_err(refused)?;
    Ok(Box::new(TractSession { runnable, inputs }))
}

pub(super) fn run_file(path: &Path, feeds: &[Feed], output: &str) -> Result<Vec<Tensor>, SessionError> {
    let mut ready: Option<(Vec<Vec<usize>>, TractSession)> = None;
    let mut results = Vec::new();
    for feed in feeds {
        let shapes: Vec<Vec<usize>> = feed.values().map(|t| t.shape().to_vec()).collect();
        let session = match ready.take() {
            Some((same, session)) if same == shapes => session,
            _ => file_session(path, feed, output)?,
        };
        let (_, session) = ready.insert((shapes, session));
        results.push(session.run(feed)?.swap_remove(0));
    }
    Ok(results)
}

fn file_session(path: &Path, feed: &Feed, output: &str) -> Result<TractSession, SessionError> {
    guarded(|| {
        // Shapes noted in the file may name the number of samples, which is fixed here.
        let reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let mut model = reader.model_for_path(path)?;
        model.select_outputs_by_name([output])?;
        let mut inputs = Vec::new();
        for (index, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
            let name = model.node(outlet.node).name.clone();
            let Some(tensor) = feed.get(&name) else {
                return Err(TractError::msg(format!("input '{name}' is missing")));
            };
            let value = to_tract(tensor).map_err(TractError::msg)?;
            model.set_input_fact(index, InferenceFact::dt_shape(value.datum_type(), value.shape()))?;
            inputs.push(name);
        }
        Ok(TractSession { runnable: model.into_optimized()?.into_runnable()?, inputs })
    })
    .map_err(|reason| SessionError::Refused { runtime: NAME, reason })
}

struct TractSession {
    runnable: Arc<TypedRunnableModel>,
    inputs: Vec<String>,
}

impl Session for TractSession {
    fn show(&mut self, feed: &Feed, see: &mut dyn FnMut(Vec<Output>)) -> Result<(), SessionError> {
        let mut values = Vec::new();
        for name in &self.inputs {
            let tensor = feed.get(name).ok_or_else(|| SessionError::MissingInput { name: name.clone() })?;
            values.push(to_tract(tensor)?);
        }
        let outputs = guarded(|| self.runnable.run(values.into_iter().collect()))
            .map_err(|reason| SessionError::Failed { runtime: NAME, reason })?;
        let read = outputs.iter().enumerate().map(|(i, value)| from_tract(value, i).map(Output::Tensor));
        see(read.collect::<Result<_, _>>()?);
        Ok(())
    }
}

fn to_tract(tensor: &Tensor) -> Result<TValue, SessionError> {
    let value: tract_onnx::prelude::Tensor = match tensor {
        Tensor::F32(a) => a.clone().into(),
        Tensor::F64(a) => a.clone().into(),
        Tensor::F16(a) => a.clone().into(),
        Tensor::I8(a) => a.clone().into(),
        Tensor::I16(a) => a.clone().into(),
        Tensor::I32(a) => a.clone().into(),
        Tensor::I64(a) => a.clone().into(),
        Tensor::U8(a) => a.clone().into(),
        Tensor::Bool(a) => a.clone().into(),
        Tensor::BF16(_) => {
            return Err(SessionError::Refused { runtime: NAME, reason: "bfloat16 is not supported".into() });
        }
    };
    Ok(value.into())
}

fn from_tract(value: &TValue, index: usize) -> Result<Tensor, SessionError> {
    fn get<T: Element + tract_onnx::prelude::Datum>(value: &TValue) -> TractResult<Tensor> {
        Ok(T::wrap(value.cast_to::<T>()?.to_plain_array_view::<T>()?.to_owned()))
    }
    let read = match value.datum_type() {
        DatumType::F32 => get::<f32>(value),
        DatumType::F64 => get::<f64>(value),
        DatumType::F16 => get::<half::f16>(value),
        DatumType::I8 => get::<i8>(value),
        DatumType::I16 => get::<i16>(value),
        DatumType::I32 => get::<i32>(value),
        DatumType::I64 | DatumType::TDim => get::<i64>(value),
        DatumType::U8 => get::<u8>(value),
        DatumType::Bool => get::<bool>(value),
        other => return Err(SessionError::OutputType { runtime: NAME, index, found: format!("{other:?}") }),
    };
    read.map_err(|e| SessionError::Failed { runtime: NAME, reason: format!("{e:#}") })
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with its errors and its panics turned into a message; a panic inside prints nothing.
fn guarded<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                previous(info);
            }
        }));
    });
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|e| format!("{e:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
    }
}
