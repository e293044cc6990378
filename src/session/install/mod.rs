//! Fetching ONNX Runtime, and what it needs for a GPU: Python wheels, downloaded by pip, hold the shared libraries.

mod pip;
pub mod wheels;

use super::SessionError;
use super::cuda::{self, folders, libraries};
use std::path::{Path, PathBuf};
use std::process::Command;
use wheels::Wheel;

/// Where wheels come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The Python that has pip.
    pub python: String,
    /// A folder of wheels in place of the network.
    pub find_links: Option<PathBuf>,
}

/// What was put into a folder.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Installed {
    /// The library of ONNX Runtime.
    pub library: PathBuf,
    /// Packages that were unpacked, with their versions.
    pub packages: Vec<String>,
    /// Libraries of CUDA and cuDNN on this machine that were linked to.
    pub linked: Vec<PathBuf>,
}

/// Puts ONNX Runtime for the CPU into `folder`.
///
/// # Errors
/// No wheel for this machine, pip missing or failing, a wrong hash, an unwritable folder.
pub fn install(folder: &Path, source: &Source) -> Result<Installed, SessionError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let wheel = wheels::cpu(os, arch).ok_or_else(|| {
        let folder = folder.display();
        let reason = "put the library into";
        SessionError::Install(format!(
            "no wheel is known for {os} on {arch}; {reason} {folder} yourself, or use --runtime tract"
        ))
    })?;
    unpacked(&[wheel], folder, source)
}

/// Puts ONNX Runtime with the CUDA execution provider into `folder`, and beside it links to the libraries of CUDA and
/// cuDNN that this machine has, or where it does not have them all, the libraries themselves.
/// With `system`, nothing but links: what the machine lacks is an error.
///
/// # Errors
/// As [`install`].
pub fn install_cuda(folder: &Path, cuda: u32, system: bool, source: &Source) -> Result<Installed, SessionError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let (runtime, companions) = wheels::gpu(os, arch, cuda).ok_or_else(|| {
        SessionError::Install(format!("no wheel with CUDA {cuda} is known for {os} on {arch}; use --device cpu"))
    })?;
    let places = [packages_of(&source.python), folders::folders(None, &|name| std::env::var_os(name), Path::new("/"))];
    let found = on_machine(cuda, &places.concat());
    match found {
        Ok(found) => {
            let mut installed = unpacked(&[runtime], folder, source)?;
            installed.linked = link(&found, folder).map_err(SessionError::Install)?;
            Ok(installed)
        }
        Err(missing) if system => Err(SessionError::Install(format!(
            "this machine lacks {missing} of CUDA {cuda} and cuDNN 9; without --system-cuda they are fetched, or name \
             their folders in LD_LIBRARY_PATH, or a Python that has them with --python"
        ))),
        Err(_) => unpacked(&[&[runtime][..], companions].concat(), folder, source),
    }
}

/// Every library of CUDA and cuDNN in the folders, by the name that is asked for; what is missing where one is.
///
/// # Errors
/// Names of missing libraries.
pub fn on_machine(cuda: u32, folders: &[PathBuf]) -> Result<Vec<(String, PathBuf)>, String> {
    let mut found = libraries::search(&libraries::needed(cuda), folders);
    found.retain(|l| l.maker != libraries::Maker::Driver);
    let missing: Vec<&str> = found.iter().filter(|l| l.required && l.path.is_none()).map(|l| l.name.as_str()).collect();
    match missing.is_empty() {
        true => Ok(found.into_iter().filter_map(|l| Some((l.name, l.path?))).collect()),
        false => Err(missing.join(", ")),
    }
}

/// Downloads wheels, checks their hashes, and puts their libraries and licence texts into `folder`; libraries of an
/// ONNX Runtime, CUDA or cuDNN that lay there before are removed. Nothing changes before all wheels are there.
///
/// # Errors
/// pip missing or failing, a wrong hash, an unwritable folder.
pub fn unpacked(wheels: &[Wheel], folder: &Path, source: &Source) -> Result<Installed, SessionError> {
    let fail = |e: std::io::Error| SessionError::Install(e.to_string());
    let download = tempfile::tempdir().map_err(fail)?;
    let mut files = Vec::new();
    for wheel in wheels {
        files.push(pip::download(wheel, download.path(), source).map_err(SessionError::Install)?);
    }
    fs_err::create_dir_all(folder).map_err(fail)?;
    let staged = tempfile::tempdir_in(folder).map_err(fail)?;
    let mut names = Vec::new();
    for (wheel, file) in wheels.iter().zip(files) {
        names.extend(pip::unpack(&file, wheel.package, staged.path()).map_err(SessionError::Install)?);
        // The next one may need the space.
        let _ = std::fs::remove_file(file);
    }
    let library = names.iter().find(|name| name.starts_with("libonnxruntime.so"));
    let library = library.ok_or_else(|| SessionError::Install("the wheel holds no libonnxruntime.so".into()))?;
    remove_old(folder).map_err(fail)?;
    for name in &names {
        fs_err::rename(staged.path().join(name), folder.join(name)).map_err(fail)?;
    }
    let packages = wheels.iter().map(|w| format!("{} {}", w.package, w.version)).collect();
    Ok(Installed { library: folder.join(library), packages, linked: vec![] })
}

/// Removes what an earlier installation left, whose versions do not fit the new one.
fn remove_old(folder: &Path) -> std::io::Result<()> {
    let stems: Vec<&str> = cuda::MAJORS.iter().flat_map(|m| libraries::needed(*m)).map(|n| n.stem).collect();
    for entry in fs_err::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with("libonnxruntime") && name.contains(".so");
        if ours || stems.iter().any(|stem| name.starts_with(stem)) || name.starts_with("libnvrtc-builtins.so") {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn link(found: &[(String, PathBuf)], folder: &Path) -> Result<Vec<PathBuf>, String> {
    for (name, path) in found {
        std::os::unix::fs::symlink(path, folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(found.iter().map(|(_, path)| path.clone()).collect())
}

/// The folders with CUDA in the packages of a Python: NVIDIA's own packages, or an installed PyTorch.
fn packages_of(python: &str) -> Vec<PathBuf> {
    let script = "import site, sysconfig; print(*dict.fromkeys([sysconfig.get_path('purelib'), \
                  sysconfig.get_path('platlib'), *site.getsitepackages(), site.getusersitepackages()]), sep='\\n')";
    let output = Command::new(python).args(["-c", script]).output().map(|o| o.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().flat_map(|line| folders::in_site_packages(Path::new(line))).collect()
}
