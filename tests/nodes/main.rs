//! The node tests of the ONNX package, one test for each case: its verdict is the one that the manifest
//! lists. `make nodes` fetches the cases, `cargo test --release --test nodes -- softmax` runs some of them,
//! `make nodes-manifest` writes the manifest anew.

#[allow(dead_code, reason = "shared with the gradient checks")]
#[path = "../gradcheck/forward.rs"]
mod forward;
#[allow(dead_code, reason = "shared with the gradient checks")]
#[path = "../gradcheck/numbers.rs"]
mod numbers;
#[path = "../gradcheck/problem.rs"]
mod problem;

mod gradient;
mod judge;
mod manifest;
mod retype;
mod suite;

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;

/// Where the cases lie once they are fetched.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/onnx-nodes/node");
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes/manifest.txt");
/// Set to a case's name, the program prints the case's verdict.
const JUDGE: &str = "NODES_JUDGE";
/// Set, the program writes the manifest.
const WRITE: &str = "NODES_WRITE";

fn main() {
    let data = Path::new(DATA);
    if let Ok(name) = std::env::var(JUDGE) {
        return print!("{}", judge::verdict(&data.join(name)));
    }
    let names = suite::names(data);
    if std::env::var_os(WRITE).is_some() {
        return manifest::write(Path::new(MANIFEST), data, &names);
    }
    let mut trials = vec![Trial::test("the_cases_are_fetched", {
        let missing = names.is_empty();
        move || if missing { Err("run 'make nodes' first: it fetches the cases".into()) } else { Ok(()) }
    })];
    if !names.is_empty() {
        let listed = manifest::read(Path::new(MANIFEST));
        let lines = listed.clone();
        trials.push(Trial::test("every_listed_case_exists", move || manifest::check(&lines, data)));
        for name in names {
            let listed = listed.iter().find(|line| line.name == name).map(|line| line.verdict.clone());
            trials.push(Trial::test(name.clone(), move || check(&data.join(&name), listed)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn check(case: &Path, listed: Option<String>) -> Result<(), Failed> {
    let listed = listed.ok_or("the manifest does not list the case; run 'make nodes-manifest'")?;
    if listed == judge::CRASH {
        return Ok(());
    }
    let found = judge::verdict(case);
    match found == listed {
        true => Ok(()),
        false => Err(format!("found '{found}', listed '{listed}'; 'make nodes-manifest' writes the list anew").into()),
    }
}
