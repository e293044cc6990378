//! What can go wrong when a model is written.

use crate::error::{Kind, printable};
use crate::tensor::DType;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a model cannot be written. Nothing has been written then.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error("the model has no initializer or constant named \"{}\"", printable(.name))]
    NoSuchTensor { name: String },
    #[error("tensor \"{}\": it is {expected} of shape {expected_shape:?}, the new values are {found} of shape {found_shape:?}", printable(.name))]
    Mismatch { name: String, expected: String, expected_shape: Vec<usize>, found: DType, found_shape: Vec<usize> },
    #[error("tensor \"{}\": its numbers are stored with variable length (int32_data or int64_data) and cannot be replaced in place; save the model again with raw_data (onnx.load and onnx.save with numpy_helper.from_array tensors)", printable(.name))]
    Varints { name: String },
    #[error("tensor \"{}\" shares bytes of the external data file \"{}\" with tensor \"{}\", which would change with it; save the model again without sharing", printable(.name), printable(.location), printable(.other))]
    Shared { name: String, other: String, location: String },
    #[error("{} is one of the inputs, which are never overwritten; choose another output path", show(.path))]
    IsInput { path: PathBuf },
    #[error("{} holds the original's weights and would have to change; choose an output in another folder", show(.path))]
    DataInPlace { path: PathBuf },
    #[error("{} exists, holds other data, and does not belong to an earlier output at {}; choose an empty folder, or remove the file", show(.path), show(.output))]
    ForeignData { path: PathBuf, output: PathBuf },
    #[error("{} is to be written twice; two outputs need two paths", show(.path))]
    Twice { path: PathBuf },
    #[error("{} is a folder; give the path of a file", show(.path))]
    IsFolder { path: PathBuf },
    #[error("{} exists and is not a regular file", show(.path))]
    NotRegular { path: PathBuf },
    #[error("the folder {} does not exist; create it first", show(.folder))]
    NoFolder { folder: PathBuf },
    #[error("the folder {} cannot be written to: {error}", show(.folder))]
    Folder { folder: PathBuf, error: io::Error },
    #[error("{} cannot be written: {error}", show(.path))]
    Io { path: PathBuf, error: io::Error },
}

impl WriteError {
    /// The kind of the failure, which decides the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            WriteError::NoSuchTensor { .. } | WriteError::Mismatch { .. } => Kind::Bug,
            WriteError::Varints { .. } | WriteError::Shared { .. } => Kind::Unsupported,
            WriteError::IsInput { .. }
            | WriteError::DataInPlace { .. }
            | WriteError::ForeignData { .. }
            | WriteError::Twice { .. } => Kind::Usage,
            WriteError::IsFolder { .. }
            | WriteError::NotRegular { .. }
            | WriteError::NoFolder { .. }
            | WriteError::Folder { .. }
            | WriteError::Io { .. } => Kind::Io,
        }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
        let path = path.to_owned();
        move |error| WriteError::Io { path, error }
    }
}

fn show(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
