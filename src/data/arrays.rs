//! Arrays as files hold them, and how they become the inputs of a model.

use super::decode::{read_labels, read_tensor};
use super::error::DataError;
use super::{InputSpec, Limits};
use crate::tensor::{DType, Tensor};
use half::{bf16, f16};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

/// How an element is stored: as a type a model can take, or as one that only labels can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    As(DType),
    U16,
    U32,
    U64,
}

impl Stored {
    pub(super) fn size(self) -> usize {
        match self {
            Stored::As(dtype) => dtype.size(),
            Stored::U16 => 2,
            Stored::U32 => 4,
            Stored::U64 => 8,
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Stored::As(d) if d.is_float() || d == DType::Bool)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stored::As(dtype) => dtype.fmt(f),
            Stored::U16 => f.write_str("uint16"),
            Stored::U32 => f.write_str("uint32"),
            Stored::U64 => f.write_str("uint64"),
        }
    }
}

/// What a file says about an array, before any of its elements is read.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub name: String,
    pub stored: Stored,
    pub big_endian: bool,
    /// Column-major: the first index runs fastest.
    pub fortran: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// Bytes of all elements; none where the product of the dimensions overflows, even if one is zero.
    pub(super) fn bytes(&self) -> Option<u64> {
        let dims = self.shape.iter().map(|&d| d as u64);
        let nonzero = dims.clone().filter(|&d| d != 0).try_fold(self.stored.size() as u64, u64::checked_mul)?;
        isize::try_from(nonzero).ok()?;
        Some(if self.shape.contains(&0) { 0 } else { nonzero })
    }

    /// The fault that the header promises other than the `held` bytes that the file has.
    pub(super) fn check_length(&self, path: &Path, held: u64) -> Result<(), DataError> {
        if self.bytes() == Some(held) {
            return Ok(());
        }
        Err(DataError::Length {
            path: path.to_owned(),
            array: self.name.clone(),
            shape: self.shape.as_slice().into(),
            found: self.stored.to_string(),
            expected: self.bytes(),
            held,
        })
    }
}

/// What an array is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role<'a> {
    Input(&'a InputSpec),
    Labels,
}

/// The role of every array in `names`, in order: the input with its name, else `labels` (where
/// allowed), else the only input of the model. All inputs must be served, each once.
pub(super) fn assign<'a>(
    path: &Path,
    names: &[String],
    inputs: &'a [InputSpec],
    labels_allowed: bool,
) -> Result<Vec<Role<'a>>, DataError> {
    let is_labels = |name: &str| labels_allowed && name == "labels" && inputs.iter().all(|i| i.name != "labels");
    let mut seen = BTreeSet::new();
    if let Some(array) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(DataError::DuplicateArray { path: path.to_owned(), array: array.clone() });
    }
    let alone = inputs.len() == 1 && names.iter().filter(|n| !is_labels(n)).count() == 1;
    let mut roles = Vec::with_capacity(names.len());
    let mut unknown = Vec::new();
    for name in names {
        match inputs.iter().find(|i| i.name == *name) {
            Some(input) => roles.push(Role::Input(input)),
            None if is_labels(name) => roles.push(Role::Labels),
            None if alone => roles.push(Role::Input(&inputs[0])),
            None => unknown.push(name.clone()),
        }
    }
    if !unknown.is_empty() {
        let expected = inputs.iter().map(|i| i.name.clone()).collect();
        return Err(DataError::UnknownArrays { path: path.to_owned(), found: unknown, expected });
    }
    let served = |input: &InputSpec| roles.iter().any(|r| matches!(r, Role::Input(i) if i.name == input.name));
    let missing: Vec<_> = inputs.iter().filter(|i| !served(i)).map(|i| i.name.clone()).collect();
    if !missing.is_empty() {
        return Err(DataError::MissingArrays { path: path.to_owned(), missing, found: names.to_vec() });
    }
    Ok(roles)
}

/// The fault that an array of this type and shape does not fit a model input. The first axis holds the
/// samples, whatever number the model gives it.
fn check_fit(path: &Path, header: &Header, input: &InputSpec) -> Result<(), DataError> {
    let half = matches!(input.dtype, DType::F16 | DType::BF16);
    let converted = half && header.stored == Stored::As(DType::F32);
    if header.stored != Stored::As(input.dtype) && !converted {
        return Err(DataError::WrongType {
            path: path.to_owned(),
            array: header.name.clone(),
            input: input.name.clone(),
            expected: input.dtype,
            found: header.stored.to_string(),
        });
    }
    let same_rank = header.shape.len() == input.shape.len();
    let mut dims = input.shape.iter().zip(&header.shape).skip(1);
    if header.shape.is_empty() || !same_rank || dims.any(|(want, &d)| want.is_some_and(|w| w != d)) {
        return Err(DataError::WrongShape {
            path: path.to_owned(),
            array: header.name.clone(),
            input: input.name.clone(),
            expected: input.shape.as_slice().into(),
            found: header.shape.as_slice().into(),
        });
    }
    Ok(())
}

/// Collects the arrays of one data set, within the limits, and checks that they agree.
pub(super) struct Collector<'a> {
    path: &'a Path,
    limit: u64,
    used: u64,
    inputs: BTreeMap<String, Tensor>,
    labels: Option<Vec<i64>>,
    /// The first array's name and number of samples.
    first: Option<(String, usize)>,
}

/// A data set held in memory.
pub(super) struct Arrays {
    pub inputs: BTreeMap<String, Tensor>,
    pub labels: Option<Vec<i64>>,
    pub samples: usize,
}

impl<'a> Collector<'a> {
    pub(super) fn new(path: &'a Path, limits: &Limits) -> Self {
        let limit = limits.decoded_bytes;
        Collector { path, limit, used: 0, inputs: BTreeMap::new(), labels: None, first: None }
    }

    /// Checks what the header promises: type, shape, number of samples, and the limit on memory.
    pub(super) fn announce(&mut self, role: Role, header: &Header) -> Result<(), DataError> {
        match role {
            Role::Input(input) => check_fit(self.path, header, input)?,
            Role::Labels if header.stored.is_integer() && header.shape.len() == 1 => {}
            Role::Labels => {
                let (found, shape) = (header.stored.to_string(), header.shape.clone());
                return Err(DataError::Labels { path: self.path.to_owned(), found, shape });
            }
        }
        self.used = self.used.saturating_add(header.bytes().unwrap_or(u64::MAX));
        if self.used > self.limit {
            return Err(DataError::TooLarge {
                path: self.path.to_owned(),
                what: format!("the data up to array `{}`", crate::error::printable(&header.name)),
                found: self.used,
                limit: self.limit,
            });
        }
        self.agree(&header.name, header.shape[0])
    }

    /// Reads the elements of an announced array.
    pub(super) fn read(&mut self, role: Role, header: &Header, reader: &mut impl Read) -> Result<(), DataError> {
        match role {
            Role::Input(input) => {
                let tensor = read_tensor(header, reader).map_err(|e| self.fault(header, e))?;
                self.insert(&header.name, input, tensor)?;
            }
            Role::Labels => {
                let count = header.shape[0];
                let labels = read_labels(header.stored, header.big_endian, count, reader);
                let labels = labels.map_err(|e| self.fault(header, e))?;
                self.labels = Some(labels.map_err(|(sample, value)| DataError::LabelRange {
                    path: self.path.to_owned(),
                    sample,
                    value,
                })?);
            }
        }
        Ok(())
    }

    /// Takes a tensor for an input, once its values are known to be finite.
    pub(super) fn insert(&mut self, array: &str, input: &InputSpec, tensor: Tensor) -> Result<(), DataError> {
        let tensor = to_type(tensor, input.dtype).map_err(|bad| bad.at(self.path, array, |sample| sample))?;
        self.inputs.insert(input.name.clone(), tensor);
        Ok(())
    }

    /// Labels from elsewhere than an array.
    pub(super) fn set_labels(&mut self, labels: Vec<i64>) -> Result<(), DataError> {
        self.agree("labels", labels.len())?;
        self.labels = Some(labels);
        Ok(())
    }

    /// Bytes of all arrays announced so far.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn finish(self) -> Arrays {
        let samples = self.first.map_or(0, |(_, samples)| samples);
        Arrays { inputs: self.inputs, labels: self.labels, samples }
    }

    fn agree(&mut self, array: &str, samples: usize) -> Result<(), DataError> {
        let (other, other_samples) = self.first.get_or_insert_with(|| (array.to_owned(), samples)).clone();
        if samples == other_samples {
            return Ok(());
        }
        let (path, array) = (self.path.to_owned(), array.to_owned());
        Err(DataError::SampleCounts { path, array, samples, other, other_samples })
    }

    fn fault(&self, header: &Header, error: io::Error) -> DataError {
        let (path, array) = (self.path.to_owned(), header.name.clone());
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                DataError::Corrupt { path, array, reason: "the file ends before the array does".into() }
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                DataError::Corrupt { path, array, reason: error.to_string() }
            }
            io::ErrorKind::OutOfMemory => {
                let what = format!("array `{}`, for which memory is not to be had,", crate::error::printable(&array));
                DataError::TooLarge { path, what, found: header.bytes().unwrap_or(u64::MAX), limit: self.limit }
            }
            _ => DataError::Io { path, source: error },
        }
    }
}

/// A value that a model cannot take.
pub(super) struct BadValue {
    sample: usize,
    position: Vec<usize>,
    value: f64,
    beyond_f16: bool,
}

impl BadValue {
    /// The fault, with the row number turned into the number of the sample.
    pub(super) fn at(self, path: &Path, array: &str, number: impl Fn(usize) -> usize) -> DataError {
        let BadValue { sample, position, value, beyond_f16 } = self;
        let (path, array, sample) = (path.to_owned(), array.to_owned(), number(sample));
        if beyond_f16 {
            DataError::Float16Range { path, array, sample, position, value }
        } else {
            DataError::NotFinite { path, array, sample, position, value }
        }
    }
}

/// The tensor in the type that the model takes, all values finite. Float32 becomes float16
/// or bfloat16 (rounded to nearest, ties to even) where the model takes that; nothing else is converted.
pub(super) fn to_type(tensor: Tensor, dtype: DType) -> Result<Tensor, BadValue> {
    let bad = |tensor: &Tensor, flat: usize, beyond_f16| {
        let mut rest = flat;
        let mut position: Vec<_> = tensor.shape().iter().rev().map(|&d| (rest % d, rest /= d).0).collect();
        let sample = position.pop().unwrap_or(0);
        position.reverse();
        let value = match tensor {
            Tensor::F32(a) => a.iter().nth(flat).map(|&x| x.into()),
            Tensor::F64(a) => a.iter().nth(flat).copied(),
            Tensor::F16(a) => a.iter().nth(flat).map(|&x| x.into()),
            Tensor::BF16(a) => a.iter().nth(flat).map(|&x| x.into()),
            _ => None,
        };
        BadValue { sample, position, value: value.unwrap_or(f64::NAN), beyond_f16 }
    };
    if let Some(flat) = tensor.first_not_finite() {
        return Err(bad(&tensor, flat, false));
    }
    let halves = match (&tensor, dtype) {
        (Tensor::F32(a), DType::F16) => Tensor::F16(a.mapv(f16::from_f32)),
        (Tensor::F32(a), DType::BF16) => Tensor::BF16(a.mapv(bf16::from_f32)),
        _ => return Ok(tensor),
    };
    match halves.first_not_finite() {
        Some(flat) => Err(bad(&tensor, flat, dtype == DType::F16)),
        None => Ok(halves),
    }
}
