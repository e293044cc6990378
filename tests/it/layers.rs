//! The source keeps to its layers: imports run one way, and nothing gives up in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library, lowest first, and the modules that it may use.
const LAYERS: [(&str, &[&str]); 16] = [
    ("error", &[]),
    ("kernels", &[]),
    ("tensor", &[]),
    ("dampen", &["tensor"]),
    ("model", &["error", "tensor"]),
    ("data", &["error", "tensor"]),
    ("graph", &["error", "tensor", "model"]),
    ("write", &["error", "tensor", "model"]),
    ("session", &["error", "kernels", "tensor", "graph"]),
    ("specialise", &["error", "tensor", "graph", "session"]),
    ("autograd", &["error", "tensor", "graph", "session", "specialise"]),
    ("gradient", &["error", "tensor", "graph", "data", "session", "specialise", "autograd"]),
    ("importance", &["error", "kernels", "tensor", "graph", "data", "session", "specialise", "autograd"]),
    ("validate", &["error", "tensor", "graph", "data", "session", "importance"]),
    ("report", &["error", "autograd", "session", "validate"]),
    (
        "pipeline",
        &[
            "error",
            "tensor",
            "dampen",
            "model",
            "data",
            "graph",
            "write",
            "session",
            "autograd",
            "gradient",
            "importance",
            "validate",
            "report",
        ],
    ),
];

/// What may not stand in the source outside tests.
const GIVING_UP: [&str; 7] =
    [".unwrap()", ".expect(\"", ".unwrap_err()", "panic!(", "todo!(", "unreachable!(", "unimplemented!("];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file by its path below `src`, without comments and without what is compiled for tests alone.
fn product() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), without_tests(&text))
    };
    files.into_iter().map(read).collect()
}

/// The text without comments, and without items marked `#[cfg(test)]`, which end at a line that is as
/// far to the left as the mark and closes them.
fn without_tests(text: &str) -> String {
    let (mut kept, mut skipped) = (String::new(), None);
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let depth = line.len() - line.trim_start().len();
        if line.trim() == "#[cfg(test)]" {
            skipped = Some(depth);
        } else if skipped.is_none() {
            kept += code;
            kept.push('\n');
        } else if skipped == Some(depth) && (line.trim() == "}" || line.trim_end().ends_with(';')) {
            skipped = None;
        }
    }
    kept
}

/// The modules that a text names behind `crate::`, alone or in braces.
fn used(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, path) in text.match_indices("crate::") {
        // `$crate` is a macro's own name for this crate; `some_crate::` is another one.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + path.len()..];
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => drop(found.insert(name(rest))),
            Some(list) => {
                let (mut depth, mut first) = (1, true);
                for (at, c) in list.char_indices() {
                    if depth == 1 && first && !c.is_whitespace() && c != '}' {
                        found.insert(name(&list[at..]));
                        first = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => first = true,
                        _ => (),
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    found
}

#[test]
fn imports_run_one_way() {
    let mut lower = BTreeSet::new();
    for (module, allowed) in LAYERS {
        assert!(allowed.iter().all(|m| lower.contains(m)), "{module} may use only what stands above it in the list");
        lower.insert(module);
    }
    let layers = BTreeMap::from(LAYERS);
    let mut faults = Vec::new();
    for (path, text) in product() {
        let first = path.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if ["cli", "main", "lib"].contains(&module) {
            continue;
        }
        let Some(allowed) = layers.get(module) else {
            faults.push(format!("{}: the module {module} is in no layer", path.display()));
            continue;
        };
        for name in used(&text) {
            // Macros are exported at the top of the crate, whichever module defines them.
            let name = if name == "with_array" { "tensor" } else { &name };
            if name != module && !allowed.contains(&name) {
                faults.push(format!("{}: {module} may not use {name}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The list of layers is whole.
#[test]
fn every_module_is_in_a_layer() {
    let text = product().remove(Path::new("lib.rs")).unwrap();
    let modules: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(modules, LAYERS.iter().map(|(module, _)| *module).collect());
}

#[test]
fn nothing_gives_up_in_the_middle() {
    let mut faults = Vec::new();
    for (path, text) in product() {
        for (number, line) in text.lines().enumerate() {
            if GIVING_UP.iter().any(|word| line.contains(word)) {
                faults.push(format!("{} ({}): {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_parser_reads_what_it_should() {
    let names = |text: &str| used(text).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::tensor::{DType, Tensor};\nlet x = crate::error::printable(n);"), ["error", "tensor"]);
    assert_eq!(names("use crate::{data::{A, B}, graph, model::C};"), ["data", "graph", "model"]);
    assert_eq!(names("pub(crate) fn f() {} use other_crate::x; $crate::tensor::T"), ["tensor"]);
    let text = "a\n#[cfg(test)]\nmod tests {\n    b\n}\nc // crate::d\n#[cfg(test)]\nuse e;\nf\n";
    assert_eq!(without_tests(text), "a\nc \nf\n");
}
