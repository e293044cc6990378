//! Tensors as the file stores them: which field holds which type, how much of it there must be,
//! and the elements themselves.

use super::{ModelError, TensorFault};
use crate::tensor::{DType, Tensor};
use half::{bf16, f16};
use onnx_protobuf::TensorProto;

/// How a type is stored: bits an element takes in raw_data, the field that may hold it
/// instead, and the entries of that field for `per` elements.
struct Layout {
    bits: u64,
    field: &'static str,
    entries: u64,
    per: u64,
}

/// Layout of a `TensorProto.DataType`; none for types newer than IR version 10.
fn layout(data_type: i32) -> Option<Layout> {
    let (bits, field, entries, per) = match data_type {
        1 => (32, "float_data", 1, 1),
        2 | 3 | 9 | 17..=20 => (8, "int32_data", 1, 1),
        4 | 5 | 10 | 16 => (16, "int32_data", 1, 1),
        6 => (32, "int32_data", 1, 1),
        7 => (64, "int64_data", 1, 1),
        8 => (0, "string_data", 1, 1),
        11 => (64, "double_data", 1, 1),
        12 => (32, "uint64_data", 1, 1),
        13 => (64, "uint64_data", 1, 1),
        14 => (64, "float_data", 2, 1),
        15 => (128, "double_data", 2, 1),
        21..=23 => (4, "int32_data", 1, 2),
        _ => return None,
    };
    Some(Layout { bits, field, entries, per })
}

/// The typed field that holds data, with the number of its entries.
fn typed(tensor: &TensorProto) -> Option<(&'static str, usize)> {
    [
        ("float_data", tensor.float_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("string_data", tensor.string_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("double_data", tensor.double_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
    ]
    .into_iter()
    .find(|(_, entries)| *entries > 0)
}

fn fault<T>(name: &str, fault: TensorFault) -> Result<T, ModelError> {
    Err(ModelError::Tensor { tensor: name.to_owned(), fault })
}

pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location.value() == 1
}

/// The dimensions; an error where one is negative or their product (zeros left out) times
/// 16 bytes does not fit a signed machine word.
fn shape(tensor: &TensorProto, name: &str) -> Result<Vec<usize>, ModelError> {
    let mut product = 16isize;
    let mut shape = Vec::with_capacity(tensor.dims.len());
    for &dim in &tensor.dims {
        if dim < 0 {
            return fault(name, TensorFault::NegativeDimension(dim));
        }
        let Some(next) = isize::try_from(dim.max(1)).ok().and_then(|d| product.checked_mul(d)) else {
            return fault(name, TensorFault::Overflow);
        };
        product = next;
        shape.push(dim as usize);
    }
    Ok(shape)
}

/// Bytes that `elements` elements take in raw_data or an external file; none where the type
/// is unknown or has no such form.
pub(super) fn raw_size(data_type: i32, elements: usize) -> Option<u64> {
    let bits = layout(data_type)?.bits;
    if bits == 0 { None } else { Some((elements as u64 * bits).div_ceil(8)) }
}

/// Checks type, dimensions and amount of data of a tensor, and gives its shape. External data
/// is checked where the file is opened. Types newer than IR version 10 pass with any data.
pub(super) fn check(tensor: &TensorProto, name: &str) -> Result<Vec<usize>, ModelError> {
    let shape = shape(tensor, name)?;
    if tensor.data_type == 0 {
        return fault(name, TensorFault::NoType);
    }
    if tensor.segment.is_some() {
        return fault(name, TensorFault::Segment);
    }
    let Some(layout) = layout(tensor.data_type) else { return Ok(shape) };
    if is_external(tensor) || !tensor.external_data.is_empty() {
        return Ok(shape);
    }
    let elements = shape.iter().product::<usize>() as u64;
    let (found, expected, unit) = match typed(tensor) {
        Some((field, _)) if field != layout.field => {
            return fault(name, TensorFault::WrongField { found: field, expected: layout.field });
        }
        Some((_, found)) => (found as u64, (elements * layout.entries).div_ceil(layout.per), "entries"),
        None if layout.bits == 0 && tensor.raw_data.is_empty() => (0, elements, "entries"),
        None if layout.bits == 0 => {
            return fault(name, TensorFault::WrongField { found: "raw_data", expected: layout.field });
        }
        None => (tensor.raw_data.len() as u64, (elements * layout.bits).div_ceil(8), "bytes"),
    };
    if found != expected {
        return fault(name, TensorFault::Length { found, expected, unit });
    }
    Ok(shape)
}

/// A tensor from bytes in the layout of raw_data.
pub(super) fn from_bytes(data_type: i32, shape: &[usize], bytes: &[u8], name: &str) -> Result<Tensor, ModelError> {
    let dtype = dtype(data_type, name)?;
    let expected = shape.iter().product::<usize>() as u64 * dtype.size() as u64;
    Tensor::from_le_bytes(dtype, shape, bytes)
        .map_or_else(|| fault(name, TensorFault::Length { found: bytes.len() as u64, expected, unit: "bytes" }), Ok)
}

fn dtype(data_type: i32, name: &str) -> Result<DType, ModelError> {
    DType::from_onnx(data_type).ok_or_else(|| ModelError::UnsupportedType { tensor: name.to_owned(), data_type })
}

/// The elements of a tensor stored inside the model, whichever field holds them.
pub fn inline(tensor: &TensorProto) -> Result<Tensor, ModelError> {
    let name = &format!("tensor \"{}\"", tensor.name);
    let shape = check(tensor, name)?;
    if typed(tensor).is_none() {
        return from_bytes(tensor.data_type, &shape, &tensor.raw_data, name);
    }
    let made = match dtype(tensor.data_type, name)? {
        DType::F32 => Tensor::new(&shape, tensor.float_data.clone()),
        DType::F64 => Tensor::new(&shape, tensor.double_data.clone()),
        DType::I64 => Tensor::new(&shape, tensor.int64_data.clone()),
        DType::I32 => Tensor::new(&shape, tensor.int32_data.clone()),
        DType::F16 => Tensor::new(&shape, narrow(tensor, |x| u16::try_from(x).ok().map(f16::from_bits))?),
        DType::BF16 => Tensor::new(&shape, narrow(tensor, |x| u16::try_from(x).ok().map(bf16::from_bits))?),
        DType::I16 => Tensor::new(&shape, narrow(tensor, |x| i16::try_from(x).ok())?),
        DType::I8 => Tensor::new(&shape, narrow(tensor, |x| i8::try_from(x).ok())?),
        DType::U8 => Tensor::new(&shape, narrow(tensor, |x| u8::try_from(x).ok())?),
        DType::Bool => {
            Tensor::new(&shape, narrow(tensor, |x| u8::try_from(x).ok().filter(|&x| x < 2).map(|x| x == 1))?)
        }
    };
    let (found, expected) = (tensor.dims.len() as u64, shape.len() as u64);
    made.map_or_else(|| fault(name, TensorFault::Length { found, expected, unit: "entries" }), Ok)
}

/// The entries of int32_data in their real type.
fn narrow<T>(tensor: &TensorProto, to: impl Fn(i32) -> Option<T>) -> Result<Vec<T>, ModelError> {
    let one = |(index, &value): (usize, &i32)| match to(value) {
        Some(element) => Ok(element),
        None => fault(&format!("tensor \"{}\"", tensor.name), TensorFault::OutOfRange { index, value: value.into() }),
    };
    tensor.int32_data.iter().enumerate().map(one).collect()
}
