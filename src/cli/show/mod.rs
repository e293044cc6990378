//! Results as text that reads well at 80 columns.

mod measured;
mod runtime;

pub use measured::{ProfileSummary, sweep};
pub use runtime::{Shown, installed, runtime};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use onnx_unlearn::error::printable;
use onnx_unlearn::pipeline::{GradSummary, Port, Summary, Verification};
use onnx_unlearn::report::{Parameter, Report, Status, Validation};
use onnx_unlearn::session::RuntimeInfo;
use onnx_unlearn::validate::{Comparison, Guards};
use onnx_unlearn::write::Diff;
use std::fmt::Write;
use std::path::Path;

const WIDTH: u16 = 80;
/// Rows of a table of tensors, unless longer ones were asked for.
const ROWS: usize = 12;

/// A table whose columns after the first are aligned to the right where `right` says so.
fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if header.iter().any(|title| !title.is_empty()) {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim_end().to_string() + "\n").collect()
}

fn dimensions(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// A whole number with its thousands set apart.
fn count(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.2} %", 100.0 * part as f64 / of.max(1) as f64)
}

pub fn grad(made: &GradSummary) -> String {
    let batch = made.batch.map_or("open".into(), |size| format!("fixed at {size}"));
    let (forward, backward) = (count(made.forward_nodes), count(made.nodes - made.forward_nodes));
    let (own, gradients) = (made.outputs.len() - made.gradients(), made.gradients());
    let path = made.output.display();
    format!(
        "{path}: {forward} nodes forward, {backward} backward, batch {batch}\noutputs: {own} of the model, {gradients} gradients\n"
    )
}

fn names(list: &[String]) -> String {
    if list.is_empty() { "none".into() } else { list.join(", ") }
}

pub fn summary(path: &Path, summary: &Summary) -> String {
    let mut text = String::new();
    let ports = |ports: &[Port]| {
        let dimension = |d: &Option<usize>| d.map_or("?".into(), |d| d.to_string());
        let shape = |p: &Port| p.shape.iter().map(dimension).collect::<Vec<_>>().join("×");
        ports.iter().map(|p| format!("{} {} {}", printable(&p.name), p.dtype, shape(p))).collect::<Vec<_>>().join("; ")
    };
    let producer = Some(summary.producer.trim()).filter(|name| !name.is_empty()).unwrap_or("an unnamed producer");
    let operators: Vec<String> = summary.operators.iter().map(|(op, n)| format!("{op} {n}")).collect();
    let rows = [
        ("model", path.display().to_string()),
        ("opset", format!("{} (IR {}), from {}", summary.opset, summary.ir_version, producer)),
        ("inputs", ports(&summary.inputs)),
        ("outputs", ports(&summary.outputs)),
        ("weights", format!("{} that can be changed", count(summary.total_weights))),
        ("operators", operators.join(", ")),
        ("zero gradient", names(&summary.without_gradient)),
        ("unsupported", names(&summary.unsupported)),
    ];
    text += &table(&["", ""], &[], rows.map(|(k, v)| vec![k.to_string(), v]));
    let verdict = |v: &onnx_unlearn::autograd::roles::Verdict| {
        let mark = if v.weight { "in" } else { "out" };
        vec![printable(&v.name), dimensions(&v.shape), v.dtype.clone(), mark.into(), v.reason.clone()]
    };
    text.push('\n');
    text += &table(
        &["parameter", "shape", "type", "", "role, or why it is out"],
        &[],
        summary.parameters.iter().map(verdict),
    );
    text
}

pub fn report(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    let model = report.inputs.iter().find(|f| f.role == "model").map(|f| f.path.display().to_string());
    let auto = if report.alpha_auto { " (chosen)" } else { "" };
    let settings = &report.settings;
    let rows = [
        ("model", model.unwrap_or_default()),
        (
            "importance",
            format!(
                "{}, {} reduction",
                settings.objective.name(),
                onnx_unlearn::pipeline::reduction_name(settings.reduction)
            ),
        ),
        ("runtime", report.runtime.as_ref().map_or("none".into(), runtime_line)),
        ("alpha", format!("{:.4}{auto}, lambda {}", report.alpha, report.lambda)),
        (
            "dampened",
            format!(
                "{} of {} weights ({})",
                count(report.selected_weights),
                count(report.total_weights),
                percent(report.selected_weights, report.total_weights)
            ),
        ),
    ];
    text += &table(&["", ""], &[], rows.map(|(k, v)| vec![k.to_string(), v]));
    text += &validation(&report.validation);
    text += &tensors(&report.parameters, report.selected_weights, verbose);
    text += &guards(&report.guards);
    let outcome = match (&report.status, &report.output) {
        (Status::DryRun, _) => "dry run: nothing was written".to_string(),
        (Status::GuardFailed, _) => "a guard failed: nothing was written".to_string(),
        (Status::Forced, Some(file)) => format!("wrote {} although a guard failed", file.path.display()),
        (_, Some(file)) => format!("wrote {}", file.path.display()),
        (_, None) => String::new(),
    };
    let _ = writeln!(text, "\n{outcome}");
    text
}

fn runtime_line(info: &RuntimeInfo) -> String {
    let name = if info.name == "onnxruntime" { "ONNX Runtime" } else { &info.name };
    format!("{name} {}, {}", info.version, info.provider)
}

fn validation(validation: &Validation) -> String {
    let sets = [("forget set", &validation.forget), ("retain set", &validation.retain)];
    let sets: Vec<(&str, &Comparison)> = sets.iter().filter_map(|(name, c)| c.as_ref().map(|c| (*name, c))).collect();
    if sets.is_empty() {
        return String::new();
    }
    let arrow = |before: f64, after: f64| format!("{before:.3} → {after:.3}");
    let row = |name: &str, value: &dyn Fn(&Comparison) -> String| {
        std::iter::once(name.to_string()).chain(sets.iter().map(|(_, c)| value(c))).collect::<Vec<_>>()
    };
    let mut rows = vec![
        row("samples", &|c| count(c.samples)),
        row("top-1 agreement with the original", &|c| format!("{:.3}", c.top1_agreement)),
        row("Jensen-Shannon divergence (bits)", &|c| format!("{:.3}", c.js_divergence)),
        row("entropy (bits)", &|c| arrow(c.entropy_before, c.entropy_after)),
    ];
    if sets.iter().any(|(_, c)| c.accuracy_before.is_some()) {
        let accuracy = |c: &Comparison| match (c.accuracy_before, c.accuracy_after) {
            (Some(before), Some(after)) => arrow(before, after),
            _ => "no labels".into(),
        };
        rows.push(row("accuracy", &accuracy));
    }
    let mut header = vec![""];
    header.extend(sets.iter().map(|(name, _)| *name));
    format!("\n{}", table(&header, &[1, 2], rows))
}

/// Where the change sits: the tensors that move the outputs most.
fn tensors(parameters: &[Parameter], selected: usize, verbose: bool) -> String {
    let mut changed: Vec<&Parameter> = parameters.iter().filter(|p| p.selected > 0).collect();
    let effect = |p: &Parameter| (p.output_change.unwrap_or(0.0), p.first_order_change);
    changed.sort_by(|a, b| effect(b).partial_cmp(&effect(a)).unwrap_or(std::cmp::Ordering::Equal));
    let shown = if verbose { changed.len() } else { ROWS.min(changed.len()) };
    let row = |p: &&Parameter| {
        vec![
            printable(&p.name),
            dimensions(&p.shape),
            count(p.selected),
            percent(p.selected, p.total),
            percent(p.selected, selected),
            p.output_change.map_or("-".into(), |c| format!("{c:.3}")),
        ]
    };
    let header = ["tensor", "shape", "dampened", "of it", "of all", "output change"];
    let mut text = format!("\n{}", table(&header, &[2, 3, 4, 5], changed[..shown].iter().map(row)));
    if shown < changed.len() {
        let _ = writeln!(text, "… and {} more tensors (-v shows all)", changed.len() - shown);
    }
    if changed.iter().any(|p| p.output_change.is_some()) {
        text += "output change: by dampening this tensor alone, relative to dampening all\n";
    }
    text
}

fn guards(guards: &Guards) -> String {
    let row = |g: &onnx_unlearn::validate::Guard| {
        let verdict = match g.passed {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "not checked",
        };
        let number = |x: f64| match x {
            x if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x}"),
            x if x.abs() < 1e-3 => format!("{x:.1e}"),
            x => format!("{x:.4}"),
        };
        vec![g.name.replace('_', " "), g.value.map_or("-".into(), number), number(g.limit), verdict.into()]
    };
    format!("\n{}", table(&["guard", "value", "limit", "verdict"], &[1, 2], guards.0.iter().map(row)))
}

pub fn verification(found: &Verification) -> String {
    format!("{}\n{}{}", runtime_line(&found.runtime), validation(&found.validation), guards(&found.guards))
}

pub fn diff(diff: &Diff) -> String {
    if diff.identical {
        return "the models are the same, byte for byte\n".into();
    }
    let mut text = String::new();
    let row = |t: &onnx_unlearn::write::TensorDiff| {
        vec![
            printable(&t.name),
            dimensions(&t.shape),
            count(t.differing),
            count(t.total),
            format!("{:.3e}", t.max_abs_change),
            format!("{:.4} → {:.4}", t.norm_before, t.norm_after),
        ]
    };
    if diff.tensors.is_empty() {
        text += "no tensor differs in its values\n";
    } else {
        let header = ["tensor", "shape", "differ", "of", "largest", "norm"];
        text += &table(&header, &[2, 3, 4], diff.tensors.iter().map(row));
        let differing = diff.tensors.iter().map(|t| t.differing).sum();
        let _ = writeln!(text, "{} weights differ in {} tensors", count(differing), diff.tensors.len());
    }
    let list = |title: &str, lines: &[String]| match lines.is_empty() {
        true => String::new(),
        false => format!("{title}\n{}", lines.iter().map(|l| format!("  {}\n", printable(l))).collect::<String>()),
    };
    text += &list("only in the first:", &diff.only_in_a);
    text += &list("only in the second:", &diff.only_in_b);
    text += &list("other differences:", &diff.other);
    text
}
