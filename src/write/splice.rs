//! New weights over old ones, byte for byte. Pure: works on the bytes a [`Model`] keeps.

use super::WriteError;
use super::atomic::check_output;
use crate::model::{Data, ExternalRange, Model, same_file, type_name};
use crate::tensor::Tensor;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The patched bytes of a model.
#[derive(Debug)]
pub struct Spliced {
    /// The model file, of the same length as before.
    pub model: Vec<u8>,
    /// The external data files that hold a replaced tensor, by location. See [`Model::external`].
    pub external: BTreeMap<String, Vec<u8>>,
}

/// Replaces the values of the named tensors, each of the same type and shape as in the model.
/// Every other byte stays as it is.
pub fn splice(model: &Model, weights: &BTreeMap<String, Tensor>) -> Result<Spliced, WriteError> {
    let mut spliced = Spliced { model: model.bytes().to_vec(), external: BTreeMap::new() };
    let shared = model.external_ranges();
    for (name, tensor) in weights {
        let place = model.places().get(name).ok_or_else(|| WriteError::NoSuchTensor { name: name.clone() })?;
        if place.dtype != Some(tensor.dtype()) || place.shape != tensor.shape() {
            return Err(WriteError::Mismatch {
                name: name.clone(),
                expected: type_name(place.data_type),
                expected_shape: place.shape.clone(),
                found: tensor.dtype(),
                found_shape: tensor.shape().to_vec(),
            });
        }
        let bytes = tensor.to_le_bytes();
        match &place.data {
            Data::Empty => (),
            Data::Varints => return Err(WriteError::Varints { name: name.clone() }),
            Data::Raw(range) => put(&mut spliced.model, [range], &bytes),
            Data::Typed { ranges } => put(&mut spliced.model, ranges, &bytes),
            Data::External { location, offset, length, .. } => {
                let range = *offset as usize..(offset + length) as usize;
                alone(&shared, weights, name, location, &range)?;
                let Some(file) = model.external().get(location) else { continue };
                let copy = spliced.external.entry(location.clone()).or_insert_with(|| file.bytes.clone());
                put(copy, [&range], &bytes);
            }
        }
    }
    Ok(spliced)
}

/// Copies `bytes` over the ranges, in order; together they have its length.
fn put<'a>(file: &mut [u8], ranges: impl IntoIterator<Item = &'a Range<usize>>, bytes: &[u8]) {
    let mut rest = bytes;
    for range in ranges {
        let (head, tail) = rest.split_at(range.len());
        file[range.clone()].copy_from_slice(head);
        rest = tail;
    }
}

/// An error where a tensor shares bytes of its file with another, unless that one gets the
/// same new values in the same place.
fn alone(
    all: &[ExternalRange],
    weights: &BTreeMap<String, Tensor>,
    name: &str,
    location: &str,
    range: &Range<usize>,
) -> Result<(), WriteError> {
    let this = weights.get(name);
    for ExternalRange { name: other, location: elsewhere, range: shared } in all {
        let overlaps = elsewhere == location && shared.start < range.end && range.start < shared.end;
        let is_this = other.as_deref() == Some(name);
        if !overlaps || is_this {
            continue;
        }
        let twin = other.as_ref().and_then(|other| weights.get(other));
        let same = || twin.map(Tensor::to_le_bytes) == this.map(Tensor::to_le_bytes);
        if shared != range || !same() {
            let other = other.clone().unwrap_or_else(|| "of a nested graph or attribute".to_owned());
            return Err(WriteError::Shared { name: name.to_owned(), other, location: location.to_owned() });
        }
    }
    Ok(())
}

/// Where a file goes, and its content.
pub type NewFile<'a> = (PathBuf, Cow<'a, [u8]>);

impl Spliced {
    /// The files that make up the new model at `output`: external data first, the model last.
    /// Data files keep their locations, so they lie beside the output; those that did not change
    /// are copied too, unless the output lies beside the original and they are there already.
    pub fn files<'a>(&'a self, model: &'a Model, output: &Path) -> Result<Vec<NewFile<'a>>, WriteError> {
        let inputs: Vec<PathBuf> = model.files().into_iter().map(|(path, _)| path).collect();
        check_output(output, &inputs)?;
        let folder = output.parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for (location, old) in model.external() {
            let path = folder.join(location);
            let new = self.external.get(location);
            if same_file(&path, &old.path) {
                if new.is_some_and(|new| *new != old.bytes) {
                    return Err(WriteError::DataInPlace { path });
                }
                continue;
            }
            if inputs.iter().any(|input| same_file(&path, input)) {
                return Err(WriteError::IsInput { path });
            }
            let bytes = Cow::Borrowed(new.unwrap_or(&old.bytes).as_slice());
            if path.exists() && !output.exists() && std::fs::read(&path).ok().as_deref() != Some(&*bytes) {
                return Err(WriteError::ForeignData { path, output: output.to_owned() });
            }
            files.push((path, bytes));
        }
        files.push((output.to_owned(), Cow::Borrowed(self.model.as_slice())));
        Ok(files)
    }
}
