//! Opening and hashing files.

use super::error::DataError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// A regular file, opened, with its length in bytes; symbolic links are followed. Pipes, sockets and
/// devices are refused before they are opened, since opening one can block for ever.
pub(super) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let metadata = fs::metadata(path).map_err(DataError::io(path))?;
    if !metadata.is_file() {
        return Err(DataError::NotRegular { path: path.to_owned() });
    }
    let file = File::open(path).map_err(DataError::io(path))?;
    let length = file.metadata().map_err(DataError::io(path))?.len();
    Ok((file, length))
}

/// Like [`open`], with the SHA-256 (hex) of the content; the file stands at its start again.
pub(super) fn open_hashed(path: &Path) -> Result<(File, u64, String), DataError> {
    let (mut file, length) = open(path)?;
    let mut hash = Hashing(Sha256::new());
    io::copy(&mut file, &mut hash).and_then(|_| file.rewind()).map_err(DataError::io(path))?;
    Ok((file, length, hex(hash.0)))
}

/// The whole content of a file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let (file, length) = open(path)?;
    let too_large = |found| DataError::TooLarge { path: path.to_owned(), what: "the file".into(), found, limit };
    if length > limit {
        return Err(too_large(length));
    }
    let mut content = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(DataError::io(path))?;
    if content.len() as u64 > limit {
        return Err(too_large(content.len() as u64));
    }
    Ok(content)
}

/// SHA-256 of some bytes, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// The digest's lower-case hexadecimal digits.
pub(super) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of what a folder holds, sorted by bytes; hidden entries (leading dot) are left out.
pub(super) fn entries(folder: &Path) -> Result<Vec<std::ffi::OsString>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let name = entry.map_err(DataError::io(folder))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
