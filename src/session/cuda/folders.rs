//! Folders in which the libraries of CUDA and cuDNN may lie.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders of this machine: beside the library of ONNX Runtime, then what the environment names, then the system's.
pub fn of_machine(library: &Path) -> Vec<PathBuf> {
    let beside = library.parent().map(Path::to_path_buf);
    folders(beside.as_deref(), &|name| std::env::var_os(name), Path::new("/"))
}

/// Folders that exist, each once: `beside`, those of `LD_LIBRARY_PATH`, `CUDA_PATH`, `CUDA_HOME` and `CUDNN_PATH`, an
/// active Python environment, then those of the system below `root`.
pub fn folders(beside: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>, root: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = beside.map(Path::to_path_buf).into_iter().collect();
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(paths) = variable("LD_LIBRARY_PATH") {
        list.extend(std::env::split_paths(&paths).filter(|p| p.is_absolute()));
    }
    for base in ["CUDA_PATH", "CUDA_HOME", "CUDNN_PATH"].iter().filter_map(|name| named(name)) {
        list.extend(["lib64", "lib"].map(|part| base.join(part)));
    }
    for base in ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| named(name)) {
        for python in below(&base.join("lib"), "python3") {
            list.extend(in_site_packages(&python.join("site-packages")));
        }
        list.push(base.join("lib"));
    }
    list.push(root.join("usr/local/cuda/lib64"));
    list.extend(below(&root.join("usr/local"), "cuda-").into_iter().rev().map(|cuda| cuda.join("lib64")));
    for file in below(&root.join("etc/ld.so.conf.d"), "") {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter_map(|line| line.strip_prefix('/'));
        list.extend(lines.map(|line| root.join(line)));
    }
    let system = ["usr/local/lib", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/wsl/lib"];
    list.extend(system.map(|part| root.join(part)));
    existing(list)
}

/// Where an installed PyTorch, or NVIDIA's own packages, keep the libraries in a folder of Python packages.
pub fn in_site_packages(folder: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = below(&folder.join("nvidia"), "").into_iter().map(|part| part.join("lib")).collect();
    list.push(folder.join("torch/lib"));
    existing(list)
}

/// Paths in a folder whose name begins with `prefix`, in the order of names.
fn below(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = |name: &OsString| name.to_str().is_some_and(|n| n.starts_with(prefix));
    let mut paths: Vec<PathBuf> = names.filter(|e| fits(&e.file_name())).map(|e| e.path()).collect();
    paths.sort();
    paths
}

fn existing(list: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for folder in list {
        if folder.is_dir() && !kept.contains(&folder) {
            kept.push(folder);
        }
    }
    kept
}
