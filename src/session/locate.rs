//! Where the shared library of ONNX Runtime is looked for.

use std::path::{Path, PathBuf};

/// The version of ONNX Runtime that this product is tested with and installs.
pub const VERSION: &str = "1.31.0";

/// Folders that are searched, in order: the one named by `ONNX_UNLEARN_RUNTIME`; `onnxruntime` beside the
/// executable and beside the two folders above it (so that a build folder serves the binary and its
/// tests); the user's data folder; the system's library folders.
pub fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("ONNX_UNLEARN_RUNTIME").map(PathBuf::from).into_iter().collect();
    if let Ok(exe) = std::env::current_exe() {
        folders.extend(exe.ancestors().skip(1).take(3).map(|a| a.join("onnxruntime")));
        folders.extend(exe.parent().map(Path::to_path_buf));
    }
    folders.extend(data_folder());
    folders.extend(
        ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"].map(PathBuf::from),
    );
    folders
}

/// Where `runtime install` puts the library by default: `$XDG_DATA_HOME/onnx-unlearn/onnxruntime`,
/// or below `~/.local/share`.
pub fn data_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    base.map(|b| b.join("onnx-unlearn/onnxruntime"))
}

/// The library in one of `folders`: `ORT_DYLIB_PATH` where set, else the newest version in the
/// first folder that holds one. The path is absolute.
pub fn library(folders: &[PathBuf]) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return std::path::absolute(path).ok();
    }
    let found = folders.iter().find_map(|folder| newest_in(folder))?;
    std::path::absolute(found).ok()
}

fn newest_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("libonnxruntime.so")
            || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
            || name == "onnxruntime.dll"
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).filter(is_library).collect();
    files.sort_by_key(|path| version_of(path));
    files.pop()
}

fn version_of(path: &Path) -> Vec<u32> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}
