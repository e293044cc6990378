//! Installing from wheels made here, without network.

use super::Machine;
use onnx_unlearn::session::cuda::libraries::{self, Maker};
use onnx_unlearn::session::install::wheels::{Wheel, gpu};
use onnx_unlearn::session::install::{Source, on_machine, unpacked};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;
use zip::write::SimpleFileOptions;

/// Writes a wheel with these files; gives its row with the true hash.
fn wheel(folder: &Path, package: &'static str, files: &[&str]) -> Wheel {
    let name = package.replace('-', "_");
    let path = folder.join(format!("{name}-1.0-py3-none-manylinux2014_x86_64.whl"));
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let info = format!("{name}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
    let tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-manylinux2014_x86_64\n";
    let own = [(format!("{info}/METADATA"), metadata), (format!("{info}/WHEEL"), tag.into())];
    let files = files.iter().map(|f| (f.to_string(), format!("content of {f}")));
    for (file, content) in own.into_iter().chain(files).chain([(format!("{info}/RECORD"), String::new())]) {
        archive.start_file(file, SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let hash = format!("{:x}", Sha256::digest(fs::read(&path).unwrap()));
    Wheel { package, version: "1.0", platforms: &["manylinux2014_x86_64"], sha256: Box::leak(hash.into_boxed_str()) }
}

fn source(folder: &Path) -> Source {
    Source { python: "python3".into(), find_links: Some(folder.into()) }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const RUNTIME: [&str; 6] = [
    "onnxruntime/LICENSE",
    "onnxruntime/capi/libonnxruntime.so.9.9.9",
    "onnxruntime/capi/libonnxruntime_providers_shared.so",
    "onnxruntime/capi/libonnxruntime_providers_cuda.so",
    "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
    "onnxruntime/capi/onnxruntime_pybind11_state.so",
];

#[test]
fn what_is_needed_is_unpacked_and_nothing_else() {
    let machine = Machine::new();
    let links = machine.file("wheels/readme", b"").parent().unwrap().to_owned();
    let runtime = wheel(&links, "onnxruntime-made-up", &RUNTIME);
    let companion = wheel(
        &links,
        "nvidia-made-up",
        &[
            "nvidia/cu13/lib/libcublas.so.13",
            "nvidia/cu13/lib/libnvblas.so.13",
            "nvidia/cu13/lib/stubs/libcublasLt.so.13",
            "nvidia/cu13/include/cublas.h",
            "nvidia_made_up-1.0.dist-info/License.txt",
        ],
    );
    // What an earlier installation left.
    for old in ["libonnxruntime.so.1.31.0", "libonnxruntime_providers_cuda.so", "libcublas.so.12", "LICENSE"] {
        machine.file(&format!("to/{old}"), b"old");
    }
    machine.file("to/mine.txt", b"");
    let to = machine.folder("to");
    let made = unpacked(&[runtime, companion], &to, &source(&links)).unwrap();
    assert_eq!(made.library, to.join("libonnxruntime.so.9.9.9"));
    assert_eq!(made.packages, ["onnxruntime-made-up 1.0", "nvidia-made-up 1.0"]);
    insta::assert_snapshot!(names(&to).join("\n"));
    assert_eq!(fs::read_to_string(to.join("LICENSE")).unwrap(), "content of onnxruntime/LICENSE");
}

#[test]
fn nothing_is_installed_where_a_wheel_is_missing_or_another() {
    let machine = Machine::new();
    let links = machine.file("wheels/readme", b"").parent().unwrap().to_owned();
    let runtime = wheel(&links, "onnxruntime-made-up", &RUNTIME);
    machine.file("to/libonnxruntime.so.1.31.0", b"old");
    let to = machine.folder("to");
    let absent = Wheel { package: "nvidia-absent", ..runtime };
    let error = unpacked(&[runtime, absent], &to, &source(&links)).unwrap_err().to_string();
    assert!(error.contains("pip could not download nvidia-absent==1.0"), "{error}");
    let other = Wheel { sha256: "0000", ..runtime };
    let error = unpacked(&[other], &to, &source(&links)).unwrap_err().to_string();
    assert!(error.contains("has SHA-256") && error.contains("nothing was installed"), "{error}");
    let empty = wheel(&links, "onnxruntime-empty", &["onnxruntime/capi/x.py"]);
    let error = unpacked(&[empty], &to, &source(&links)).unwrap_err().to_string();
    assert!(error.contains("holds no libonnxruntime.so"), "{error}");
    let without = Source { python: "no-such-python".into(), find_links: None };
    let error = unpacked(&[runtime], &to, &without).unwrap_err().to_string();
    assert!(error.contains("no-such-python cannot be run"), "{error}");
    assert_eq!(names(&to), ["libonnxruntime.so.1.31.0"]);
}

#[test]
fn the_machine_own_libraries_are_found_or_named() {
    let machine = Machine::new();
    machine.libraries("cuda", 12, "none");
    let list = [machine.folder("cuda")];
    let found = on_machine(12, &list).unwrap();
    assert_eq!(found.len(), libraries::needed(12).iter().filter(|n| n.maker != Maker::Driver).count());
    let missing = on_machine(13, &list).unwrap_err();
    assert_eq!(missing, "libcudart.so.13, libcublasLt.so.13, libcublas.so.13, libcufft.so.12");
}

/// Every library that is needed comes out of some wheel of its version of CUDA.
#[test]
fn each_version_of_cuda_has_its_wheels() {
    for cuda in onnx_unlearn::session::cuda::MAJORS {
        let (runtime, companions) = gpu("linux", "x86_64", cuda).unwrap();
        assert_eq!(runtime.package, "onnxruntime-gpu");
        for part in ["cuda-runtime", "cublas", "curand", "cufft", "cudnn", "cuda-nvrtc", "nvjitlink"] {
            assert_eq!(
                companions.iter().filter(|w| w.package.starts_with(&format!("nvidia-{part}"))).count(),
                1,
                "{part}"
            );
        }
        let hex = |w: &Wheel| w.sha256.len() == 64 && w.sha256.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hex(&runtime) && companions.iter().all(hex));
    }
    assert!(gpu("linux", "aarch64", 13).is_none() && gpu("linux", "x86_64", 11).is_none());
}
