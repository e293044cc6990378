//! A session that runs, and the values that stay with it.

use super::seen::{Form, Seen};
use super::{NAME, last};
use crate::graph::Name;
use crate::session::{Carried, Feed, Output, Session, SessionError};
use crate::tensor::{DType, Element, Tensor};
use crate::with_array;
use ndarray::{ArrayD, ArrayViewD};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{SessionInputValue, SessionInputs};
use ort::value::{DynTensorValueType, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(super) struct OrtSession {
    session: ort::session::Session,
    /// The GPU that carried values stay on.
    device: Option<u32>,
    /// How its outputs are seen, where they are not seen as they are.
    seen: Option<Vec<Seen>>,
    kept: BTreeMap<Name, DynValue>,
}

impl OrtSession {
    /// A session on the CPU, or on a GPU.
    pub fn new(session: ort::session::Session, device: Option<u32>, seen: Option<Vec<Seen>>) -> OrtSession {
        OrtSession { session, device, seen, kept: BTreeMap::new() }
    }

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

/// Values for inputs that lie in the memory of a device.
#[derive(Debug)]
pub struct Brought(BTreeMap<String, DynValue>);

impl Brought {
    /// Copies values to a device and waits until they are there.
    ///
    /// # Errors
    /// The runtime has no such device, or it has too little memory.
    pub(super) fn new(feed: &Feed, device: &AllocationDevice<'static>, id: i32) -> Result<Brought, SessionError> {
        let bring = |(name, tensor): (&String, &Tensor)| {
            let value = owned(tensor)?.downcast::<DynTensorValueType>().map_err(failed)?;
            Ok((name.clone(), value.to(device.clone(), id).map_err(failed)?.into_dyn()))
        };
        feed.iter().map(bring).collect::<Result<_, _>>().map(Brought)
    }
}

/// A value of the runtime's own, in the memory of the host.
fn owned(tensor: &Tensor) -> Result<DynValue, SessionError> {
    with_array!(tensor, a => Value::from_array(a.clone()).map(|value| value.into_dyn())).map_err(failed)
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
        let shown: Result<Vec<_>, _> = match &self.seen {
            None => (0..outputs.len()).map(|i| read(&outputs[i], i)).collect(),
            Some(seen) => seen.iter().map(|seen| shaped(read(&outputs[seen.index], seen.index)?, seen)).collect(),
        };
        see(shown?);
        Ok(())
    }

    fn carry(
        &mut self,
        feed: &Feed,
        brought: Option<Brought>,
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
            if let Some(value) = brought.as_ref().and_then(|brought| brought.0.get(&name)) {
                binding.bind_input(&name, value).map_err(failed)?;
                continue;
            }
            let Some(tensor) = feed.get(&name) else { return Err(SessionError::MissingInput { name }) };
            // A value of its own: binding a borrowed one would have it copied by another session.
            binding.bind_input(&name, &owned(tensor)?).map_err(failed)?;
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

/// An output in the form that it is seen in.
fn shaped<'a>(output: Output<'a>, seen: &Seen) -> Result<Output<'a>, SessionError> {
    match (output, &seen.form) {
        (Output::Single(view), Form::Last) => Ok(Output::Single(view.permuted_axes(last::FIRST.to_vec()))),
        (Output::Single(view), Form::Shaped(shape)) => {
            let view = view.into_shape_with_order(shape.clone());
            let failed = |e: ndarray::ShapeError| SessionError::Failed { runtime: NAME, reason: e.to_string() };
            view.map(Output::Single).map_err(failed)
        }
        (output, _) => Ok(output),
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
    use crate::graph::{Graph, Input, Node, attribute};
    use crate::session::{Kinds, Runtime, RuntimeChoice, RuntimeOptions};
    use onnx_protobuf::AttributeProto;

    fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Node {
        let (inputs, outputs) = (inputs.iter().map(|&x| Some(x.into())).collect(), vec![Some(output.into())]);
        Node { name: String::new(), domain: String::new(), op: op.into(), inputs, outputs, attributes }
    }

    #[test]
    fn what_was_brought_counts_as_what_is_fed() {
        let input = |name: &str, dtype| Input { name: name.into(), dtype, shape: vec![Some(3)] };
        let to = onnx_protobuf::tensor_proto::DataType::FLOAT as i64;
        let graph = Graph {
            nodes: vec![
                node("Cast", &["n"], "c", vec![attribute("to", to)]),
                node("Mul", &["x", "c"], "y", vec![]),
                node("Add", &["before", "y"], "after", vec![]),
            ],
            constants: BTreeMap::new(),
            inputs: vec![input("x", DType::F32), input("n", DType::I64), input("before", DType::F32)],
            outputs: vec!["after".into()],
            opsets: [(String::new(), 17)].into(),
            ir_version: 8,
        };
        let choice = RuntimeOptions { runtime: RuntimeChoice::OnnxRuntime, ..RuntimeOptions::default() };
        let kinds: Kinds = [("after".into(), (DType::F32, vec![3]))].into();
        let mut session = Runtime::open(choice).unwrap().session(&graph, &kinds).unwrap();
        let carried = Carried { input: "before".into(), output: "after".into(), dtype: DType::F32, shape: vec![3] };
        let x = Tensor::F32(ndarray::arr1(&[0.5, 1.0, -2.0]).into_dyn());
        let n = Tensor::I64(ndarray::arr1(&[2, 3, 4]).into_dyn());
        let (all, none) = (Feed::from([("x".to_string(), x), ("n".to_string(), n.clone())]), Feed::new());
        let brought = |feed: &Feed| Some(Brought::new(feed, &AllocationDevice::CPU, 0).unwrap());
        let some = Feed::from([("n".to_string(), n)]);
        for (feed, brought) in [(&all, None), (&none, brought(&all)), (&all, brought(&some))] {
            session.carry(feed, brought, std::slice::from_ref(&carried), &mut |_| {}).unwrap();
        }
        let sums = session.fetch().unwrap();
        assert_eq!(sums["before"], Tensor::F32(ndarray::arr1(&[3.0, 9.0, -24.0]).into_dyn()));
        assert!(matches!(session.carry(&some, None, &[], &mut |_| {}), Err(SessionError::MissingInput { .. })));
    }
}
