//! From the bytes of an array to its elements, of every type, in both byte orders and both layouts.

use super::arrays::{Header, Stored};
use crate::tensor::{DType, Element, Tensor};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use std::io::{self, Read};

/// Reads the elements that the header promises, into row-major order.
pub(super) fn read_tensor(header: &Header, reader: &mut impl Read) -> io::Result<Tensor> {
    fn read<T: Element>(header: &Header, reader: &mut impl Read) -> io::Result<Tensor> {
        let elements = read_elements::<T>(header.shape.iter().product(), header.big_endian, reader)?;
        let shape = IxDyn(&header.shape).set_f(header.fortran);
        let array = ArrayD::from_shape_vec(shape, elements).map_err(io::Error::other)?;
        Ok(T::wrap(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() }))
    }
    match header.stored {
        Stored::As(DType::F32) => read::<f32>(header, reader),
        Stored::As(DType::F64) => read::<f64>(header, reader),
        Stored::As(DType::F16) => read::<f16>(header, reader),
        Stored::As(DType::BF16) => read::<bf16>(header, reader),
        Stored::As(DType::I8) => read::<i8>(header, reader),
        Stored::As(DType::I16) => read::<i16>(header, reader),
        Stored::As(DType::I32) => read::<i32>(header, reader),
        Stored::As(DType::I64) => read::<i64>(header, reader),
        Stored::As(DType::U8) => read::<u8>(header, reader),
        Stored::As(DType::Bool) => read::<bool>(header, reader),
        other => Err(io::Error::other(format!("elements of type {other} are not supported"))),
    }
}

/// Labels as i64, or the first that does not fit: its sample and value.
pub(super) type Labels = Result<Vec<i64>, (usize, u64)>;

/// Reads `count` labels of any integer type.
pub(super) fn read_labels(
    stored: Stored,
    big_endian: bool,
    count: usize,
    reader: &mut impl Read,
) -> io::Result<Labels> {
    fn read<T: Element>(
        count: usize,
        big_endian: bool,
        reader: &mut impl Read,
        to_i64: fn(T) -> i64,
    ) -> io::Result<Labels> {
        Ok(Ok(read_elements::<T>(count, big_endian, reader)?.into_iter().map(to_i64).collect()))
    }
    match stored {
        Stored::As(DType::I8) => read::<i8>(count, big_endian, reader, i64::from),
        Stored::As(DType::I16) => read::<i16>(count, big_endian, reader, i64::from),
        Stored::As(DType::I32) => read::<i32>(count, big_endian, reader, i64::from),
        Stored::As(DType::I64) => read::<i64>(count, big_endian, reader, |x| x),
        Stored::As(DType::U8) => read::<u8>(count, big_endian, reader, i64::from),
        Stored::U16 => read::<i16>(count, big_endian, reader, |x| i64::from(x as u16)),
        Stored::U32 => read::<i32>(count, big_endian, reader, |x| i64::from(x as u32)),
        Stored::U64 => {
            let labels = read_elements::<i64>(count, big_endian, reader)?;
            match labels.iter().position(|&x| x < 0) {
                Some(sample) => Ok(Err((sample, labels[sample] as u64))),
                None => Ok(Ok(labels)),
            }
        }
        other => Err(io::Error::other(format!("labels of type {other} are not supported"))),
    }
}

/// Reads `count` elements through a small buffer.
fn read_elements<T: Element>(count: usize, big_endian: bool, reader: &mut impl Read) -> io::Result<Vec<T>> {
    let size = T::DTYPE.size();
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut buffer = vec![0; 1 << 16];
    let mut left = count * size;
    while left > 0 {
        let chunk = &mut buffer[..left.min(1 << 16)];
        reader.read_exact(chunk)?;
        if big_endian {
            chunk.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        elements.extend(chunk.chunks_exact(size).map(T::from_le));
        left -= chunk.len();
    }
    Ok(elements)
}
