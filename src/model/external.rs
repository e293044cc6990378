//! External data: which files a model may refer to, and their content.
//!
//! The rules, in order:
//! 1. The location as written must be a plain relative path: no `..`, no absolute path, no
//!    drive letter, backslash or control character, no in-memory address of ONNX Runtime.
//! 2. It is looked up in the folder of the model's path as given. Symbolic links are followed
//!    only where they end inside that folder, or inside the folder where the model file
//!    itself really lies (a Hugging Face cache is all links, into one folder of blobs).
//! 3. It must be a regular file, and not the model file. Hard links are allowed: a name in
//!    the folder is the owner's choice, and the content is only ever read as numbers.
//! 4. Keys are location, offset and length, each at most once; offset and length must lie in
//!    the file, and the length must be what shape and type need.
//!
//! A file is read whole, once: what was hashed is what is computed with.

use super::decode::{is_external, raw_size};
use super::{ExternalFault, Limits, ModelError, sha256};
use onnx_protobuf::TensorProto;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// A file that holds data of tensors.
#[derive(Debug)]
pub struct ExternalFile {
    /// The model's folder joined with the location.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
}

/// Where the data of an external tensor lies.
pub(super) struct Reference {
    /// The location without `.` components.
    pub location: String,
    pub offset: u64,
    pub length: u64,
}

/// The external files of a model, by location.
pub(super) struct Store<'a> {
    model: Option<&'a Path>,
    limits: &'a Limits,
    total: u64,
    pub files: BTreeMap<String, ExternalFile>,
}

impl<'a> Store<'a> {
    /// `inside`: bytes of the model file itself, which count against the limit.
    pub(super) fn new(model: Option<&'a Path>, limits: &'a Limits, inside: u64) -> Store<'a> {
        Store { model, limits, total: inside, files: BTreeMap::new() }
    }

    /// Loads the file behind a tensor, where it has external data, and checks the range.
    pub(super) fn add(&mut self, tensor: &TensorProto, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let Some(Reference { location, offset, length }) = reference(tensor, name, shape)? else { return Ok(()) };
        let at = |fault| ModelError::External { tensor: name.to_owned(), location: location.clone(), fault };
        let model = self.model.ok_or_else(|| at(ExternalFault::NoFolder))?;
        if !self.files.contains_key(&location) {
            let path = folder(model).join(&location);
            let real = resolve(model, &path).map_err(at)?;
            let left = self.limits.max_total_weight_bytes.saturating_sub(self.total);
            let bytes = match read_regular(&real, left) {
                Ok(bytes) => bytes,
                Err(ReadFault::Io(error)) => return Err(at(ExternalFault::Io(error))),
                Err(ReadFault::NotRegular) => return Err(at(ExternalFault::NotRegular)),
                Err(ReadFault::TooLarge(size)) => {
                    return Err(ModelError::Limit {
                        what: "bytes of model and external data",
                        found: self.total.saturating_add(size),
                        limit: self.limits.max_total_weight_bytes,
                    });
                }
            };
            self.total += bytes.len() as u64;
            let sha256 = sha256(&bytes);
            self.files.insert(location.clone(), ExternalFile { path, bytes, sha256 });
        }
        let size = self.files.get(&location).map_or(0, |file| file.bytes.len() as u64);
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(at(ExternalFault::PastEnd { offset, length, size }));
        }
        Ok(())
    }
}

/// The folder in which a model's external data is looked up.
fn folder(model: &Path) -> &Path {
    match model.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether two paths lead to one existing file, through links of any kind.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// The real path of external data, where rules 2 and 3 allow it.
fn resolve(model: &Path, path: &Path) -> Result<PathBuf, ExternalFault> {
    let real = fs::canonicalize(path).map_err(ExternalFault::Io)?;
    let given = fs::canonicalize(folder(model)).map_err(ExternalFault::Io)?;
    let model = fs::canonicalize(model).map_err(ExternalFault::Io)?;
    if !real.starts_with(&given) && !model.parent().is_some_and(|home| real.starts_with(home)) {
        return Err(ExternalFault::Outside);
    }
    if same_file(&real, &model) {
        return Err(ExternalFault::IsModel);
    }
    Ok(real)
}

/// Reads `external_data` of a tensor, of `shape`; none where its data lies inside the model.
pub(super) fn reference(tensor: &TensorProto, name: &str, shape: &[usize]) -> Result<Option<Reference>, ModelError> {
    let mut values = BTreeMap::new();
    for entry in &tensor.external_data {
        let (key, value) = (entry.key.as_str(), entry.value.as_str());
        let known = matches!(key, "location" | "offset" | "length");
        if !known || values.insert(key, value).is_some() {
            let key = key.to_owned();
            let fault = if known { ExternalFault::TwoKeys(key) } else { ExternalFault::Key(key) };
            return Err(ModelError::External {
                tensor: name.to_owned(),
                location: location(&tensor.external_data),
                fault,
            });
        }
    }
    let written = values.get("location").copied().unwrap_or_default();
    let at = |fault| ModelError::External { tensor: name.to_owned(), location: written.to_owned(), fault };
    match (is_external(tensor), values.is_empty()) {
        (false, true) => return Ok(None),
        (false, false) => return Err(at(ExternalFault::NotDeclared)),
        _ => (),
    }
    let plain = plain(written).map_err(at)?;
    let number = |key: &'static str| match values.get(key) {
        None => Ok(None),
        Some(value) if value.bytes().all(|b| b.is_ascii_digit()) && value.parse::<i64>().is_ok() => {
            Ok(value.parse::<u64>().ok())
        }
        Some(value) => Err(at(ExternalFault::Number { key, value: (*value).to_owned() })),
    };
    let (offset, found) = (number("offset")?.unwrap_or(0), number("length")?);
    let expected = raw_size(tensor.data_type, shape.iter().product());
    let length = match (found, expected) {
        (Some(found), Some(expected)) if found != expected => {
            return Err(at(ExternalFault::Length { found, expected }));
        }
        (Some(length), _) | (None, Some(length)) => length,
        (None, None) => {
            return Err(ModelError::UnsupportedType { tensor: name.to_owned(), data_type: tensor.data_type });
        }
    };
    Ok(Some(Reference { location: plain, offset, length }))
}

fn location(entries: &[onnx_protobuf::StringStringEntryProto]) -> String {
    entries.iter().find(|entry| entry.key == "location").map(|entry| entry.value.clone()).unwrap_or_default()
}

/// Rule 1; gives the location without `.` components.
fn plain(location: &str) -> Result<String, ExternalFault> {
    if location.is_empty() {
        return Err(ExternalFault::NoLocation);
    }
    let drive = matches!(location.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let hostile = location.contains(|c: char| c == '\\' || c.is_control()) || location.contains("_ORT_MEM_ADDR_");
    if drive || hostile || location.ends_with('/') {
        return Err(ExternalFault::Location);
    }
    let mut parts = Vec::new();
    for component in Path::new(location).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or(ExternalFault::Location)?),
            Component::CurDir => (),
            _ => return Err(ExternalFault::Location),
        }
    }
    if parts.is_empty() { Err(ExternalFault::Location) } else { Ok(parts.join("/")) }
}

pub(super) enum ReadFault {
    Io(io::Error),
    NotRegular,
    TooLarge(u64),
}

/// The content of a regular file of at most `limit` bytes. Never waits on a pipe or a device.
pub(super) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(ReadFault::Io)?;
    let about = file.metadata().map_err(ReadFault::Io)?;
    if !about.is_file() {
        return Err(ReadFault::NotRegular);
    }
    if about.len() > limit {
        return Err(ReadFault::TooLarge(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ReadFault::Io)?;
    if bytes.len() as u64 > limit { Err(ReadFault::TooLarge(bytes.len() as u64)) } else { Ok(bytes) }
}
