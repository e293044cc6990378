//! Data sets: arrays in files or memory, and folders of images, as batches of a model's inputs.
//!
//! | path | content |
//! |---|---|
//! | `.npy` | one array, for a model with one input |
//! | `.npz`, `.safetensors` | one array per model input, named as the input (any name, where there is one); integers `labels` `[samples]` beside them |
//! | a folder with `preprocessor_config.json` | PNG and JPEG images, in class folders or not |
//! | a folder of `test_data_set_*` folders | `input_N.pb`, the ONNX test format; the sets follow one another |
//!
//! The first axis of an array counts samples. Types are not converted, but for one case: an input that
//! takes float16 accepts float32 too, rounded. All values must be finite. Everything read is bounded by
//! [`Limits`]; what a header claims is compared with what the file holds before memory is set aside.

mod arrays;
mod decode;
mod error;
mod files;
mod images;
mod npy;
mod onnx_pb;
mod preprocess;
mod resize;
mod safetensors;

pub use error::DataError;

use crate::tensor::{DType, Tensor};
use crate::with_array;
use arrays::{Arrays, Collector, Header, Role, Stored};
use images::Images;
use ndarray::Axis;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a model input takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    pub name: String,
    pub dtype: DType,
    /// The dimensions; none where the model leaves one open. The first counts the samples: its value
    /// (the batch size of the model) puts no bound on the data.
    pub shape: Vec<Option<usize>>,
}

/// Bounds on what is read.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of all decoded arrays together, or of one batch of images.
    pub decoded_bytes: u64,
    /// Pixels of one image, as stored, resized or cropped.
    pub image_pixels: u64,
}

impl Default for Limits {
    /// 8 GiB, and 64 Mi pixels an image.
    fn default() -> Self {
        Limits { decoded_bytes: 8 << 30, image_pixels: 64 << 20 }
    }
}

/// Samples for a model, in a fixed order. Cheap to clone.
#[derive(Clone)]
pub struct DataSet {
    samples: Samples,
    /// Numbers of the samples within `samples`.
    order: Vec<usize>,
    labels: Option<Vec<i64>>,
    files: Vec<(PathBuf, String)>,
    sha256: String,
}

impl fmt::Debug for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSet").field("len", &self.len()).field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Samples {
    Arrays(Arc<BTreeMap<String, Tensor>>),
    Images(Arc<Images>),
}

/// Some samples of a data set.
#[derive(Clone, Debug)]
pub struct Batch {
    /// By the name of the model input: a tensor `[samples, …]`.
    pub inputs: BTreeMap<String, Tensor>,
    pub labels: Option<Vec<i64>>,
    pub samples: usize,
}

/// A data set held in memory, as a reader hands it over.
struct Loaded {
    arrays: Arrays,
    files: Vec<(PathBuf, String)>,
}

impl Loaded {
    fn arrays(arrays: Arrays, files: Vec<(PathBuf, String)>) -> Self {
        Loaded { arrays, files }
    }
}

impl DataSet {
    /// Opens data for a model's inputs. The kind is decided by the extension of a file or the content of
    /// a folder; symbolic links are followed. Arrays are read at once; images are listed, hashed and
    /// checked for format and size, and decoded batch by batch.
    ///
    /// # Errors
    /// [`DataError`], of the kind `Io`, `Malformed` (also: does not fit the model), `Unsupported`,
    /// `Limit` or `NotFinite`. A set without samples is no error.
    pub fn open(path: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<DataSet, DataError> {
        check_specs(inputs)?;
        if std::fs::metadata(path).map_err(DataError::io(path))?.is_dir() {
            return DataSet::open_folder(path, inputs, limits);
        }
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let loaded = match extension.as_deref() {
            Some("npy") => npy::open_npy(path, inputs, limits)?,
            Some("npz") => npy::open_npz(path, inputs, limits)?,
            Some("safetensors") => safetensors::open(path, inputs, limits)?,
            Some("parquet") => return Err(DataError::Parquet { path: path.to_owned() }),
            _ => return Err(DataError::FileKind { path: path.to_owned() }),
        };
        let sha256 = loaded.files[0].1.clone();
        Ok(DataSet::new(loaded, sha256))
    }

    fn open_folder(path: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<DataSet, DataError> {
        if path.join(images::CONFIG).is_file() {
            let (images, labels, files) = images::open(path, inputs, limits)?;
            let (order, sha256) = ((0..images.len()).collect(), folder_digest(path, &files));
            return Ok(DataSet { samples: Samples::Images(Arc::new(images)), order, labels, files, sha256 });
        }
        let sets = onnx_pb::sets(path)?;
        if sets.is_empty() {
            return Err(DataError::FolderKind { path: path.to_owned() });
        }
        let loaded = onnx_pb::open(path, &sets, inputs, limits)?;
        let sha256 = folder_digest(path, &loaded.files);
        Ok(DataSet::new(loaded, sha256))
    }

    /// A data set from arrays in memory, `[samples, …]` each, under the same rules as files: names, types,
    /// shapes and finite values are checked.
    ///
    /// # Errors
    /// [`DataError`] with the path `<memory>`.
    pub fn from_arrays(
        inputs: BTreeMap<String, Tensor>,
        labels: Option<Vec<i64>>,
        specs: &[InputSpec],
    ) -> Result<DataSet, DataError> {
        check_specs(specs)?;
        let path = Path::new("<memory>");
        let names: Vec<_> = inputs.keys().cloned().collect();
        let roles = arrays::assign(path, &names, specs, false)?;
        let unbounded = Limits { decoded_bytes: u64::MAX, image_pixels: 0 };
        let mut collector = Collector::new(path, &unbounded);
        let mut hash = Sha256::new();
        for ((name, tensor), role) in inputs.into_iter().zip(roles) {
            let Role::Input(spec) = role else { continue };
            let (stored, shape) = (Stored::As(tensor.dtype()), tensor.shape().to_vec());
            let header = Header { name, stored, big_endian: false, fortran: false, shape };
            collector.announce(role, &header)?;
            hash_tensor(&mut hash, &spec.name, &tensor);
            collector.insert(&header.name, spec, tensor)?;
        }
        if let Some(labels) = labels {
            hash.update(b"labels\0");
            labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
            collector.set_labels(labels)?;
        }
        Ok(DataSet::new(Loaded::arrays(collector.finish(), Vec::new()), files::hex(hash)))
    }

    fn new(loaded: Loaded, sha256: String) -> DataSet {
        let Loaded { arrays: Arrays { inputs, labels, samples }, files } = loaded;
        DataSet { samples: Samples::Arrays(Arc::new(inputs)), order: (0..samples).collect(), labels, files, sha256 }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// One label per sample, where the data has labels.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// Every file that was read, in the order of reading, with its SHA-256 in hex. Empty for arrays in
    /// memory. A selection keeps the files of the whole.
    pub fn files(&self) -> &[(PathBuf, String)] {
        &self.files
    }

    /// One SHA-256 (hex) that tells this data from other data, wherever it lies:
    /// - of a file, its own;
    /// - of a folder, that of the lines `DIGEST  RELATIVE/PATH` of its [`files`](Self::files), in the form
    ///   that `sha256sum` prints;
    /// - of arrays in memory, over names, types, shapes and elements;
    /// - of a selection, over the digest of the whole and the sample numbers.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The samples in order, in batches of `size` (at least 1), the last perhaps smaller. Each batch is
    /// copied, or decoded, when it is asked for.
    ///
    /// # Errors
    /// Per batch, for folders of images: [`DataError`] where one cannot be decoded.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Result<Batch, DataError>> {
        let size = size.max(1);
        self.order.chunks(size).enumerate().map(move |(number, order)| {
            let inputs = match &self.samples {
                Samples::Arrays(arrays) => arrays.iter().map(|(name, t)| (name.clone(), rows(t, order))).collect(),
                Samples::Images(images) => BTreeMap::from([(images.input.clone(), images.batch(order)?)]),
            };
            let start = number * size;
            let labels = self.labels.as_ref().map(|all| all[start..start + order.len()].to_vec());
            Ok(Batch { inputs, labels, samples: order.len() })
        })
    }

    /// The samples with these numbers (each below [`len`](Self::len)), in this order; a number may come
    /// more than once. Nothing is copied.
    ///
    /// # Errors
    /// [`DataError::Index`] for a number that is too large.
    pub fn select(&self, indices: &[usize]) -> Result<DataSet, DataError> {
        let len = self.len();
        if let Some(&index) = indices.iter().find(|&&i| i >= len) {
            return Err(DataError::Index { index, len });
        }
        let mut hash = Sha256::new_with_prefix(&self.sha256);
        indices.iter().for_each(|&i| hash.update((i as u64).to_le_bytes()));
        Ok(DataSet {
            samples: self.samples.clone(),
            order: indices.iter().map(|&i| self.order[i]).collect(),
            labels: self.labels.as_ref().map(|all| indices.iter().map(|&i| all[i]).collect()),
            files: self.files.clone(),
            sha256: files::hex(hash),
        })
    }
}

/// The fault that no data can fit the inputs.
fn check_specs(inputs: &[InputSpec]) -> Result<(), DataError> {
    if inputs.is_empty() {
        return Err(DataError::NoInputs);
    }
    match inputs.iter().find(|input| input.shape.is_empty()) {
        Some(scalar) => Err(DataError::NoSampleAxis { input: scalar.name.clone() }),
        None => Ok(()),
    }
}

/// The rows of a tensor with these numbers, in this order.
fn rows(tensor: &Tensor, order: &[usize]) -> Tensor {
    with_array!(tensor, a => a.select(Axis(0), order).into())
}

/// The digest of a folder's files and their places in it.
fn folder_digest(folder: &Path, files: &[(PathBuf, String)]) -> String {
    let mut hash = Sha256::new();
    for (path, sha256) in files {
        let place = path.strip_prefix(folder).unwrap_or(path);
        let place: Vec<_> = place.iter().map(|part| part.to_string_lossy()).collect();
        hash.update(format!("{sha256}  {}\n", place.join("/")));
    }
    files::hex(hash)
}

fn hash_tensor(hash: &mut Sha256, name: &str, tensor: &Tensor) {
    use crate::tensor::Element;
    hash.update(format!("{name}\0{} {:?}\0", tensor.dtype(), tensor.shape()));
    let (size, mut buffer) = (tensor.dtype().size(), [0; 1 << 16]);
    with_array!(tensor, a => {
        let mut elements = a.iter();
        while elements.len() > 0 {
            let filled = size * elements.len().min(buffer.len() / size);
            buffer[..filled].chunks_exact_mut(size).zip(&mut elements).for_each(|(out, x)| x.write_le(out));
            hash.update(&buffer[..filled]);
        }
    });
}
