//! Safetensors files: <https://github.com/huggingface/safetensors#format>. The header is read and
//! checked on its own; each array is then read from its place.

use super::arrays::{Collector, Header, Stored, assign};
use super::error::DataError;
use super::{InputSpec, Limits, Loaded, files};
use crate::tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The longest header that is read, in bytes: a data set has a handful of arrays.
const MAX_HEADER: u64 = 1 << 20;

/// Reads a `.safetensors` file with one array per model input, and perhaps `labels`.
pub(super) fn open(path: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<Loaded, DataError> {
    let fault = |at, reason: &str| DataError::Safetensors { path: path.to_owned(), at, reason: reason.to_owned() };
    let (file, length, sha256) = files::open_hashed(path)?;
    let mut reader = BufReader::new(file);

    let mut size = [0; 8];
    reader.read_exact(&mut size).map_err(|_| fault(0, "the file is shorter than 8 bytes"))?;
    let size = u64::from_le_bytes(size);
    let held = length.saturating_sub(8);
    if size > held {
        return Err(fault(0, &format!("the header claims {size} bytes, the file holds {held} after its length")));
    }
    if size > MAX_HEADER {
        let what = "the header".to_owned();
        return Err(DataError::TooLarge { path: path.to_owned(), what, found: size, limit: MAX_HEADER });
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text).map_err(DataError::io(path))?;
    // Parsing checks that offsets run without gap or overlap and agree with shape and type.
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| fault(8, &e.to_string()))?;
    let start = 8 + size;
    if metadata.data_len() as u64 != length - start {
        let (claimed, held) = (metadata.data_len(), length - start);
        return Err(fault(8, &format!("the arrays claim {claimed} bytes, the file holds {held}")));
    }

    // In the order of the file, so that it is read once from front to back.
    let names = metadata.offset_keys();
    let roles = assign(path, &names, inputs, true)?;
    let mut collector = Collector::new(path, limits);
    let mut arrays = Vec::with_capacity(names.len());
    for (name, role) in names.iter().zip(roles) {
        let Some(info) = metadata.info(name) else {
            return Err(fault(8, &format!("array `{name}` has no description")));
        };
        let Some(stored) = stored(info.dtype) else {
            let (path, array) = (path.to_owned(), name.clone());
            return Err(DataError::Elements { path, array, found: format!("{:?}", info.dtype) });
        };
        let shape = info.shape.clone();
        let header = Header { name: name.clone(), stored, big_endian: false, fortran: false, shape };
        let (from, to) = info.data_offsets;
        header.check_length(path, to.saturating_sub(from) as u64)?;
        collector.announce(role, &header)?;
        arrays.push((role, header, start + from as u64));
    }
    for (role, header, at) in arrays {
        reader.seek(SeekFrom::Start(at)).map_err(DataError::io(path))?;
        collector.read(role, &header, &mut reader)?;
    }
    Ok(Loaded::arrays(collector.finish(), vec![(path.to_owned(), sha256)]))
}

fn stored(dtype: Dtype) -> Option<Stored> {
    Some(match dtype {
        Dtype::F32 => Stored::As(DType::F32),
        Dtype::F64 => Stored::As(DType::F64),
        Dtype::F16 => Stored::As(DType::F16),
        Dtype::BF16 => Stored::As(DType::BF16),
        Dtype::I8 => Stored::As(DType::I8),
        Dtype::I16 => Stored::As(DType::I16),
        Dtype::I32 => Stored::As(DType::I32),
        Dtype::I64 => Stored::As(DType::I64),
        Dtype::U8 => Stored::As(DType::U8),
        Dtype::BOOL => Stored::As(DType::Bool),
        Dtype::U16 => Stored::U16,
        Dtype::U32 => Stored::U32,
        Dtype::U64 => Stored::U64,
        _ => return None,
    })
}
