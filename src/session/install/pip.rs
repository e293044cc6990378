//! One wheel, from pip's download to files in a folder.

use super::Source;
use super::wheels::Wheel;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Downloads a wheel into `folder` and checks its hash.
pub(super) fn download(wheel: &Wheel, folder: &Path, source: &Source) -> Result<PathBuf, String> {
    let package = format!("{}=={}", wheel.package, wheel.version);
    let target = folder.join(wheel.package);
    let mut pip = Command::new(&source.python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", "311", "--abi", "cp311"]);
    for platform in wheel.platforms {
        pip.args(["--platform", platform]);
    }
    if let Some(links) = &source.find_links {
        pip.arg("--no-index").arg("--find-links").arg(links);
    }
    let output = pip.arg("--dest").arg(&target).arg(&package).output().map_err(|e| {
        format!("{} cannot be run: {e}; Python 3 with pip is needed, or --runtime tract", source.python)
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.trim().lines().last().unwrap_or("no message").to_string();
        return Err(format!("pip could not download {package}: {last}"));
    }
    let file = std::fs::read_dir(&target).ok().and_then(|mut files| files.next()?.ok()).map(|f| f.path());
    let file = file.ok_or_else(|| format!("pip downloaded nothing for {package}"))?;
    let found = hash(&file).map_err(|e| e.to_string())?;
    match found == wheel.sha256 {
        true => Ok(file),
        false => Err(format!("{package} has SHA-256 {found}, expected {}; nothing was installed", wheel.sha256)),
    }
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let (mut digest, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(format!("{:x}", digest.finalize())),
            n => digest.update(&block[..n]),
        }
    }
}

/// Copies the shared libraries of a wheel that are of use, and its licence texts, into `folder`; gives their names.
pub(super) fn unpack(wheel: &Path, package: &str, folder: &Path) -> Result<Vec<String>, String> {
    let file = File::open(wheel).map_err(|e| e.to_string())?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| e.to_string())?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| e.to_string())?;
        let Some(name) = wanted(entry.name(), package) else { continue };
        let mut file = fs_err::File::create(folder.join(&name)).map_err(|e| e.to_string())?;
        std::io::copy(&mut entry, &mut file).map_err(|e| format!("{name}: {e}"))?;
        names.push(name);
    }
    Ok(names)
}

/// The name under which a file of a wheel is kept.
fn wanted(path: &str, package: &str) -> Option<String> {
    const OURS: [&str; 7] = ["cudart", "nvJitLink", "nvrtc", "cublas", "curand", "cufft", "cudnn"];
    let name = path.rsplit('/').next()?;
    let own = package.starts_with("onnxruntime");
    if own && ["LICENSE", "ThirdPartyNotices.txt"].contains(&name) {
        return Some(name.into());
    }
    if !own && ["License.txt", "LICENSE", "LICENSE.txt"].contains(&name) {
        return Some(format!("LICENSE-{package}"));
    }
    let stem = name.strip_prefix("lib").filter(|_| name.contains(".so") && !path.contains("/stubs/"))?;
    let kept = match own {
        true => stem.starts_with("onnxruntime") && !stem.contains("tensorrt"),
        false => OURS.iter().any(|prefix| stem.starts_with(prefix)) && !name.contains(".alt."),
    };
    kept.then(|| name.to_string())
}
