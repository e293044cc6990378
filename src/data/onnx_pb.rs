//! Folders in the layout of the ONNX test suites: `test_data_set_*/input_N.pb`, each file a serialised
//! `TensorProto`, N counting the model's inputs in order.
//!
//! The few fields needed are read straight from the wire format
//! (<https://protobuf.dev/programming-guides/encoding/>), without recursion and without groups.

use super::arrays::{Arrays, Collector, Header, Role, Stored};
use super::error::DataError;
use super::{InputSpec, Limits, Loaded, files};
use crate::tensor::{DType, Element, Tensor};
use crate::with_array;
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The data set folders in `folder`, by their number; `folder` itself where it holds `input_0.pb`.
/// None where there are none.
pub(super) fn sets(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut sets = Vec::new();
    for name in files::entries(folder)? {
        let text = name.to_string_lossy();
        if text == "input_0.pb" {
            return Ok(vec![folder.to_owned()]);
        }
        if let Some(number) = text.strip_prefix("test_data_set_") {
            sets.push((number.parse::<u64>().unwrap_or(u64::MAX), folder.join(&name)));
        }
    }
    sets.sort();
    Ok(sets.into_iter().map(|(_, path)| path).collect())
}

/// Reads the sets and joins them along the first axis.
pub(super) fn open(
    folder: &Path,
    sets: &[PathBuf],
    inputs: &[InputSpec],
    limits: &Limits,
) -> Result<Loaded, DataError> {
    let mut read = Vec::new();
    let mut parts: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    let mut samples = 0;
    let mut left = limits.clone();
    for set in sets {
        check_inputs(set, inputs.len())?;
        let mut collector = Collector::new(set, &left);
        for (number, input) in inputs.iter().enumerate() {
            let file = format!("input_{number}.pb");
            let path = set.join(&file);
            // The elements may take up the limit; around them is little.
            let content = files::read(&path, limits.decoded_bytes.saturating_add(1 << 20))?;
            let fault = |reason| DataError::TensorProto { path: path.clone(), at: 0, reason };
            let tensor = TensorProto::read(&path, &content)?;
            if inputs.iter().any(|other| other.name == tensor.name && other.name != input.name) {
                let (found, expected) = (&tensor.name, &input.name);
                return Err(fault(format!("its name is `{found}`, but input {number} of the model is `{expected}`")));
            }
            let header = tensor.header(&path, &file)?;
            collector.announce(Role::Input(input), &header)?;
            let first = parts.get(&input.name).and_then(|parts| parts.first());
            if let Some(first) = first.filter(|first| first.shape()[1..] != header.shape[1..]) {
                let (found, before) = (&header.shape, first.shape());
                return Err(fault(format!("shape {found:?} cannot be joined to {before:?} of the first set")));
            }
            let elements = tensor.elements(&path, &header)?;
            collector.read(Role::Input(input), &header, &mut elements.as_slice())?;
            read.push((path.clone(), files::sha256(&content)));
        }
        left.decoded_bytes -= collector.used();
        let set = collector.finish();
        samples += set.samples;
        set.inputs.into_iter().for_each(|(name, tensor)| parts.entry(name).or_default().push(tensor));
    }
    let join = |(name, parts): (String, Vec<Tensor>)| {
        let fault = || DataError::TensorProto {
            path: folder.to_owned(),
            at: 0,
            reason: format!("the sets of `{name}` cannot be joined"),
        };
        Ok((name.clone(), join(parts).ok_or_else(fault)?))
    };
    let inputs = parts.into_iter().map(join).collect::<Result<_, DataError>>()?;
    Ok(Loaded::arrays(Arrays { inputs, labels: None, samples }, read))
}

/// Tensors of one type one after another along the first axis; none where the other axes differ.
fn join(mut parts: Vec<Tensor>) -> Option<Tensor> {
    fn join<T: Element>(_: &ArrayD<T>, parts: &[Tensor]) -> Option<Tensor> {
        let views: Option<Vec<_>> = parts.iter().map(|part| part.array::<T>().map(|a| a.view())).collect();
        ndarray::concatenate(Axis(0), &views?).ok().map(T::wrap)
    }
    match parts.len() {
        1 => parts.pop(),
        _ => with_array!(parts.first()?, first => join(first, &parts)),
    }
}

/// The fault that a set has an `input_N.pb` that no input of the model takes.
fn check_inputs(set: &Path, inputs: usize) -> Result<(), DataError> {
    for name in files::entries(set)? {
        let text = name.to_string_lossy();
        let number = text.strip_prefix("input_").and_then(|rest| rest.strip_suffix(".pb"));
        if number.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n >= inputs) {
            let reason = format!("the model has {inputs} inputs, numbered from 0; remove the file");
            return Err(DataError::TensorProto { path: set.join(&name), at: 0, reason });
        }
    }
    Ok(())
}

/// The fields of a `TensorProto` that matter here; the elements lie in `raw` or, one or many to a field,
/// in `typed`.
#[derive(Default)]
struct TensorProto<'a> {
    name: String,
    data_type: i64,
    dims: Vec<usize>,
    raw: Option<&'a [u8]>,
    /// The number of the field that holds the elements, where that is not `raw_data`.
    typed: Option<u32>,
    bytes: &'a [u8],
}

impl<'a> TensorProto<'a> {
    fn read(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        let fault = |at, reason: &str| DataError::TensorProto { path: path.to_owned(), at, reason: reason.to_owned() };
        let mut tensor = TensorProto { bytes, ..Default::default() };
        let mut wire = Wire { bytes, at: 0 };
        loop {
            let at = wire.at;
            let Some((field, value)) = wire.next().map_err(|(at, why)| fault(at, why))? else { break };
            match (field, value) {
                (1, value) => {
                    for dim in varints(value, at).map_err(|(at, why)| fault(at, why))? {
                        tensor
                            .dims
                            .push(usize::try_from(dim as i64).map_err(|_| fault(at, "a dimension is negative"))?);
                    }
                }
                (2, Value::Varint(number)) => tensor.data_type = number as i64,
                (8, Value::Bytes(name)) => tensor.name = String::from_utf8_lossy(name).into_owned(),
                (9, Value::Bytes(raw)) => {
                    let before = tensor.raw.replace(raw);
                    if before.is_some() {
                        return Err(fault(at, "raw_data is there twice"));
                    }
                }
                (4 | 5 | 7 | 10 | 11, _) => {
                    let before = tensor.typed.replace(field);
                    if before.is_some_and(|before| before != field) {
                        return Err(fault(at, "elements lie in two different fields"));
                    }
                }
                (3, _) => return Err(fault(at, "segments are not supported; store the tensor whole")),
                (6, _) => return Err(fault(at, "strings are not supported as model inputs")),
                (13, _) | (14, Value::Varint(1..)) => {
                    return Err(fault(at, "external data is not supported here; store it in the file"));
                }
                (2 | 8 | 9 | 14, _) => return Err(fault(at, "a field has another type than TensorProto gives it")),
                _ => {}
            }
        }
        match (tensor.raw, tensor.typed) {
            (Some(_), Some(_)) => Err(fault(0, "raw_data and typed data are both there; keep one")),
            _ => Ok(tensor),
        }
    }

    fn header(&self, path: &Path, name: &str) -> Result<Header, DataError> {
        let dtype = i32::try_from(self.data_type).ok().and_then(DType::from_onnx);
        let dtype = dtype.ok_or_else(|| DataError::Elements {
            path: path.to_owned(),
            array: name.to_owned(),
            found: format!("number {} of TensorProto.DataType", self.data_type),
        })?;
        let (stored, shape) = (Stored::As(dtype), self.dims.clone());
        let header = Header { name: name.to_owned(), stored, big_endian: false, fortran: false, shape };
        match self.raw {
            Some(raw) => header.check_length(path, raw.len() as u64)?,
            // No element takes less than a byte of the file.
            None if header.bytes().is_none_or(|n| n / dtype.size() as u64 > self.bytes.len() as u64) => {
                header.check_length(path, self.bytes.len() as u64)?;
            }
            None => {}
        }
        Ok(header)
    }

    /// The elements in little-endian bytes, as many as `header` promises.
    fn elements(&self, path: &Path, header: &Header) -> Result<Vec<u8>, DataError> {
        let fault =
            |(at, reason): Fault| DataError::TensorProto { path: path.to_owned(), at, reason: reason.to_owned() };
        let mut out = self.raw.map(<[u8]>::to_vec).unwrap_or_default();
        let mut wire = Wire { bytes: self.bytes, at: 0 };
        let (Stored::As(dtype), Some(typed)) = (header.stored, self.typed) else {
            header.check_length(path, out.len() as u64)?;
            return Ok(out);
        };
        loop {
            let at = wire.at;
            let Some((field, value)) = wire.next().map_err(fault)? else { break };
            match (field, dtype, value) {
                (field, ..) if field != typed => {}
                (4, DType::F32, Value::Bytes(packed)) => out.extend(packed),
                (4, DType::F32, Value::Fixed32(one)) => out.extend(one),
                (10, DType::F64, Value::Bytes(packed)) => out.extend(packed),
                (10, DType::F64, Value::Fixed64(one)) => out.extend(one),
                (7, DType::I64, value) => {
                    varints(value, at).map_err(fault)?.into_iter().for_each(|x| out.extend(x.to_le_bytes()));
                }
                // Small types lie in int32_data; float16 and bfloat16 as their bits.
                (5, dtype, value) if !matches!(dtype, DType::F32 | DType::F64 | DType::I64) => {
                    for x in varints(value, at).map_err(fault)? {
                        let x = x as i64;
                        let fits = match dtype {
                            DType::I8 => i8::try_from(x).is_ok(),
                            DType::I16 => i16::try_from(x).is_ok(),
                            DType::I32 => i32::try_from(x).is_ok(),
                            DType::Bool => (0..=1).contains(&x),
                            DType::U8 => u8::try_from(x).is_ok(),
                            _ => u16::try_from(x).is_ok(),
                        };
                        if !fits {
                            return Err(fault((at, "a value of int32_data is beyond the range of the type")));
                        }
                        out.extend(&x.to_le_bytes()[..dtype.size()]);
                    }
                }
                _ => return Err(fault((at, "elements lie in a field that is not for their type"))),
            }
        }
        header.check_length(path, out.len() as u64)?;
        Ok(out)
    }
}

/// A fault: byte offset and reason.
type Fault = (usize, &'static str);

/// The value of a field on the wire.
enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// A walk over the fields of one message.
struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    /// The next field's number and value; none at the end.
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Fault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| (start, "a field number is too large"))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let at = self.at;
                let length = self.varint()?;
                let rest = &self.bytes[self.at..];
                let length = usize::try_from(length).ok().filter(|&n| n <= rest.len());
                let length = length.ok_or((at, "a field reaches beyond the end of the file"))?;
                self.at += length;
                Value::Bytes(&rest[..length])
            }
            5 => Value::Fixed32(self.fixed()?),
            _ => return Err((start, "not a TensorProto: groups and unknown wire types are refused")),
        };
        Ok(Some((field, value)))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or((start, "the file ends within a number"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err((start, "a number is longer than ten bytes"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.bytes[self.at..].first_chunk().ok_or((self.at, "the file ends within a number"))?;
        self.at += N;
        Ok(*bytes)
    }
}

/// The numbers of a repeated integer field, packed or not.
fn varints(value: Value, at: usize) -> Result<Vec<u64>, Fault> {
    match value {
        Value::Varint(number) => Ok(vec![number]),
        Value::Bytes(packed) => {
            let mut wire = Wire { bytes: packed, at: 0 };
            let mut numbers = Vec::new();
            while wire.at < packed.len() {
                numbers.push(wire.varint().map_err(|(_, why)| (at, why))?);
            }
            Ok(numbers)
        }
        _ => Err((at, "an integer field holds something else")),
    }
}
