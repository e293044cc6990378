//! What CUDA needs on this machine: which libraries, where they are, what is missing and what to do about it.

pub mod elf;
pub mod folders;
pub mod libraries;
mod probe;

use libraries::{Library, Maker};
use std::path::{Path, PathBuf};

/// Major versions of CUDA that a build of ONNX Runtime is known for, the one that is installed by default first.
pub const MAJORS: [u32; 2] = [13, 12];
/// The execution provider's library, which lies beside that of ONNX Runtime.
pub const PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// What the CUDA execution provider of an ONNX Runtime would find.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cuda {
    /// The provider's library; none where this build of ONNX Runtime has none.
    pub provider: Option<PathBuf>,
    /// The major version of CUDA that it was built for.
    pub major: Option<u32>,
    /// Versions of what was found.
    pub driver_version: Option<String>,
    pub cuda_version: Option<String>,
    pub cudnn_version: Option<String>,
    /// In the order in which they are loaded.
    pub libraries: Vec<Library>,
    /// What to do about what is missing; empty where nothing is.
    pub advice: Vec<String>,
}

/// Looks through `folders` for what the provider beside `library` needs. Nothing is loaded.
pub fn look(library: &Path, folders: &[PathBuf]) -> Cuda {
    let provider = Some(library.with_file_name(PROVIDER)).filter(|path| path.is_file());
    let mut found = Cuda {
        provider,
        major: None,
        driver_version: None,
        cuda_version: None,
        cudnn_version: None,
        libraries: vec![],
        advice: vec![],
    };
    let Some(path) = &found.provider else {
        found.advice = vec![without_provider(folders)];
        return found;
    };
    let asked = elf::needed(path);
    let major =
        asked.as_ref().and_then(|names| names.iter().find_map(|n| n.strip_prefix("libcublas.so.")?.parse().ok()));
    found.major = major;
    let mut needed = libraries::needed(major.unwrap_or(MAJORS[0]));
    if let Some(names) = &asked {
        for wanted in needed.iter_mut().filter(|w| w.maker == Maker::Cuda) {
            wanted.required = names.contains(&format!("{}.{}", wanted.stem, wanted.major));
        }
    }
    found.libraries = libraries::search(&needed, folders);
    let version =
        |stem: &str| found.libraries.iter().find(|l| l.name.starts_with(stem)).and_then(|l| l.version.clone());
    (found.cuda_version, found.cudnn_version) = (version("libcudart.so."), version("libcudnn.so."));
    found.advice = advice(&found);
    found
}

/// As [`look`] on this machine; what is found is asked for its version.
pub fn on_this_machine(library: &Path) -> Cuda {
    let mut found = look(library, &folders::of_machine(library));
    let path = |stem: &str| found.libraries.iter().find(|l| l.name.starts_with(stem)).and_then(|l| l.path.clone());
    let (driver, runtime, cudnn) = (path("libcuda.so."), path("libcudart.so."), path("libcudnn.so."));
    found.driver_version = driver.and_then(|p| probe::cuda(&p, c"cuDriverGetVersion"));
    if let Some(version) = runtime.and_then(|p| probe::cuda(&p, c"cudaRuntimeGetVersion")) {
        found.cuda_version = Some(version);
    }
    if let Some(version) = cudnn.and_then(|p| probe::cudnn(&p)) {
        found.cudnn_version = Some(version);
    }
    found
}

/// Loads what was found, so that the provider meets it by its name wherever it lies.
/// Gives what could not be loaded, in words.
pub fn preload(found: &Cuda) -> Vec<String> {
    let mut failed = Vec::new();
    for library in found.libraries.iter().filter(|l| l.maker != Maker::Driver) {
        // The real file: it finds its companions beside itself, not beside a link to it.
        let Some(path) = library.path.as_ref().and_then(|p| p.canonicalize().ok()) else { continue };
        if let Err(error) = ort::util::preload_dylib(&path)
            && library.required
        {
            failed.push(format!("{} cannot be loaded: {error}", path.display()));
        }
    }
    failed
}

impl Cuda {
    /// Required libraries that were not found.
    pub fn missing(&self, maker: Maker) -> Vec<&Library> {
        self.libraries.iter().filter(|l| l.maker == maker && l.required && l.path.is_none()).collect()
    }
}

fn without_provider(folders: &[PathBuf]) -> String {
    let lacks = "this ONNX Runtime has no CUDA execution provider; for an NVIDIA GPU";
    match majors_in(folders).first() {
        Some(major) => {
            format!("{lacks}: 'onnx-unlearn runtime install --cuda {major}', which fits the CUDA {major} here")
        }
        None => format!("{lacks}: 'onnx-unlearn runtime install --cuda {}'", MAJORS[0]),
    }
}

/// Major versions of CUDA of which every required library lies in the folders, cuDNN included.
pub fn majors_in(folders: &[PathBuf]) -> Vec<u32> {
    let whole = |major: &u32| {
        let found = libraries::search(&libraries::needed(*major), folders);
        found.iter().all(|l| l.maker == Maker::Driver || !l.required || l.path.is_some())
    };
    MAJORS.into_iter().filter(whole).collect()
}

fn advice(found: &Cuda) -> Vec<String> {
    let mut advice = Vec::new();
    let major = found.major.unwrap_or(MAJORS[0]);
    let names = |missing: &[&Library]| missing.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    if found.major.is_none() {
        advice.push(format!(
            "{PROVIDER} does not tell which CUDA it was built for; run 'onnx-unlearn runtime install --cuda {major}' again"
        ));
    }
    if !found.missing(Maker::Driver).is_empty() {
        advice.push(
            "libcuda.so.1 is missing: install NVIDIA's driver; in a container, start it with access to the GPU".into(),
        );
    }
    for (maker, product) in
        [(Maker::Cuda, format!("CUDA {major}")), (Maker::Cudnn, format!("cuDNN 9 for CUDA {major}"))]
    {
        let missing = found.missing(maker);
        if !missing.is_empty() {
            advice.push(format!(
                "{} missing: run 'onnx-unlearn runtime install --cuda {major}', which fetches {product} where the \
                 machine has none, or install {product} and name its folder in LD_LIBRARY_PATH",
                names(&missing)
            ));
        }
    }
    advice
}
