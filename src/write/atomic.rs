//! Files that appear whole or not at all.
//!
//! Where the system has them, unnamed temporary files are used (`O_TMPFILE`): a program that
//! is killed while it writes leaves nothing behind.

use super::WriteError;
use crate::model::same_file;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Prefix and suffix of temporary files, where they need a name.
const PREFIX: &str = ".onnx-unlearn-";
const SUFFIX: &str = ".tmp";

/// Checks, before any long work, that a file can be written at `output`: its folder exists and
/// can be written to, and it is neither a folder nor, through links of any kind, one of `inputs`.
pub fn check_output(output: &Path, inputs: &[PathBuf]) -> Result<(), WriteError> {
    let path = || output.to_owned();
    if output.file_name().is_none() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(WriteError::IsFolder { path: path() });
    }
    if inputs.iter().any(|input| same_file(output, input)) {
        return Err(WriteError::IsInput { path: path() });
    }
    match fs::metadata(output) {
        Ok(about) if about.is_dir() => return Err(WriteError::IsFolder { path: path() }),
        Ok(about) if !about.is_file() => return Err(WriteError::NotRegular { path: path() }),
        _ => (),
    }
    let folder = folder(output);
    if !folder.is_dir() {
        return Err(WriteError::NoFolder { folder: folder.to_owned() });
    }
    let created = tempfile::tempfile_in(folder);
    created.map(drop).map_err(|error| WriteError::Folder { folder: folder.to_owned(), error })
}

/// Writes all files or none, in the order given: where files need each other, the one that
/// makes the others count comes last. Existing files are replaced. All content is on the disk
/// before the first file gets its name. Folders missing between the folder of the last file
/// and the others are created. Should a name be refused after others were given (the disk
/// fails, another program interferes), new files are removed again, but a file that was
/// replaced before that moment stays replaced.
pub fn write_all<B: AsRef<[u8]>>(files: &[(PathBuf, B)]) -> Result<(), WriteError> {
    let fill = |bytes: &'_ B, out: &mut dyn Write| out.write_all(bytes.as_ref());
    let contents: Vec<_> = files.iter().map(|(_, bytes)| move |out: &mut dyn Write| fill(bytes, out)).collect();
    let files = files.iter().zip(&contents).map(|((path, _), content)| (path.clone(), content as Content));
    write_contents(&files.collect::<Vec<_>>())
}

/// What writes the content of a file; asked again where a file system needs another attempt.
pub type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Writes one file, as [`write_all`] does, from content that need not be in memory as a whole.
pub fn write_streamed(path: &Path, content: Content) -> Result<(), WriteError> {
    write_contents(&[(path.to_owned(), content)])
}

/// Writes a file whole in the place of one that may be there, again and again: `spare` is the name that the
/// new file has for the moment in which it takes the place of the old one, and what a program that is
/// killed in that moment leaves there is removed by the next call.
pub fn replace(path: &Path, spare: &Path, content: Content) -> Result<(), WriteError> {
    let staged = Staged::new(path, content).map_err(WriteError::io(path))?;
    let result = match staged {
        #[cfg(target_os = "linux")]
        Staged::Unnamed(file) => {
            let _ = fs::remove_file(spare);
            match link(&file, spare) {
                Ok(()) => fs::rename(spare, path),
                // Some file systems have unnamed files but cannot name them.
                Err(_) => Staged::named(path, content).and_then(|named| named.place(path, content)),
            }
        }
        named => named.place(path, content),
    };
    result.and_then(|()| File::open(folder(path))?.sync_all()).map_err(WriteError::io(path))
}

fn write_contents(files: &[(PathBuf, Content)]) -> Result<(), WriteError> {
    let Some((last, _)) = files.last() else { return Ok(()) };
    for (index, (path, _)) in files.iter().enumerate() {
        if files[..index].iter().any(|(other, _)| other == path) {
            return Err(WriteError::Twice { path: path.clone() });
        }
        if path.is_dir() {
            return Err(WriteError::IsFolder { path: path.clone() });
        }
    }
    if !folder(last).is_dir() {
        return Err(WriteError::NoFolder { folder: folder(last).to_owned() });
    }
    let mut undo = Undo::default();
    let mut staged = Vec::new();
    for (path, content) in files {
        if path.starts_with(folder(last)) || folder(last) == Path::new(".") {
            undo.create_folders(folder(path))?;
        }
        staged.push(Staged::new(path, content).map_err(WriteError::io(path))?);
    }
    for (staged, (path, content)) in staged.into_iter().zip(files) {
        let new = fs::symlink_metadata(path).is_err();
        staged.place(path, content).map_err(WriteError::io(path))?;
        if new {
            undo.files.push(path.clone());
        }
    }
    for (path, _) in files {
        File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(WriteError::io(path))?;
    }
    undo.keep();
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What is taken back unless everything succeeds.
#[derive(Default)]
struct Undo {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Undo {
    fn create_folders(&mut self, folder: &Path) -> Result<(), WriteError> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder).map_err(WriteError::io(folder))?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }

    fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Best effort: the error that led here is the one to report.
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A file that has its content but not yet its name.
enum Staged {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(NamedTempFile),
}

impl Staged {
    fn new(path: &Path, content: Content) -> io::Result<Staged> {
        #[cfg(target_os = "linux")]
        if let Ok(file) = unnamed(folder(path)) {
            fill(&file, content)?;
            return Ok(Staged::Unnamed(file));
        }
        Staged::named(path, content)
    }

    fn named(path: &Path, content: Content) -> io::Result<Staged> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder(path))?;
        fill(file.as_file(), content)?;
        Ok(Staged::Named(file))
    }

    /// Gives the file its name, in place of a file that has it.
    fn place(self, path: &Path, content: Content) -> io::Result<()> {
        match self {
            Staged::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
            #[cfg(target_os = "linux")]
            Staged::Unnamed(file) => match link(&file, path) {
                Ok(()) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let mut builder = tempfile::Builder::new();
                    let named =
                        builder.prefix(PREFIX).suffix(SUFFIX).make_in(folder(path), |name| link(&file, name))?;
                    named.persist(path).map(drop).map_err(|error| error.error)
                }
                // Some file systems have unnamed files but cannot name them.
                Err(_) => Staged::named(path, content)?.place(path, content),
            },
        }
    }
}

fn fill(mut file: &File, content: Content) -> io::Result<()> {
    content(&mut file)?;
    file.sync_all()
}

#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).mode(0o666).custom_flags(libc::O_TMPFILE).open(folder)
}

/// Gives an unnamed file a name that no file has.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both are strings that end in a zero byte and live until the call returns.
    let result =
        unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> impl Fn(&mut dyn Write) -> io::Result<()> {
        move |out| out.write_all(bytes)
    }

    #[test]
    fn named_and_unnamed_temporary_files_end_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        for (round, stage) in [Staged::new, Staged::named].into_iter().enumerate() {
            fs::write(&old, b"before").unwrap();
            let new = new.with_extension(round.to_string());
            for path in [&new, &old] {
                let content = content(b"after");
                stage(path, &content).unwrap().place(path, &content).unwrap();
                assert_eq!(fs::read(path).unwrap(), b"after");
            }
            drop(stage(&old, &content(b"given up")).unwrap());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), round + 2);
        }
    }

    #[test]
    fn a_file_is_replaced_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, spare) = (folder.path().join("file"), folder.path().join("spare"));
        // As if a program had been killed while it replaced the file.
        fs::write(&spare, b"half").unwrap();
        for bytes in [b"one".as_slice(), b"two", b"three"] {
            replace(&path, &spare, &content(bytes)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            let fails = |out: &mut dyn Write| out.write_all(b"half").and_then(|()| Err(io::Error::other("stop")));
            assert!(replace(&path, &spare, &fails).is_err());
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert!(!spare.exists() || cfg!(not(target_os = "linux")));
    }
}
