//! Fetching ONNX Runtime: its Python wheel, downloaded by pip, holds the shared library.

use super::SessionError;
use super::locate::VERSION;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wheels that are known, by operating system and processor: pip's platform tag, and the SHA-256 of the file.
const WHEELS: [(&str, &str, &str, &str); 2] = [
    ("linux", "x86_64", "manylinux_2_28_x86_64", "d4092b78fc5bab77ce6522393098cdb2535423045ecdcff15cc0d022162d6b66"),
    ("linux", "aarch64", "manylinux_2_28_aarch64", "37c7dfe398550afdf9670a29315dbb88e49d8afc473ffaf1f410376efbb9c80a"),
];

/// Downloads the pinned version of ONNX Runtime with pip, checks its hash, and puts its shared libraries
/// and licence texts into `folder`. Gives the path of the library. Files there are replaced one by one, each at once.
///
/// # Errors
/// No wheel for this machine, pip missing or failing, a wrong hash, an unwritable folder.
pub fn install(folder: &Path, python: &str) -> Result<PathBuf, SessionError> {
    let fail = |reason: String| SessionError::Install(reason);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, platform, hash)) = WHEELS.iter().find(|w| (w.0, w.1) == (os, arch)) else {
        return Err(fail(format!(
            "no wheel is known for {os} on {arch}; put the library into {} yourself, or use --runtime tract",
            folder.display()
        )));
    };
    let download = tempfile::tempdir().map_err(|e| fail(e.to_string()))?;
    let package = format!("onnxruntime=={VERSION}");
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", "311", "--abi", "cp311", "--platform", platform])
        .arg("--dest")
        .arg(download.path())
        .arg(&package)
        .output()
        .map_err(|e| fail(format!("{python} cannot be run: {e}; Python 3 with pip is needed, or --runtime tract")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.trim().lines().last().unwrap_or("no message").to_string();
        return Err(fail(format!("pip could not download {package}: {last}")));
    }
    let wheel = std::fs::read_dir(download.path()).ok().and_then(|mut files| files.next()?.ok()).map(|f| f.path());
    let wheel = wheel.ok_or_else(|| fail("pip downloaded nothing".into()))?;
    let bytes = fs_err::read(&wheel).map_err(|e| fail(e.to_string()))?;
    let found = format!("{:x}", Sha256::digest(&bytes));
    if found != *hash {
        return Err(fail(format!("{package} has SHA-256 {found}, expected {hash}; nothing was installed")));
    }
    unpack(&bytes, folder).map_err(fail)
}

fn unpack(wheel: &[u8], folder: &Path) -> Result<PathBuf, String> {
    fs_err::create_dir_all(folder).map_err(|e| e.to_string())?;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel)).map_err(|e| e.to_string())?;
    let mut library = None;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| e.to_string())?;
        let name = entry.name().rsplit('/').next().unwrap_or_default().to_string();
        let is_library = name.starts_with("libonnxruntime") && name.contains(".so");
        if !is_library && !["LICENSE", "ThirdPartyNotices.txt"].contains(&name.as_str()) {
            continue;
        }
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| e.to_string())?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| e.to_string())?;
        std::io::Write::write_all(&mut file, &content).map_err(|e| e.to_string())?;
        let target = folder.join(&name);
        file.persist(&target).map_err(|e| e.to_string())?;
        if name.starts_with("libonnxruntime.so") {
            library = Some(target);
        }
    }
    library.ok_or_else(|| "the wheel holds no libonnxruntime.so".into())
}
