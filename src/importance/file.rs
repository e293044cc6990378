//! Sums in a safetensors file with metadata: what profiles and checkpoints have in common.

use super::Sums;
use crate::error::printable;
use crate::tensor::Element;
use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// Numbers that are converted at a time.
const CHUNK: usize = 1 << 13;

/// Writes one F64 tensor for each weight, named as the initializer and of its shape, and metadata with the
/// number of what was summed. No second copy of the sums is made.
pub(super) fn write(mut metadata: BTreeMap<&str, String>, sums: &Sums, out: &mut dyn Write) -> io::Result<()> {
    metadata.insert("count", sums.count.to_string());
    // Written here, since the crate's own order of the metadata differs from run to run.
    let mut header = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut end = 0;
    for (name, sum) in &sums.weights {
        let start = end;
        end += 8 * sum.len();
        header.insert(name, json!({"dtype": "F64", "shape": sum.shape(), "data_offsets": [start, end]}));
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut buffer = Vec::with_capacity(8 * CHUNK);
    for x in sums.weights.values().flatten() {
        buffer.extend(x.to_le_bytes());
        if buffer.len() == 8 * CHUNK {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)
}

/// What such a file holds.
pub(super) struct Content {
    metadata: HashMap<String, String>,
    pub sums: Sums,
}

impl Content {
    /// Reads a file whose `format` is the one given; `what` names such files in messages.
    pub(super) fn read(bytes: &[u8], format: &str, what: &str) -> Result<Content, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        match metadata.get("format") {
            Some(found) if found == format => {}
            Some(other) => return Err(format!("its format is '{}', expected '{format}'", printable(other))),
            None => return Err(format!("not {what}: the metadata has no 'format' = '{format}'")),
        }
        let mut content = Content { metadata, sums: Sums::default() };
        content.sums.count = content.number("count")?;
        if content.sums.count == 0 {
            return Err("'count' is 0: it was computed on no data".into());
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        for (name, view) in tensors.tensors() {
            let sum = sum(&view).map_err(|reason| format!("tensor '{}' {reason}", printable(&name)))?;
            content.sums.weights.insert(name, sum);
        }
        Ok(content)
    }

    pub(super) fn get(&self, key: &str) -> Result<String, String> {
        self.metadata.get(key).cloned().ok_or_else(|| format!("the metadata has no '{key}'"))
    }

    pub(super) fn number(&self, key: &str) -> Result<u64, String> {
        self.get(key)?.parse().map_err(|_| format!("'{key}' is not a number"))
    }
}

fn sum(view: &TensorView) -> Result<ArrayD<f64>, String> {
    let values: Vec<f64> = match view.dtype() {
        Dtype::F64 => view.data().chunks_exact(8).map(Element::from_le).collect(),
        Dtype::F32 => view.data().chunks_exact(4).map(|b| f64::from(<f32 as Element>::from_le(b))).collect(),
        other => return Err(format!("is of type {other:?}, expected F64 or F32")),
    };
    if let Some(index) = values.iter().position(|v| !v.is_finite() || *v < 0.0) {
        let value = values[index];
        return Err(format!("is {value} at element {index}; a sum of importance is finite and not negative"));
    }
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| e.to_string())
}
