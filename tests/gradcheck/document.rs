//! `docs/operators.md`: what is differentiated, and how far that is checked.

use crate::case::Case;
use onnx_unlearn::autograd::rules::kinks::KINKS;
use onnx_unlearn::autograd::rules::{Gradient, Row, TABLE};
use std::collections::BTreeMap;

const HEAD: &str = "# Operators

Made by `make operators` from the table of rules (`src/autograd/rules/mod.rs`), the gradient checks
(`tests/gradcheck/table`) and the verdicts on the node tests of the ONNX package (`tests/nodes/manifest.txt`).

- **Gradient**: a *rule* gives the gradients of the operands; a *rewritten* operator is computed by others that have
  rules, in the graph that computes and never in the model; *zero* is the gradient of what is constant wherever it has
  a gradient, and stops the way back.
- **Weights**: operands that are weights where they are constants of the model.
- **Checks**: gradient checks against central differences, one for each case and opset.
- **Node tests**: cases of the ONNX package that are checked, of those that have a gradient.
- **Kinks**: the slope taken where the operator is not smooth, which is PyTorch's.

Models of opsets 7 to 15 are raised to 16 before anything else.
";

/// What a line of the manifest says of a case.
struct Verdict<'a> {
    op: &'a str,
    text: &'a str,
}

impl Verdict<'_> {
    fn is(&self, kind: &str) -> bool {
        self.text.starts_with(kind)
    }
}

pub fn document(cases: &[Case], manifest: &str) -> String {
    let verdicts: Vec<Verdict> = manifest.lines().filter_map(verdict).collect();
    let mut out = format!("{HEAD}\n## Counts\n\n{}", counts(cases, &verdicts));
    for (title, microsoft) in [("Operators of the default domain", false), ("Operators of com.microsoft", true)] {
        out += &format!("\n## {title}\n\n{}", table(cases, &verdicts, microsoft));
    }
    out +=
        "\n## Without a rule\n\nA model in which one of these lies between weights and outputs is refused by its name";
    out += " before any work, as is any operator that is not listed here.\n\n| Operator | Why |\n| --- | --- |\n";
    out + &without(&verdicts).iter().map(|(op, why)| format!("| {op} | {why} |\n")).collect::<String>()
}

/// What the table refuses, and what the node tests have that the table lacks.
fn without<'a>(verdicts: &[Verdict<'a>]) -> BTreeMap<&'a str, &'a str> {
    let missing = verdicts.iter().filter_map(|v| v.text.split_once("no gradient rule for: "));
    let missing = missing.flat_map(|(_, list)| list.split("), ")).filter_map(|item| item.split([' ', ':']).next());
    let mut out: BTreeMap<&str, &str> = missing.map(|op| (op, "no rule was written yet")).collect();
    for row in TABLE {
        if let Gradient::Refused(reason) = row.gradient {
            out.insert(row.op, reason);
        }
    }
    out
}

fn verdict(line: &str) -> Option<Verdict<'_>> {
    let (_, rest) = line.split_once(' ')?;
    let (op, text) = rest.split_once(' ')?;
    Some(Verdict { op, text })
}

fn counts(cases: &[Case], verdicts: &[Verdict]) -> String {
    let rows = |kind: fn(&Gradient) -> bool| TABLE.iter().filter(|row| kind(&row.gradient)).count();
    let checks: usize = cases.iter().map(|case| case.opsets.len()).sum();
    let of = |kind: &str| verdicts.iter().filter(|v| v.is(kind)).count();
    let mut out = format!(
        "{} operators have a rule, {} are rewritten, {} have a gradient of zero. {checks} gradient checks.\n\n",
        rows(|g| matches!(g, Gradient::Rule(_))),
        rows(|g| matches!(g, Gradient::Rewrite(_))),
        rows(|g| matches!(g, Gradient::Zero(_))),
    );
    out +=
        &format!("Of the {} node tests of the ONNX package:\n\n| Cases | Verdict |\n| --- | --- |\n", verdicts.len());
    out += &format!("| {} | checked |\n", of("checked"));
    out += &format!("| {} | no gradient by definition |\n", of("no gradient"));
    out += &format!(
        "| {} | unsupported |\n\nWhy they are unsupported:\n\n| Cases | Why |\n| --- | --- |\n",
        of("unsupported")
    );
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for verdict in verdicts.iter().filter(|v| v.is("unsupported")) {
        *reasons.entry(reason(verdict.text)).or_default() += 1;
    }
    let mut reasons: Vec<(usize, String)> = reasons.into_iter().map(|(reason, count)| (count, reason)).collect();
    reasons.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    out + &reasons.iter().map(|(count, reason)| format!("| {count} | {reason} |\n")).collect::<String>()
}

/// The kind of reason: what of it is not particular to a case.
fn reason(text: &str) -> String {
    let text = text.trim_start_matches("unsupported: ");
    let kinds = [
        ("ONNX Runtime crashes", "ONNX Runtime crashes"),
        ("ONNX Runtime gives other outputs", "ONNX Runtime gives other outputs than the package"),
        ("ONNX Runtime", "ONNX Runtime does not run the case"),
        ("opset ", "newer than ONNX Runtime runs"),
        ("no gradient rule", "an operator has no rule"),
        ("malformed model: it names no opset", "no operator of the default domain"),
    ];
    let known = kinds.iter().find(|(start, _)| text.starts_with(start)).map(|(_, kind)| *kind);
    let types = ["a tensor of ONNX type", "elements of type", "is a sequence or an optional value"];
    match known {
        Some(kind) => kind.into(),
        None if types.iter().any(|t| text.contains(t)) => {
            "a type that is not computed with (float8, int4, text, sequences, …)".into()
        }
        None => "a form of the operator that its rule refuses".into(),
    }
}

fn table(cases: &[Case], verdicts: &[Verdict], microsoft: bool) -> String {
    let mut rows: Vec<&Row> = TABLE.iter().filter(|row| row.domain.is_empty() != microsoft).collect();
    rows.sort_by_key(|row| (row.op, *row.opsets.start()));
    let mut out = "| Operator | Opsets | Gradient | Weights | Checks | Node tests | Kinks |\n".to_string();
    out += "| --- | --- | --- | --- | --- | --- | --- |\n";
    for row in rows {
        let gradient = match &row.gradient {
            Gradient::Rule(_) => "rule".to_string(),
            Gradient::Rewrite(_) => "rewritten".into(),
            Gradient::Zero(reason) => format!("zero: {reason}"),
            Gradient::Refused(_) => continue,
            Gradient::Unrolled => "unrolled".into(),
        };
        let mut weights: Vec<&str> = row.weights.iter().map(|(_, role)| *role).collect();
        weights.dedup();
        let own =
            |case: &&Case| case.op == row.op && case.nodes.contains(&format!("com.microsoft.{}", row.op)) == microsoft;
        let opsets = cases.iter().filter(own).flat_map(|case| case.opsets);
        let checks = opsets.filter(|opset| row.opsets.contains(opset)).count();
        let name = if microsoft { format!("com.microsoft.{}", row.op) } else { row.op.to_string() };
        let tests = || verdicts.iter().filter(|v| v.op == name && !v.is("no gradient"));
        let checked = tests().filter(|v| v.is("checked")).count();
        let kink = KINKS.iter().find(|(op, _)| *op == row.op && !microsoft).map_or("", |(_, kink)| kink);
        out += &format!(
            "| {} | {} to {} | {gradient} | {} | {} | {} | {kink} |\n",
            row.op,
            row.opsets.start(),
            row.opsets.end(),
            weights.join(", "),
            shown(checks),
            match tests().count() {
                0 => String::new(),
                all => format!("{checked} of {all}"),
            },
        );
    }
    out
}

fn shown(count: usize) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}
