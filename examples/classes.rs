//! Forgets each of the ten digits in turn: importance is computed once per digit, in one pass over
//! all data, and the sums of the others are added up. Prints, for each alpha, the accuracy left on the
//! forgotten digit and on the rest, on held-out images: mean and worst over the digits.
//!
//! Usage: classes MODEL ALPHA…

use onnx_unlearn::data::DataSet;
use onnx_unlearn::graph::Graph;
use onnx_unlearn::importance::{Importance, Settings, Sums};
use onnx_unlearn::pipeline::{Common, Opened, open, rewrite};
use onnx_unlearn::session::{Runtime, RuntimeOptions};
use onnx_unlearn::validate::{Evaluator, predict};
use std::error::Error;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CLASSES: i64 = 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: classes MODEL ALPHA…")?;
    let alphas: Vec<f64> = arguments.map(|a| a.parse()).collect::<std::result::Result<_, _>>()?;
    let common = Common::default();
    let runtime = Runtime::open(RuntimeOptions::default())?;
    let opened = open(Path::new(&path), &common)?;
    let (train, test) =
        (digits(&opened, &common, ["forget", "retain"])?, digits(&opened, &common, ["test_forget", "test_retain"])?);

    let mut engine = Importance::new(&runtime, &opened.graph, &opened.weights, Settings::default())?;
    let sums: Vec<Sums> = (0..CLASSES).map(|class| per_class(&mut engine, &train, class)).collect::<Result<_>>()?;
    let full = sums[1..].iter().try_fold(sums[0].clone(), |total, next| total.merge(next))?;
    let before = accuracy(&opened.graph, &test, |_| true, &runtime)?;

    let kept = |class: i64| accuracy(&opened.graph, &test, |label| label != class, &runtime);
    println!("{path}: accuracy {before:.3} on all digits; exact importance, lambda 1");
    println!(
        "| alpha | left on the forgotten digit: mean | worst | on the rest: mean | worst | lost on the rest: mean |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for alpha in alphas {
        let (mut left, mut rest, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for class in 0..CLASSES {
            let change = rewrite(&opened, &sums[class as usize], &full, alpha, 1.0)?;
            let graph = change.apply(&opened.graph);
            left.push(accuracy(&graph, &test, |label| label == class, &runtime)?);
            rest.push(accuracy(&graph, &test, |label| label != class, &runtime)?);
            lost.push(kept(class)? - rest[rest.len() - 1]);
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let highest = left.iter().copied().fold(0.0, f64::max);
        let lowest = rest.iter().copied().fold(1.0, f64::min);
        println!(
            "| {alpha} | {:.3} | {highest:.3} | {:.3} | {lowest:.3} | {:.3} |",
            mean(&left),
            mean(&rest),
            // Adding zero turns a negative zero into zero.
            (mean(&lost) * 1000.0).round() / 1000.0 + 0.0
        );
    }
    Ok(())
}

/// Two parts of the digits.
fn digits(opened: &Opened, common: &Common, parts: [&str; 2]) -> Result<Vec<DataSet>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/digits");
    parts.into_iter().map(|part| Ok(opened.data(&folder.join(format!("{part}.npz")), common)?)).collect()
}

/// The samples with a chosen label.
fn chosen(data: &DataSet, choose: impl Fn(i64) -> bool) -> Result<DataSet> {
    let labels = data.labels().ok_or("no labels")?;
    let indices: Vec<usize> = (0..labels.len()).filter(|&i| choose(labels[i])).collect();
    Ok(data.select(&indices)?)
}

fn per_class(engine: &mut Importance, data: &[DataSet], class: i64) -> Result<Sums> {
    let mut total: Option<Sums> = None;
    for part in data {
        let set = chosen(part, |label| label == class)?;
        if !set.is_empty() {
            let sums = engine.run(&set, |_| ())?;
            total = Some(match total {
                Some(total) => total.merge(&sums)?,
                None => sums,
            });
        }
    }
    total.ok_or_else(|| format!("no sample of class {class}").into())
}

fn accuracy(graph: &Graph, data: &[DataSet], choose: impl Fn(i64) -> bool, runtime: &Runtime) -> Result<f64> {
    let (mut right, mut of) = (0, 0);
    for part in data {
        let set = chosen(part, &choose)?;
        if set.is_empty() {
            continue;
        }
        let outputs = predict(&mut Evaluator::new(graph, &set, runtime)?, &set)?;
        for (row, &label) in outputs.outer_iter().zip(set.labels().unwrap_or_default()) {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i as i64);
            right += (best == Some(label)) as usize;
            of += 1;
        }
    }
    Ok(right as f64 / of as f64)
}
