//! NumPy's `.npy` and `.npz` files, by the format's description:
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Fortran order and big-endian elements are read; pickled objects never are.

use super::arrays::{Collector, Header, Role, Stored, assign};
use super::error::DataError;
use super::{InputSpec, Limits, Loaded, files};
use crate::tensor::DType;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// The longest header that is read; NumPy's own limit is 10,000 bytes.
const MAX_HEADER: usize = 1 << 16;
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads a `.npy` file for a model with one input.
pub(super) fn open_npy(path: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<Loaded, DataError> {
    let [input] = inputs else {
        let expected = inputs.iter().map(|i| i.name.clone()).collect();
        return Err(DataError::OneArray { path: path.to_owned(), expected });
    };
    let (file, length, sha256) = files::open_hashed(path)?;
    let mut reader = BufReader::new(file);
    let (header, before) = read_header(path, &input.name, &mut reader)?;
    header.check_length(path, length.saturating_sub(before))?;
    let mut collector = Collector::new(path, limits);
    collector.announce(Role::Input(input), &header)?;
    collector.read(Role::Input(input), &header, &mut reader)?;
    Ok(Loaded::arrays(collector.finish(), vec![(path.to_owned(), sha256)]))
}

/// Reads a `.npz` file: a zip archive of `NAME.npy` entries, stored or deflated.
pub(super) fn open_npz(path: &Path, inputs: &[InputSpec], limits: &Limits) -> Result<Loaded, DataError> {
    let (file, _, sha256) = files::open_hashed(path)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| zip_fault(path, "", e))?;
    let mut names = Vec::new();
    for entry in archive.file_names() {
        match entry.strip_suffix(".npy") {
            Some(name) => names.push(name.to_owned()),
            None => {
                let (path, entry) = (path.to_owned(), entry.to_owned());
                return Err(DataError::ZipEntry { path, entry, reason: "not a .npy array".into() });
            }
        }
    }
    let roles = assign(path, &names, inputs, true)?;

    // Every header is checked against the model and the limits before any array is read.
    let mut collector = Collector::new(path, limits);
    for (name, role) in names.iter().zip(&roles) {
        let entry_name = format!("{name}.npy");
        let mut entry = archive.by_name(&entry_name).map_err(|e| zip_fault(path, &entry_name, e))?;
        let (header, before) = read_header(path, name, &mut entry)?;
        header.check_length(path, entry.size().saturating_sub(before))?;
        collector.announce(*role, &header)?;
    }
    for (name, role) in names.iter().zip(&roles) {
        let entry_name = format!("{name}.npy");
        let mut entry = archive.by_name(&entry_name).map_err(|e| zip_fault(path, &entry_name, e))?;
        let (header, _) = read_header(path, name, &mut entry)?;
        collector.read(*role, &header, &mut entry)?;
        // Reading to the end has the checksum verified; an entry longer than it declares is refused.
        let reason = match entry.read(&mut [0]) {
            Ok(0) => continue,
            Ok(_) => "the zip entry is longer than it declares".to_owned(),
            Err(e) => e.to_string(),
        };
        return Err(DataError::Corrupt { path: path.to_owned(), array: name.clone(), reason });
    }
    Ok(Loaded::arrays(collector.finish(), vec![(path.to_owned(), sha256)]))
}

fn zip_fault(path: &Path, entry: &str, error: ZipError) -> DataError {
    let (path, entry) = (path.to_owned(), entry.to_owned());
    match error {
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) | ZipError::InvalidPassword => {
            DataError::ZipEntry { path, entry, reason: error.to_string() }
        }
        _ => DataError::Zip { path, reason: error.to_string() },
    }
}

/// Reads a header and returns it with its length in bytes, the offset of the first element.
fn read_header(path: &Path, array: &str, reader: &mut impl Read) -> Result<(Header, u64), DataError> {
    let fault = |at, reason| DataError::NpyHeader { path: path.to_owned(), array: array.to_owned(), at, reason };
    let short = |_| fault(0, "the file ends within the header");
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(short)?;
    if &start[..6] != MAGIC {
        return Err(fault(0, "not a NumPy file (no magic number)"));
    }
    let (before, length) = match start[6] {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(short)?;
            (10, u16::from_le_bytes(length) as usize)
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(short)?;
            (12, u32::from_le_bytes(length) as usize)
        }
        _ => return Err(fault(6, "unknown version of the format")),
    };
    if length > MAX_HEADER {
        return Err(fault(8, "the header is longer than 65536 bytes"));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(short)?;
    let dictionary = Literal { text: &text, at: 0 }.dictionary().map_err(|(at, why)| fault(before + at, why))?;
    let (big_endian, stored) = match element(&dictionary.descr) {
        Some(element) => element,
        None if dictionary.descr.trim_start_matches(['|', '<', '>', '=']).starts_with('O') => {
            return Err(DataError::Pickled { path: path.to_owned(), array: array.to_owned() });
        }
        None => {
            let (path, array) = (path.to_owned(), array.to_owned());
            return Err(DataError::Elements { path, array, found: format!("`{}`", dictionary.descr) });
        }
    };
    let (fortran, shape) = (dictionary.fortran, dictionary.shape);
    let header = Header { name: array.to_owned(), stored, big_endian, fortran, shape };
    Ok((header, (before + length) as u64))
}

/// The element type and byte order behind a `descr` such as `<f4`.
fn element(descr: &str) -> Option<(bool, Stored)> {
    let (order, kind) = (descr.get(..1)?, descr.get(1..)?);
    let stored = match kind {
        "f4" => Stored::As(DType::F32),
        "f8" => Stored::As(DType::F64),
        "f2" => Stored::As(DType::F16),
        "i1" => Stored::As(DType::I8),
        "i2" => Stored::As(DType::I16),
        "i4" => Stored::As(DType::I32),
        "i8" => Stored::As(DType::I64),
        "u1" => Stored::As(DType::U8),
        "u2" => Stored::U16,
        "u4" => Stored::U32,
        "u8" => Stored::U64,
        "b1" => Stored::As(DType::Bool),
        _ => return None,
    };
    match order {
        "<" => Some((false, stored)),
        ">" => Some((true, stored)),
        "|" | "=" if stored.size() == 1 => Some((false, stored)),
        _ => None,
    }
}

/// What the header's dictionary says.
struct Dictionary {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// A fault: byte offset and reason.
type Fault = (usize, &'static str);

/// Reads the one form of Python literal that a header has:
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order. It does not recurse,
/// so nesting cannot exhaust the stack.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

impl Literal<'_> {
    fn dictionary(mut self) -> Result<Dictionary, Fault> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{', "expected `{`")?;
        while !self.take(b'}') {
            let key_at = self.at;
            let key = self.string()?;
            self.expect(b':', "expected `:` after a key")?;
            let again = match key.as_str() {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return Err((key_at, "unknown key; expected descr, fortran_order and shape")),
            };
            if again {
                return Err((key_at, "a key is there twice"));
            }
            if !self.take(b',') {
                self.expect(b'}', "expected `,` or `}`")?;
                break;
            }
        }
        self.skip_space();
        match (descr, fortran, shape) {
            _ if self.at < self.text.len() => Err((self.at, "something follows the dictionary")),
            (Some(descr), Some(fortran), Some(shape)) => Ok(Dictionary { descr, fortran, shape }),
            _ => Err((self.at, "one of the keys descr, fortran_order and shape is missing")),
        }
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(|c| matches!(c, b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err((self.at, otherwise)) }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.skip_space();
        let start = self.at;
        let quote = match self.text.get(start) {
            Some(&q @ (b'\'' | b'"')) => q,
            _ => return Err((start, "expected a string")),
        };
        let rest = &self.text[start + 1..];
        let length = rest.iter().position(|&c| c == quote).ok_or((start, "a string does not end"))?;
        self.at = start + length + 2;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    /// A type name; a structured type (a list) is kept as its text, to be refused by name.
    fn descr(&mut self) -> Result<String, Fault> {
        if !self.take(b'[') {
            return self.string();
        }
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&c| c == b']').ok_or((self.at, "a list does not end"))?;
        self.at += length + 1;
        Ok(format!("[{}]", String::from_utf8_lossy(&rest[..length])))
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err((self.at, "expected True or False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, Fault> {
        let mut dims = Vec::new();
        self.expect(b'(', "expected a tuple of dimensions")?;
        while !self.take(b')') {
            let start = self.at;
            while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
                self.at += 1;
            }
            let digits = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
            dims.push(digits.parse().map_err(|_| (start, "a dimension is not a number, or too large"))?);
            if !self.take(b',') {
                self.expect(b')', "expected `,` or `)`")?;
                break;
            }
        }
        Ok(dims)
    }
}
