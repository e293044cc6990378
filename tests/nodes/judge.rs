//! What becomes of a case:
//! - `checked`: the graph that is differentiated gives the outputs of the suite, and the gradient of the sum of
//!   their squares with respect to every floating-point input is that of differences of the case in ONNX
//!   Runtime, in float64 where it has the kernels (`checked in float32` where it has not);
//! - `no gradient`, by definition;
//! - `unsupported`, for a reason.

use crate::gradient;
use crate::problem::{Problem, open};
use crate::retype::retype;
use crate::suite::{self, Case};
use onnx_unlearn::autograd::{check_rules, rewritten};
use onnx_unlearn::graph::{Graph, Input, Name};
use onnx_unlearn::session::{Feed, Kinds, Runtime, RuntimeChoice};
use onnx_unlearn::specialise::specialise;
use onnx_unlearn::tensor::{DType, Tensor};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

pub const CRASH: &str = "unsupported: ONNX Runtime crashes";
pub const WRONG: &str = "wrong: ";
/// What ONNX Runtime says where it has an operator in other types alone.
const NO_KERNEL: &str = "Could not find an implementation";
/// The input that makes a batch of one; no node reads it.
const BATCH: &str = "batch";

pub fn verdict(folder: &Path) -> String {
    if let Some(reason) = suite::without_gradient(folder) {
        return format!("no gradient: {reason}");
    }
    judge(folder).unwrap_or_else(|reason| match reason.starts_with(WRONG) {
        true => reason,
        false => format!("unsupported: {}", short(&reason)),
    })
}

/// The verdict; the error is a reason why the case is not supported, or what is wrong.
fn judge(folder: &Path) -> Result<String, String> {
    let case = Case::read(folder)?;
    if parameters(&case).is_empty() {
        return Ok("no gradient: no floating-point elements but settings".into());
    }
    let runtime = open(RuntimeChoice::OnnxRuntime)?;
    let reference = run(&graph(&case, None), &runtime).map_err(|e| format!("ONNX Runtime: {e}"))?;
    same(&reference, &case).map_err(|e| format!("ONNX Runtime gives other outputs: {e}"))?;
    forward(&case, &runtime)?;
    for dtype in [DType::F64, DType::F32] {
        let graph = graph(&case, Some(dtype));
        let double = |t: &Tensor| !t.dtype().is_float() || t.dtype() == DType::F64;
        let fits = |outputs: Vec<Tensor>| outputs.iter().all(double) && same(&outputs, &case).is_ok();
        if dtype == DType::F64 && !run(&graph, &runtime).is_ok_and(fits) {
            continue;
        }
        let problem = problem(&case, graph);
        match (gradient::check(problem, &runtime, dtype), dtype) {
            (Err(error), DType::F64) if error.starts_with(gradient::UNSETTLED) || error.contains(NO_KERNEL) => continue,
            (Err(error), _) => return Err(error.replace(gradient::UNSETTLED, WRONG)),
            (Ok(false), _) => return Ok("no gradient: its derivative is zero".into()),
            (Ok(true), DType::F64) => return Ok("checked".into()),
            (Ok(true), _) => return Ok("checked in float32".into()),
        }
    }
    Err("neither float64 nor float32 can be computed".into())
}

/// The case's graph with its inputs as constants, in another floating-point type where one is given.
fn graph(case: &Case, dtype: Option<DType>) -> Graph {
    let mut graph = case.graph.clone();
    graph.constants.extend(case.inputs.iter().map(|(name, tensor)| (name.clone(), Arc::new(tensor.clone()))));
    graph.inputs = vec![Input { name: BATCH.into(), dtype: DType::F32, shape: vec![None, Some(1)] }];
    if let Some(dtype) = dtype {
        retype(&mut graph, dtype);
    }
    graph
}

fn feed() -> Feed {
    Feed::from([(BATCH.to_string(), Tensor::F32(ndarray::arr2(&[[0.0]]).into_dyn()))])
}

fn run(graph: &Graph, runtime: &Runtime) -> Result<Vec<Tensor>, String> {
    let mut session = runtime.session(graph, &Kinds::new()).map_err(|e| e.to_string())?;
    session.run(&feed()).map_err(|e| e.to_string())
}

/// Operands that are settings by definition: they choose what is computed and have no gradient.
const SETTINGS: [(&str, usize); 4] = [("DequantizeLinear", 1), ("QuantizeLinear", 1), ("Resize", 1), ("Resize", 2)];

/// The floating-point inputs that have elements and are no settings.
fn parameters(case: &Case) -> BTreeSet<Name> {
    let settings = case.graph.nodes.iter().flat_map(|node| SETTINGS.map(|(op, slot)| (node, op, slot)));
    let settings = settings.filter(|(node, op, _)| node.op == *op).filter_map(|(node, _, slot)| node.input(slot));
    let settings: BTreeSet<&Name> = settings.collect();
    let inputs =
        case.inputs.iter().filter(|(name, t)| t.dtype().is_float() && !t.is_empty() && !settings.contains(name));
    inputs.map(|(name, _)| name.clone()).collect()
}

/// The gradient of the outputs that are finite, of all floating-point ones where none is.
fn problem(case: &Case, graph: Graph) -> Problem {
    let mut problem = Problem { graph, parameters: parameters(case), feed: feed() };
    let floats = || case.outputs.iter().filter(|(_, t)| t.dtype().is_float());
    let finite = |(_, t): &&(Name, Tensor)| t.first_not_finite().is_none();
    let any = floats().any(|output| finite(&output));
    problem.graph.outputs = floats().filter(|o| !any || finite(o)).map(|(name, _)| name.clone()).collect();
    problem
}

/// The graph that is differentiated gives the outputs of the suite.
fn forward(case: &Case, runtime: &Runtime) -> Result<(), String> {
    let problem = problem(case, graph(case, None));
    let (graph, Problem { parameters, feed, .. }) = (problem.prepared()?, problem);
    check_rules(&graph, &parameters).map_err(|e| e.to_string())?;
    let specialised = specialise(&graph, &parameters, &feed, 1, runtime).map_err(|e| e.to_string())?;
    let mut rewritten = rewritten(specialised, &parameters).map_err(|e| e.to_string())?;
    rewritten.inputs = graph.inputs;
    let outputs = run(&rewritten, runtime)?;
    let named = |name: &Name| case.outputs.iter().find(|(output, _)| output == name);
    let mut pairs = outputs.iter().zip(graph.outputs.iter().filter_map(named));
    pairs
        .try_for_each(|(found, (name, expected))| close(name, found, expected))
        .map_err(|e| format!("{WRONG}the rewritten graph gives other outputs: {e}"))
}

/// The outputs of a run are those of the suite.
fn same(outputs: &[Tensor], case: &Case) -> Result<(), String> {
    outputs.iter().zip(&case.outputs).try_for_each(|(found, (name, expected))| close(name, found, expected))
}

/// Both tensors are the same, floating-point numbers up to what their type allows.
fn close(name: &str, found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.shape() != expected.shape() {
        return Err(format!("'{name}' has shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    let (Some(f), Some(e)) = (found.to_f64(), expected.to_f64()) else {
        let message = || format!("'{name}' differs");
        return (found == expected).then_some(()).ok_or_else(message);
    };
    let (relative, absolute) = match expected.dtype() {
        DType::F16 | DType::BF16 => (1e-2, 1e-2),
        _ => (1e-3, 1e-5),
    };
    let scale = e.iter().filter(|e| e.is_finite()).fold(0.0, |max: f64, e| max.max(e.abs()));
    let near =
        |f: f64, e: f64| f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= relative * e.abs() + absolute * scale;
    match f.iter().zip(&e).position(|(&f, &e)| !near(f, e)) {
        Some(at) => Err(format!(
            "'{name}' element {at} is {}, not {}",
            f.iter().nth(at).unwrap_or(&0.0),
            e.iter().nth(at).unwrap_or(&0.0)
        )),
        None => Ok(()),
    }
}

/// A message on one line, without what differs from machine to machine.
fn short(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
