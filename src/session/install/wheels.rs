//! The wheels that ONNX Runtime and the libraries of CUDA come in, by version and hash.

/// A file on a package index.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    pub package: &'static str,
    pub version: &'static str,
    /// pip's tags of platforms, any of which the file may bear.
    pub platforms: &'static [&'static str],
    /// Of the file.
    pub sha256: &'static str,
}

const OLD: [&str; 3] = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64"];

const fn wheel(package: &'static str, version: &'static str, sha256: &'static str) -> Wheel {
    Wheel { package, version, platforms: &OLD, sha256 }
}

const CPU_X86: Wheel = Wheel {
    package: "onnxruntime",
    version: super::super::locate::VERSION,
    platforms: &["manylinux_2_28_x86_64"],
    sha256: "d4092b78fc5bab77ce6522393098cdb2535423045ecdcff15cc0d022162d6b66",
};
const CPU_ARM: Wheel = Wheel {
    package: "onnxruntime",
    version: super::super::locate::VERSION,
    platforms: &["manylinux_2_28_aarch64"],
    sha256: "37c7dfe398550afdf9670a29315dbb88e49d8afc473ffaf1f410376efbb9c80a",
};

/// ONNX Runtime's build for CUDA 13, and the last one for CUDA 12.
const GPU_13: Wheel =
    wheel("onnxruntime-gpu", "1.31.1", "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6");
const GPU_12: Wheel =
    wheel("onnxruntime-gpu", "1.26.0", "4fa231294c2643911d2a7d16469c4808b0bdcdc4b5f4063d3a53744ce25b683a");

/// CUDA 13.0 and cuDNN 9.
const COMPANIONS_13: [Wheel; 7] = [
    wheel("nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    wheel("nvidia-nvjitlink", "13.0.88", "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"),
    wheel("nvidia-cuda-nvrtc", "13.0.88", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
    wheel("nvidia-cublas", "13.0.2.14", "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c"),
    wheel("nvidia-curand", "10.4.0.35", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    wheel("nvidia-cufft", "12.0.0.61", "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
    wheel("nvidia-cudnn-cu13", "9.28.1.4", "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec"),
];

/// CUDA 12.8 and cuDNN 9.
const COMPANIONS_12: [Wheel; 7] = [
    wheel("nvidia-cuda-runtime-cu12", "12.8.90", "adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90"),
    wheel("nvidia-nvjitlink-cu12", "12.8.93", "81ff63371a7ebd6e6451970684f916be2eab07321b73c9d244dc2b4da7f73b88"),
    wheel("nvidia-cuda-nvrtc-cu12", "12.8.93", "a7756528852ef889772a84c6cd89d41dfa74667e24cca16bb31f8f061e3e9994"),
    wheel("nvidia-cublas-cu12", "12.8.5.5", "9dfc0b26e565683cb15b7e273a0757ea4237948291036710a41e42207eba3e0b"),
    wheel("nvidia-curand-cu12", "10.3.9.90", "b32331d4f4df5d6eefa0554c565b626c7216f87a06a4f56fab27c3b68a830ec9"),
    wheel("nvidia-cufft-cu12", "11.3.3.83", "4d2dd21ec0b88cf61b62e6b43564355e5222e4a3fb394cac0db101f2dd0d4f74"),
    wheel("nvidia-cudnn-cu12", "9.28.0.42", "9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375"),
];

/// ONNX Runtime for the CPU of this kind of machine.
pub fn cpu(os: &str, arch: &str) -> Option<Wheel> {
    match (os, arch) {
        ("linux", "x86_64") => Some(CPU_X86),
        ("linux", "aarch64") => Some(CPU_ARM),
        _ => None,
    }
}

/// ONNX Runtime with CUDA of a major version, and the libraries that it needs.
pub fn gpu(os: &str, arch: &str, cuda: u32) -> Option<(Wheel, &'static [Wheel])> {
    match (os, arch, cuda) {
        ("linux", "x86_64", 13) => Some((GPU_13, &COMPANIONS_13)),
        ("linux", "x86_64", 12) => Some((GPU_12, &COMPANIONS_12)),
        _ => None,
    }
}
