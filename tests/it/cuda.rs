//! CUDA without a GPU: which libraries are found on made-up machines, and installing from made-up wheels.

mod install;

use onnx_unlearn::session::cuda::folders::{folders, in_site_packages};
use onnx_unlearn::session::cuda::libraries::{Library, needed, search};
use onnx_unlearn::session::cuda::{self, Cuda, PROVIDER, elf};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A made-up machine.
struct Machine(TempDir);

impl Machine {
    fn new() -> Machine {
        Machine(tempfile::tempdir().unwrap())
    }

    fn file(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn link(&self, path: &str, to: &str) {
        symlink(to, self.0.path().join(path)).unwrap();
    }

    fn folder(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Empty files for every library of a version of CUDA, but for those whose name holds `without`.
    fn libraries(&self, folder: &str, major: u32, without: &str) {
        for library in needed(major) {
            let name = format!("{}.{}", library.stem, library.major);
            if !name.contains(without) {
                self.file(&format!("{folder}/{name}"), b"");
            }
        }
    }

    /// An ONNX Runtime whose CUDA provider asks for these libraries.
    fn runtime(&self, asks: &[&str]) -> PathBuf {
        self.file(&format!("ort/{PROVIDER}"), &elf_file(asks));
        self.file("ort/libonnxruntime.so.1.31.1", b"")
    }

    /// What is told, with the machine's own folder left out.
    fn told(&self, lines: &[String]) -> String {
        lines.join("\n").replace(&self.0.path().display().to_string(), "")
    }
}

const ASKS_13: [&str; 5] = ["libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13", "libc.so.6"];

/// A file with an ELF header, a loaded segment, a dynamic one, and these names in it.
fn elf_file(asks: &[&str]) -> Vec<u8> {
    let (dynamic, address) = (64 + 2 * 56u64, 0x1000u64);
    let strings = dynamic + 16 * (asks.len() as u64 + 2);
    let (mut names, mut entries) = (vec![0u8], Vec::new());
    for name in asks {
        entries.push((1u64, names.len() as u64));
        names.extend(name.bytes().chain([0]));
    }
    entries.extend([(5, address + strings), (0, 0)]);
    let end = strings + names.len() as u64;
    let mut file = b"\x7fELF\x02\x01".to_vec();
    file.resize(64, 0);
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&2u16.to_le_bytes());
    for (kind, offset, size) in [(1u64, 0, end), (2, dynamic, strings - dynamic)] {
        for number in [kind, offset, address + offset, 0, size, size, 0] {
            file.extend(number.to_le_bytes());
        }
    }
    entries.iter().for_each(|(tag, value)| file.extend([tag.to_le_bytes(), value.to_le_bytes()].concat()));
    file.extend(names);
    file
}

fn find<'a>(libraries: &'a [Library], name: &str) -> &'a Library {
    libraries.iter().find(|l| l.name == name).unwrap()
}

fn look(machine: &Machine, asks: &[&str], list: &[&str]) -> Cuda {
    let list: Vec<PathBuf> = list.iter().map(|f| machine.folder(f)).collect();
    cuda::look(&machine.runtime(asks), &list)
}

#[test]
fn names_are_read_from_a_library() {
    let machine = Machine::new();
    let path = machine.file("a.so", &elf_file(&ASKS_13));
    assert_eq!(elf::needed(&path).unwrap(), ASKS_13);
    let library = std::env::current_exe().unwrap();
    assert!(elf::needed(&library).unwrap().iter().any(|n| n.starts_with("libc.so")));
    let whole = elf_file(&ASKS_13);
    for length in 0..whole.len() {
        elf::needed(&machine.file("cut.so", &whole[..length]));
    }
    for at in 0..whole.len() {
        let mut bent = whole.clone();
        bent[at] ^= 0xff;
        elf::needed(&machine.file("bent.so", &bent));
    }
    assert_eq!(elf::needed(&machine.folder("none.so")), None);
}

#[test]
fn a_machine_with_everything_needs_nothing() {
    let machine = Machine::new();
    machine.libraries("cuda", 13, "none");
    fs::remove_file(machine.folder("cuda/libcudart.so.13")).unwrap();
    machine.file("cuda/libcudart.so.13.0.96", b"");
    machine.link("cuda/libcudart.so.13", "libcudart.so.13.0.96");
    let found = look(&machine, &ASKS_13, &["ort", "cuda"]);
    assert_eq!((found.major, found.cuda_version.as_deref()), (Some(13), Some("13.0.96")));
    assert_eq!(found.advice, Vec::<String>::new());
    assert!(found.libraries.iter().all(|l| l.path.is_some() && l.notes.is_empty()));
    // Libraries come after those that they depend on.
    let place = |name: &str| found.libraries.iter().position(|l| l.name == name).unwrap();
    assert!(place("libcudart.so.13") < place("libcublasLt.so.13"));
    assert!(place("libcublasLt.so.13") < place("libcublas.so.13"));
    assert!(place("libcublas.so.13") < place("libcudnn.so.9"));
}

#[test]
fn what_is_missing_is_told_with_what_to_do() {
    let machine = Machine::new();
    machine.libraries("cuda", 13, "cudnn");
    insta::assert_snapshot!(machine.told(&look(&machine, &ASKS_13, &["cuda"]).advice));
    let bare = look(&machine, &ASKS_13, &["ort"]);
    insta::assert_snapshot!(machine.told(&bare.advice));
    assert!(bare.libraries.iter().all(|l| l.path.is_none()));
    // What the provider does not ask for is not missing.
    assert!(!find(&bare.libraries, "libcufft.so.12").required && find(&bare.libraries, "libcublas.so.13").required);
}

#[test]
fn another_major_version_is_no_substitute() {
    let machine = Machine::new();
    machine.libraries("cuda", 12, "none");
    let found = look(&machine, &ASKS_13, &["cuda"]);
    let cublas = find(&found.libraries, "libcublas.so.13");
    assert_eq!(cublas.path, None);
    assert_eq!(machine.told(&cublas.notes), "/cuda/libcublas.so.12 is version 12, 13 is needed");
    insta::assert_snapshot!(machine.told(&found.advice));
    let older = look(&machine, &["libcublas.so.12", "libcudart.so.12"], &["cuda"]);
    assert_eq!((older.major, older.advice.len()), (Some(12), 0));
}

#[test]
fn the_first_folder_wins_and_parts_of_cudnn_stay_together() {
    let machine = Machine::new();
    machine.libraries("a", 13, "cudnn");
    machine.libraries("b", 13, "none");
    // A part of cuDNN without cuDNN itself.
    machine.file("a/libcudnn_ops.so.9", b"");
    let list = [machine.folder("a"), machine.folder("b")];
    let found = search(&needed(13), &list);
    let cublas = find(&found, "libcublas.so.13");
    assert_eq!(cublas.path, Some(machine.folder("a/libcublas.so.13")));
    assert_eq!(machine.told(&cublas.notes), "not used: /b/libcublas.so.13");
    let ops = find(&found, "libcudnn_ops.so.9");
    assert_eq!(ops.path, Some(machine.folder("b/libcudnn_ops.so.9")));
}

#[test]
fn a_broken_link_is_named_and_passed_over() {
    let machine = Machine::new();
    machine.libraries("a", 13, "libcudnn.so");
    machine.link("a/libcudnn.so.9", "gone/libcudnn.so.9");
    let found = search(&needed(13), &[machine.folder("a")]);
    let cudnn = find(&found, "libcudnn.so.9");
    assert_eq!(cudnn.path, None);
    assert_eq!(machine.told(&cudnn.notes), "/a/libcudnn.so.9 is a link to a file that is not there");
    machine.libraries("b", 13, "none");
    let found = search(&needed(13), &[machine.folder("a"), machine.folder("b")]);
    assert_eq!(find(&found, "libcudnn.so.9").path, Some(machine.folder("b/libcudnn.so.9")));
    // A link and what it leads to are one library.
    symlink(machine.folder("b"), machine.folder("c")).unwrap();
    let found = search(&needed(13), &[machine.folder("b"), machine.folder("c")]);
    assert!(find(&found, "libcublas.so.13").notes.is_empty());
}

#[test]
fn a_build_without_cuda_says_which_one_fits() {
    let machine = Machine::new();
    let library = machine.file("ort/libonnxruntime.so.1.31.0", b"");
    insta::assert_snapshot!(machine.told(&cuda::look(&library, &[]).advice));
    machine.libraries("cuda", 12, "none");
    insta::assert_snapshot!(machine.told(&cuda::look(&library, &[machine.folder("cuda")]).advice));
    machine.file(&format!("ort/{PROVIDER}"), b"not a library");
    let found = cuda::look(&library, &[machine.folder("cuda")]);
    assert_eq!(found.major, None);
    assert!(found.advice[0].contains("does not tell which CUDA"), "{:?}", found.advice);
}

#[test]
fn folders_come_in_order_and_once() {
    let machine = Machine::new();
    for path in ["ld/x", "cuda-home/lib64/x", "venv/lib/python3.12/site-packages/nvidia/cudnn/lib/x"] {
        machine.file(path, b"");
    }
    for path in
        ["root/usr/local/cuda-12.8/lib64/x", "root/usr/local/cuda-13.0/lib64/x", "root/opt/nv/x", "root/usr/lib/x"]
    {
        machine.file(path, b"");
    }
    machine.file("root/etc/ld.so.conf.d/nv.conf", b"# comment\n/opt/nv\n/opt/none\n");
    let variable = |name: &str| -> Option<OsString> {
        let value = match name {
            "LD_LIBRARY_PATH" => return std::env::join_paths([machine.folder("ld"), machine.folder("none")]).ok(),
            "CUDA_HOME" => "cuda-home",
            "VIRTUAL_ENV" => "venv",
            _ => return None,
        };
        Some(machine.folder(value).into())
    };
    let found = folders(Some(&machine.folder("ld")), &variable, &machine.folder("root"));
    let told: Vec<String> = found.iter().map(|f| f.display().to_string()).collect();
    insta::assert_snapshot!(machine.told(&told));
    let packages = in_site_packages(&machine.folder("venv/lib/python3.12/site-packages"));
    assert_eq!(packages.len(), 1);
    assert_eq!(folders(None, &|_| None, Path::new("/nowhere")), Vec::<PathBuf>::new());
}
