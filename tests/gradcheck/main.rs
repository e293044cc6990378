//! Gradient checks: every rule of the table against central differences of the forward graph, one test
//! for each case and opset. `cargo test --release --test gradcheck -- Conv` runs those of Conv.

mod case;
mod check;
mod document;
mod forward;
mod graph;
mod numbers;
mod parse;
mod problem;
mod table;

use case::Case;
use libtest_mimic::{Arguments, Failed, Trial};
use onnx_unlearn::autograd::rules::{Gradient, TABLE};
use std::sync::Arc;

fn main() {
    let cases: Vec<Arc<Case>> = table::cases().into_iter().map(Arc::new).collect();
    let all = cases.clone();
    let mut trials = vec![
        Trial::test("the_list_of_operators_is_that_of_the_program", {
            let cases = table::cases();
            move || documented(&cases)
        }),
        Trial::test("every_rule_has_a_case", move || covered(&all)),
    ];
    for case in cases {
        for &opset in case.opsets {
            let (case, name) = (case.clone(), format!("{}::{}::opset {opset}", case.op, case.what));
            trials.push(Trial::test(name, move || Ok(check::check(&case, opset)?)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Every row of the table with a rule has a case, and no two cases have the same name.
fn covered(cases: &[Arc<Case>]) -> Result<(), Failed> {
    let has_case = |op: &str, opsets: &std::ops::RangeInclusive<i64>| {
        cases.iter().any(|case| case.op == op && case.opsets.iter().any(|opset| opsets.contains(opset)))
    };
    let rules = TABLE.iter().filter(|row| !matches!(row.gradient, Gradient::Zero(_) | Gradient::Refused(_)));
    let without: Vec<&str> = rules.filter(|row| !has_case(row.op, &row.opsets)).map(|row| row.op).collect();
    if !without.is_empty() {
        return Err(format!("no gradient check for: {}", without.join(", ")).into());
    }
    let mut names: Vec<_> = cases.iter().map(|case| (case.op, &case.what)).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two cases are named {:?}", pair[0]).into()),
        None => Ok(()),
    }
}

/// `docs/operators.md` is what the table and the node tests say.
fn documented(cases: &[Case]) -> Result<(), Failed> {
    let manifest = include_str!("../nodes/manifest.txt");
    match document::document(cases, manifest) == include_str!("../../docs/operators.md") {
        true => Ok(()),
        false => Err("docs/operators.md is out of date; run 'make operators'".into()),
    }
}
