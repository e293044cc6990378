//! The shared libraries that the CUDA execution provider needs, and where among folders they lie.

use std::path::{Path, PathBuf};

/// Whose library it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Maker {
    #[serde(rename = "driver")]
    Driver,
    #[serde(rename = "CUDA")]
    Cuda,
    #[serde(rename = "cuDNN")]
    Cudnn,
}

/// A library by the name that the loader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Such as `libcublas.so`.
    pub stem: &'static str,
    pub major: u32,
    pub maker: Maker,
    /// Nothing runs without it.
    pub required: bool,
}

/// What became of looking for a library.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Library {
    /// Such as `libcublas.so.13`.
    pub name: String,
    pub maker: Maker,
    /// Nothing runs without it.
    pub required: bool,
    /// The one that would be used.
    pub path: Option<PathBuf>,
    /// As far as the name of its file tells.
    pub version: Option<String>,
    /// What else was found: a broken link, another version, a second candidate.
    pub notes: Vec<String>,
}

const CUDNN: u32 = 9;

/// The libraries for a major version of CUDA, each after those that it depends on.
pub fn needed(cuda: u32) -> Vec<Needed> {
    let cufft = if cuda >= 13 { 12 } else { 11 };
    let row = |stem, major, maker, required| Needed { stem, major, maker, required };
    vec![
        row("libcuda.so", 1, Maker::Driver, true),
        row("libcudart.so", cuda, Maker::Cuda, true),
        row("libnvJitLink.so", cuda, Maker::Cuda, false),
        row("libnvrtc.so", cuda, Maker::Cuda, false),
        row("libcublasLt.so", cuda, Maker::Cuda, true),
        row("libcublas.so", cuda, Maker::Cuda, true),
        row("libcurand.so", 10, Maker::Cuda, true),
        row("libcufft.so", cufft, Maker::Cuda, true),
        row("libcudnn.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_graph.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_ops.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_heuristic.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_adv.so", CUDNN, Maker::Cudnn, false),
        row("libcudnn_cnn.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_engines_precompiled.so", CUDNN, Maker::Cudnn, true),
        row("libcudnn_engines_runtime_compiled.so", CUDNN, Maker::Cudnn, true),
    ]
}

/// Looks for each library in the folders, in order. Parts of cuDNN are taken from where cuDNN itself lies, if they
/// lie there: those of two installations do not work together.
pub fn search(needed: &[Needed], folders: &[PathBuf]) -> Vec<Library> {
    let mut found: Vec<Library> = Vec::new();
    for wanted in needed {
        let cudnn = found.iter().find(|l| l.maker == Maker::Cudnn).and_then(|l| l.path.as_deref()?.parent());
        let first = cudnn.filter(|_| wanted.maker == Maker::Cudnn).map(Path::to_path_buf);
        let order: Vec<&PathBuf> = first.iter().chain(folders.iter().filter(|f| Some(*f) != first.as_ref())).collect();
        found.push(find(wanted, &order));
    }
    found
}

fn find(wanted: &Needed, folders: &[&PathBuf]) -> Library {
    let name = format!("{}.{}", wanted.stem, wanted.major);
    let (mut path, mut notes): (Option<PathBuf>, Vec<String>) = (None, Vec::new());
    for candidate in folders.iter().map(|folder| folder.join(&name)) {
        match (candidate.is_file(), &path) {
            (true, None) => path = Some(candidate),
            (true, Some(used)) if used.canonicalize().ok() == candidate.canonicalize().ok() => {}
            (true, Some(_)) => notes.push(format!("not used: {}", candidate.display())),
            (false, _) if candidate.is_symlink() => {
                notes.push(format!("{} is a link to a file that is not there", candidate.display()));
            }
            (false, _) => {}
        }
    }
    if path.is_none() {
        notes.extend(folders.iter().flat_map(|folder| others(wanted, folder)));
    }
    let version = path.as_deref().and_then(|p| version_of(p, &name));
    Library { name, maker: wanted.maker, required: wanted.required, path, version, notes }
}

/// The same library with another major version in a folder, in words.
fn others(wanted: &Needed, folder: &Path) -> Vec<String> {
    let dot = format!("{}.", wanted.stem);
    let major = |name: &str| name.strip_prefix(&dot).and_then(|v| v.parse::<u32>().ok());
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
    let mut found: Vec<u32> = names.filter_map(|n| major(n.to_str()?)).filter(|m| *m != wanted.major).collect();
    found.sort_unstable();
    let words =
        |m| format!("{} is version {m}, {} is needed", folder.join(format!("{dot}{m}")).display(), wanted.major);
    found.into_iter().map(words).collect()
}

/// `13.0.96` of a link to `libcudart.so.13.0.96`.
fn version_of(path: &Path, name: &str) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let stem = name.rsplit_once('.').map(|(stem, _)| stem)?;
    let version = real.file_name()?.to_str()?.strip_prefix(stem)?.strip_prefix('.')?;
    Some(version.to_string()).filter(|v| v.contains('.'))
}
