//! What can be wrong with data, one variant per fault.

use crate::error::{Kind, printable};
use crate::tensor::DType;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A fault in a data set. Every message names the file and the place, and where it can, what to do.
///
/// `path` is the file or folder; data given as arrays in memory has the path `<memory>`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    #[error("{}: {source}", show(.path))]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: neither a regular file nor a folder; copy the data to a file first", show(.path))]
    NotRegular { path: PathBuf },
    #[error("{}: the file changed while it was in use; run again when nothing writes to it", show(.path))]
    Changed { path: PathBuf },
    #[error("{}: a data file of the kind {} is not supported; give .npy, .npz, .safetensors, a folder of images with a preprocessor_config.json, or a folder of test_data_set_* folders", show(.path), extension(.path))]
    FileKind { path: PathBuf },
    #[error("{}: Parquet is not supported; store the arrays as .npz or .safetensors, one array per model input", show(.path))]
    Parquet { path: PathBuf },
    #[error("{}: this folder holds neither a preprocessor_config.json (a folder of images) nor test_data_set_* folders with input_0.pb; add the preprocessor_config.json that belongs to the model", show(.path))]
    FolderKind { path: PathBuf },

    #[error("the model has no inputs, so no data fits it")]
    NoInputs,
    #[error("model input `{}` is a scalar: it has no axis that holds the samples", printable(.input))]
    NoSampleAxis { input: String },
    #[error("{}: a .npy file holds one array, the model has {} inputs ({}); store them as .npz, one array per input", show(.path), .expected.len(), list(.expected))]
    OneArray { path: PathBuf, expected: Vec<String> },
    #[error("{}: no model input is named {}; the model's inputs are {} (an integer array `labels` is allowed beside them); rename or remove the arrays", show(.path), list(.found), list(.expected))]
    UnknownArrays { path: PathBuf, found: Vec<String>, expected: Vec<String> },
    #[error("{}: no array for model input {}; the file holds {}", show(.path), list(.missing), list(.found))]
    MissingArrays { path: PathBuf, missing: Vec<String>, found: Vec<String> },
    #[error("{}: array `{}` is there twice; keep one", show(.path), printable(.array))]
    DuplicateArray { path: PathBuf, array: String },

    #[error("{}: array `{}`: malformed .npy header at byte {at}: {reason}; write the file again with numpy.save or numpy.savez", show(.path), printable(.array))]
    NpyHeader { path: PathBuf, array: String, at: usize, reason: &'static str },
    #[error("{}: array `{}` holds pickled Python objects, which are never loaded; convert it with .astype(np.float32) and save it with allow_pickle=False", show(.path), printable(.array))]
    Pickled { path: PathBuf, array: String },
    #[error("{}: array `{}` has elements of type {}, which is not supported; convert it to the type of the model input, for example with .astype(np.float32)", show(.path), printable(.array), printable(.found))]
    Elements { path: PathBuf, array: String, found: String },
    #[error("{}: array `{}` of shape {shape:?} and type {found} needs {}, the file holds {held} bytes for it; the file is truncated or its header is wrong: write it again", show(.path), printable(.array), bytes(.expected))]
    Length { path: PathBuf, array: String, shape: Box<[usize]>, found: String, expected: Option<u64>, held: u64 },
    #[error("{}: array `{}` cannot be read: {reason}; write the file again", show(.path), printable(.array))]
    Corrupt { path: PathBuf, array: String, reason: String },
    #[error("{}: malformed zip archive: {}; write it again with numpy.savez", show(.path), printable(.reason))]
    Zip { path: PathBuf, reason: String },
    #[error("{}: entry `{}` of the zip archive is not supported: {}; write it again with numpy.savez or numpy.savez_compressed", show(.path), printable(.entry), printable(.reason))]
    ZipEntry { path: PathBuf, entry: String, reason: String },
    #[error("{}: malformed safetensors header at byte {at}: {}; write the file again with safetensors.numpy.save_file", show(.path), printable(.reason))]
    Safetensors { path: PathBuf, at: u64, reason: String },
    #[error("{}: malformed TensorProto at byte {at}: {}", show(.path), printable(.reason))]
    TensorProto { path: PathBuf, at: usize, reason: String },

    #[error("{}: array `{}` has type {found}, model input `{}` takes {expected}; {}", show(.path), printable(.array), printable(.input), convert(*.expected))]
    WrongType { path: PathBuf, array: String, input: String, expected: DType, found: String },
    #[error("{}: array `{}` has shape {found:?}, model input `{}` takes {} (first axis: samples)", show(.path), printable(.array), printable(.input), spec(.expected))]
    WrongShape { path: PathBuf, array: String, input: String, expected: Box<[Option<usize>]>, found: Box<[usize]> },
    #[error("{}: array `{}` has {samples} samples, `{}` has {other_samples}; every array needs one row per sample", show(.path), printable(.array), printable(.other))]
    SampleCounts { path: PathBuf, array: String, samples: usize, other: String, other_samples: usize },
    #[error("{}: array `labels` has type {found} and shape {shape:?}, expected integers of shape [samples]", show(.path))]
    Labels { path: PathBuf, found: String, shape: Vec<usize> },
    #[error("{}: array `labels`, sample {sample}: {value} is above the largest label, {}", show(.path), i64::MAX)]
    LabelRange { path: PathBuf, sample: usize, value: u64 },
    #[error("{}: array `{}`, sample {sample}, position {position:?}: {value} is not finite; remove the sample or repair the value", show(.path), printable(.array))]
    NotFinite { path: PathBuf, array: String, sample: usize, position: Vec<usize>, value: f64 },
    #[error("{}: array `{}`, sample {sample}, position {position:?}: {value} is beyond the range of float16, the type of the model input (at most 65504)", show(.path), printable(.array))]
    Float16Range { path: PathBuf, array: String, sample: usize, position: Vec<usize>, value: f64 },

    #[error("{}: {what} takes {found} bytes, the limit is {limit}; split the data, or raise the limit if you trust it", show(.path))]
    TooLarge { path: PathBuf, what: String, found: u64, limit: u64 },
    #[error("{}: {what} has {height}x{width} pixels (height x width), the limit is {limit}; scale it down, or raise the limit if you trust it", show(.path))]
    TooManyPixels { path: PathBuf, what: &'static str, height: u64, width: u64, limit: u64 },
    #[error("{}: the image takes more memory to decode than the limit on pixels allows: {}; scale it down, or raise the limit if you trust it", show(.path), printable(.reason))]
    ImageMemory { path: PathBuf, reason: String },

    #[error("{}: malformed preprocessor configuration: `{}`: {reason}", show(.path), printable(.key))]
    Config { path: PathBuf, key: String, reason: String },
    #[error("{}: `{}` = {} is not supported; store the preprocessed images as .npz", show(.path), printable(.key), printable(.found))]
    ConfigUnsupported { path: PathBuf, key: String, found: String },
    #[error("{}: not a PNG or JPEG image; convert it, or remove it from the folder", show(.path))]
    NotAnImage { path: PathBuf },
    #[error("{}: a folder inside a class folder; move its images into the class folder", show(.path))]
    NestedFolder { path: PathBuf },
    #[error("{}: an image beside class folders; move it into one of them", show(.path))]
    MixedFolder { path: PathBuf },
    #[error("{}: the image cannot be decoded: {}; remove or replace it", show(.path), printable(.reason))]
    Image { path: PathBuf, reason: String },
    #[error("{}: preprocessed it is {found:?} (height, width), expected {expected:?}, {}; set `size` or `crop_size` in preprocessor_config.json", show(.path), printable(.because))]
    ImageSize { path: PathBuf, expected: [usize; 2], found: [usize; 2], because: String },
    #[error("{}: a folder of images serves a model with one float32 or float16 input [samples, 1 or 3 channels, height, width], this one takes {}; store the preprocessed images as .npz", show(.path), .found)]
    NotAnImageModel { path: PathBuf, found: String },

    #[error("sample {index} is asked for, the data set has {len}")]
    Index { index: usize, len: usize },
}

impl DataError {
    /// The kind of the failure, hence the exit code.
    pub fn kind(&self) -> Kind {
        use DataError::*;
        match self {
            Io { .. } | NotRegular { .. } | Changed { .. } => Kind::Io,
            FileKind { .. }
            | Parquet { .. }
            | FolderKind { .. }
            | NoSampleAxis { .. }
            | Pickled { .. }
            | Elements { .. }
            | ZipEntry { .. }
            | ConfigUnsupported { .. }
            | NotAnImage { .. }
            | NotAnImageModel { .. } => Kind::Unsupported,
            NoInputs
            | OneArray { .. }
            | UnknownArrays { .. }
            | MissingArrays { .. }
            | DuplicateArray { .. }
            | NpyHeader { .. }
            | Length { .. }
            | Corrupt { .. }
            | Zip { .. }
            | Safetensors { .. }
            | TensorProto { .. }
            | WrongType { .. }
            | WrongShape { .. }
            | SampleCounts { .. }
            | Labels { .. }
            | LabelRange { .. }
            | Config { .. }
            | NestedFolder { .. }
            | MixedFolder { .. }
            | Image { .. }
            | ImageSize { .. } => Kind::Malformed,
            NotFinite { .. } | Float16Range { .. } => Kind::NotFinite,
            TooLarge { .. } | TooManyPixels { .. } | ImageMemory { .. } => Kind::Limit,
            Index { .. } => Kind::Usage,
        }
    }

    /// Turns an input/output error at `path` into a [`DataError::Io`].
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> DataError {
        move |source| DataError::Io { path: path.to_owned(), source }
    }
}

fn show(path: &Path) -> String {
    printable(&path.display().to_string())
}

fn extension(path: &Path) -> String {
    match path.extension() {
        Some(e) => format!("`.{}`", printable(&e.to_string_lossy())),
        None => "without an extension".to_owned(),
    }
}

/// The first few names, quoted.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{}`", printable(n))).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => text.push_str("no arrays"),
        n if n > SHOWN => text.push_str(&format!(" and {} more", n - SHOWN)),
        _ => {}
    }
    text
}

/// A model's shape, open dimensions as `?`.
pub(super) fn spec(shape: &[Option<usize>]) -> String {
    let dims: Vec<_> = shape.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

fn bytes(count: &Option<u64>) -> String {
    count.map_or("more bytes than can be counted".to_owned(), |n| format!("{n} bytes"))
}

fn convert(expected: DType) -> String {
    match expected {
        DType::BF16 => "store it as float32, or as bfloat16 in a .safetensors file".to_owned(),
        other => format!("convert it with .astype(np.{other})"),
    }
}
