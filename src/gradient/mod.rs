//! The gradient of a model as a model: standard ONNX operators that any runtime runs.

mod dynamic;
mod fold;
mod probe;

pub use probe::{ProbeError, Shapes, probe};

use crate::autograd::{Explicit, GradError, Seed, check_rules, gradients};
use crate::error::{Kind, printable};
use crate::graph::{Graph, GraphError, Name, Node, attribute, to_open_model_proto};
use crate::session::{Feed, Kinds, Runtime, SessionError};
use crate::specialise::{SpecialiseError, specialise};
use crate::tensor::{DType, Tensor};
use onnx_protobuf::ModelProto;
use std::collections::{BTreeMap, BTreeSet};

/// Ends the name of a gradient, after the name of what it is the gradient of.
pub const SUFFIX: &str = ".grad";
/// Ends the name of a seed input, after the name of its output.
pub const SEED_SUFFIX: &str = ".seed";
/// Batch sizes that a graph for every batch size is drawn through: two give the line, the others test it.
const SIZES: [usize; 4] = [3, 5, 4, 1];
/// How far the graph for every batch size may be from the one for the size, relative to the largest value.
const TOLERANCE: f64 = 1e-4;

#[derive(Debug, thiserror::Error)]
pub enum GradientError {
    #[error(transparent)]
    Grad(#[from] GradError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Specialise(#[from] SpecialiseError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("the model already has a value named '{name}'; rename it")]
    Taken { name: String },
    #[error(
        "{node}: it is no operator of a standard domain and has no rewriting; the gradient graph would not be standard"
    )]
    NotStandard { node: String },
}

impl GradientError {
    pub fn kind(&self) -> Kind {
        match self {
            GradientError::Grad(e) => e.kind(),
            GradientError::Graph(e) => e.kind(),
            GradientError::Session(e) => e.kind(),
            GradientError::Specialise(e) => e.kind(),
            GradientError::Probe(e) => e.kind(),
            GradientError::Taken { .. } => Kind::Malformed,
            GradientError::NotStandard { .. } => Kind::Unsupported,
        }
    }
}

/// A graph whose outputs are those of the model, then the gradients.
#[derive(Clone, Debug)]
pub struct GradientGraph {
    pub graph: Graph,
    /// Types and shapes of inputs and outputs; none for a dimension that follows the batch.
    pub ports: BTreeMap<Name, (DType, Vec<Option<usize>>)>,
    /// The batch size where it is fixed, with the reason.
    pub fixed: Option<(usize, String)>,
}

impl GradientGraph {
    /// The number of nodes that the outputs of the model need; the others are the backward pass.
    pub fn forward_nodes(&self) -> usize {
        let mut forward = self.graph.clone();
        forward.outputs.retain(|name| !name.ends_with(SUFFIX));
        forward.prune();
        forward.nodes.len()
    }

    /// The graph as a model.
    pub fn to_model_proto(&self) -> ModelProto {
        let mut proto = to_open_model_proto(&self.graph, |name| self.ports.get(name).cloned());
        for input in &mut proto.graph.mut_or_insert_default().input {
            let shape = input.type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default();
            if let Some(first) = shape.dim.first_mut().filter(|d| d.value.is_none()) {
                first.set_dim_param("batch".into());
            }
        }
        proto
    }
}

/// Makes the gradient graph of `graph`: its inputs, and with [`Seed::Input`] an input `<output>.seed` for each
/// output; its outputs, then `<name>.grad` for each name in `wrt`, constants or inputs of the graph, in this order.
///
/// With an objective the gradient is that of its mean over the batch: shape and type of what it is the gradient
/// of. `feed` gives values for the inputs for a batch size; they settle the shapes that the model leaves open, and
/// the batch stays open where the graph allows. Where the model fixes the batch, or its inputs do not all hold
/// samples on their first axis, `feed` is asked for that size alone, and the mean is over it, or over the one
/// sample that everything then is.
///
/// # Errors
/// What has no gradient; operators that are not standard; the runtime refuses the graph or `feed`.
///
/// ```
/// use onnx_unlearn::autograd::{Seed, objective::Objective};
/// use onnx_unlearn::gradient::{Shapes, gradient_graph, probe};
/// use onnx_unlearn::graph::Graph;
/// use onnx_unlearn::model::{Limits, Model};
/// use onnx_unlearn::session::{Runtime, RuntimeOptions};
/// use std::path::Path;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::read(Path::new("models/resnet18_torchscript.onnx"), &Limits::default())?;
/// let graph = Graph::new(&model)?;
/// let runtime = Runtime::open(RuntimeOptions::default())?;
/// let head = ["fc.weight", "fc.bias"].map(Into::into);
/// let seed = Seed::Mean(Objective::SquaredL2);
/// let made = gradient_graph(&graph, &head, seed, &|batch| probe(&graph, batch, &Shapes::new()), &runtime)?;
/// let names: Vec<&str> = made.graph.outputs.iter().map(|name| &**name).collect();
/// assert_eq!(names, ["logits", "fc.weight.grad", "fc.bias.grad"]);
/// assert!(made.fixed.is_none());
/// # Ok(())
/// # }
/// ```
pub fn gradient_graph(
    graph: &Graph,
    wrt: &[Name],
    seed: Seed,
    feed: &dyn Fn(usize) -> Result<Feed, ProbeError>,
    runtime: &Runtime,
) -> Result<GradientGraph, GradientError> {
    let variable: BTreeSet<Name> = wrt.iter().cloned().collect();
    check_names(graph, wrt, seed)?;
    check_rules(graph, &variable)?;
    let build = |batch: usize| build(graph, wrt, seed, feed(batch)?, batch, runtime);
    let fixed = |batch: usize, reason: String| {
        let mut built = build(batch)?;
        fold::constants(&mut built.graph, &variable, &built.kinds, runtime)?;
        Ok(built.fixed(reason))
    };
    if let Some((batch, reason)) = only_batch(graph) {
        return fixed(batch, reason);
    }
    let opened = SIZES.into_iter().map(build).collect::<Result<Vec<_>, _>>();
    let reason = match opened {
        Ok(built) => match open_batch(&built, &variable, runtime) {
            Ok(open) => return Ok(open),
            Err(reason) => reason,
        },
        // A graph for one batch size alone; where it is refused too, that is the error.
        Err(error) => error.to_string(),
    };
    fixed(1, reason)
}

/// The batch size where there is but one, and why.
fn only_batch(graph: &Graph) -> Option<(usize, String)> {
    let first = |i: &crate::graph::Input| i.shape.first().copied();
    let firsts: BTreeSet<Option<Option<usize>>> = graph.inputs.iter().map(first).collect();
    match firsts.into_iter().collect::<Vec<_>>()[..] {
        [Some(None)] => None,
        [Some(Some(size))] => Some((size, format!("the model fixes the batch at {size}"))),
        _ => Some((1, "its inputs do not all leave their first axis to the samples; all is one sample".into())),
    }
}

/// Names that will be made must be free, and what is differentiated must exist.
fn check_names(graph: &Graph, wrt: &[Name], seed: Seed) -> Result<(), GradientError> {
    let mut taken: BTreeSet<&str> = graph.constants.keys().map(|n| &**n).collect();
    taken.extend(graph.inputs.iter().map(|i| &*i.name));
    taken.extend(graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten()).map(|n| &**n));
    let gradients = wrt.iter().map(|name| format!("{name}{SUFFIX}"));
    let seeds = graph.outputs.iter().filter(|_| seed == Seed::Input).map(|name| format!("{name}{SEED_SUFFIX}"));
    match gradients.chain(seeds).find(|name| taken.contains(&**name)) {
        Some(name) => Err(GradientError::Taken { name: printable(&name) }),
        None => Ok(()),
    }
}

/// The gradient graph for one batch size, with what it was built on.
struct Built {
    graph: Graph,
    kinds: Kinds,
    feed: Feed,
    batch: usize,
}

impl Built {
    fn fixed(self, reason: String) -> GradientGraph {
        let fixed = |(name, (dtype, shape)): (Name, (DType, Vec<usize>))| {
            (name, (dtype, shape.into_iter().map(Some).collect()))
        };
        let ports = self.kinds.into_iter().map(fixed).collect();
        GradientGraph { graph: self.graph, ports, fixed: Some((self.batch, reason)) }
    }
}

fn build(
    graph: &Graph,
    wrt: &[Name],
    seed: Seed,
    mut feed: Feed,
    batch: usize,
    runtime: &Runtime,
) -> Result<Built, GradientError> {
    let set: BTreeSet<Name> = wrt.iter().cloned().collect();
    let specialised = specialise(graph, &set, &feed, batch, runtime)?;
    let shapes: BTreeMap<Name, (DType, Vec<usize>)> = specialised.facts.kinds.clone();
    let Explicit { graph: mut made, mut kinds, gradients, seeds } = gradients(specialised, &set, seed)?;
    for (output, input) in seeds {
        let name: Name = format!("{output}{SEED_SUFFIX}").into();
        rename(&mut made, &mut kinds, &input, &name);
        feed.insert(name.to_string(), probe::numbers(&kinds[&name]));
    }
    made.outputs = graph.outputs.clone();
    let mut named: BTreeMap<Name, Name> = BTreeMap::new();
    for name in wrt {
        let gradient: Name = format!("{name}{SUFFIX}").into();
        let kind = shapes.get(name).cloned().or_else(|| of_constant(graph, name));
        let kind = kind.ok_or_else(|| GraphError::NoSuchOutput { name: printable(name), known: String::new() })?;
        match gradients.get(name).map(|value| (value, named.get(value))) {
            Some((value, None)) => {
                give_name(&mut made, value, &gradient);
                named.insert(value.clone(), gradient.clone());
            }
            Some((_, Some(same))) => made.nodes.push(operator("Identity", same, &gradient)),
            None => nothing(&mut made, &kind, &gradient),
        }
        made.outputs.push(gradient.clone());
        kinds.insert(gradient, kind);
    }
    give_outputs_nodes(&mut made);
    made.prune();
    keep_standard(&mut made)?;
    Ok(Built { graph: made, kinds, feed, batch })
}

fn of_constant(graph: &Graph, name: &Name) -> Option<(DType, Vec<usize>)> {
    graph.constants.get(name).map(|t| (t.dtype(), t.shape().to_vec()))
}

fn operator(op: &str, input: &Name, output: &Name) -> Node {
    Node {
        name: output.to_string(),
        domain: String::new(),
        op: op.into(),
        inputs: vec![Some(input.clone())],
        outputs: vec![Some(output.clone())],
        attributes: vec![],
    }
}

/// Calls a value `name`: the output of its node, where no output has that already, or that of a node after it.
fn give_name(graph: &mut Graph, value: &Name, name: &Name) {
    let free = value.starts_with(crate::autograd::PREFIX) && !graph.outputs.contains(value);
    let mut found = false;
    for output in graph.nodes.iter_mut().flat_map(|n| n.outputs.iter_mut().flatten()) {
        if free && output == value {
            *output = name.clone();
            found = true;
        }
    }
    match found {
        true => reread(graph, value, name),
        false => graph.nodes.push(operator("Identity", value, name)),
    }
}

/// Every node that read `from` reads `to`.
fn reread(graph: &mut Graph, from: &Name, to: &Name) {
    for input in graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()) {
        if input == from {
            *input = to.clone();
        }
    }
}

/// Zeros: no output depends on what this is the gradient of.
fn nothing(graph: &mut Graph, (dtype, shape): &(DType, Vec<usize>), output: &Name) {
    let dims: Name = format!("{}{output}/shape", crate::autograd::PREFIX).into();
    let values: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    graph.constants.insert(dims.clone(), std::sync::Arc::new(Tensor::I64(ndarray::arr1(&values).into_dyn())));
    let mut node = operator("ConstantOfShape", &dims, output);
    node.attributes.push(attribute("value", &Tensor::from_f64(*dtype, ndarray::arr1(&[0.0]).into_dyn())));
    graph.nodes.push(node);
}

/// An output of the model that is a constant or an input becomes the output of a node.
fn give_outputs_nodes(graph: &mut Graph) {
    let made: BTreeSet<Name> = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten()).cloned().collect();
    let bare: Vec<Name> = graph.outputs.iter().filter(|o| !made.contains(*o)).cloned().collect();
    for output in bare.into_iter().collect::<BTreeSet<_>>() {
        let source: Name = format!("{}{output}", crate::autograd::PREFIX).into();
        if let Some(tensor) = graph.constants.remove(&output) {
            graph.constants.insert(source.clone(), tensor);
            reread(graph, &output, &source);
            graph.nodes.push(operator("Identity", &source, &output));
        }
    }
}

fn rename(graph: &mut Graph, kinds: &mut Kinds, from: &Name, to: &Name) {
    graph.inputs.iter_mut().filter(|i| i.name == *from).for_each(|i| i.name = to.clone());
    reread(graph, from, to);
    if let Some(kind) = kinds.remove(from) {
        kinds.insert(to.clone(), kind);
    }
}

/// Operators of the default domain alone are left, and it alone is imported.
fn keep_standard(graph: &mut Graph) -> Result<(), GradientError> {
    if let Some(node) = graph.nodes.iter().find(|n| !n.domain.is_empty()) {
        return Err(GradientError::NotStandard { node: node.describe() });
    }
    graph.opsets.retain(|domain, _| domain.is_empty());
    Ok(())
}

/// One graph for every batch size, tried on a size that it was not made from and on a single sample.
fn open_batch(built: &[Built], variable: &BTreeSet<Name>, runtime: &Runtime) -> Result<GradientGraph, String> {
    let [a, b, tests @ ..] = built else { return Err("it was not built for several batch sizes".into()) };
    let mut graph = dynamic::through([(a.batch, &a.graph), (b.batch, &b.graph)])?;
    fold::constants(&mut graph, variable, &a.kinds, runtime).map_err(|e| e.to_string())?;
    let ports = dynamic::ports([&a.kinds, &b.kinds], &graph);
    let open = GradientGraph { graph, ports, fixed: None };
    let run = |graph: &Graph, feed: &Feed| {
        runtime.observer(graph).and_then(|mut session| session.run(feed)).map_err(|e| e.to_string())
    };
    for test in tests {
        let expected = run(&test.graph, &test.feed)?;
        // The embedded runtime takes no open dimensions.
        let graph = Graph { inputs: test.graph.inputs.clone(), ..open.graph.clone() };
        let found = run(&graph, &test.feed)?;
        for (name, (found, expected)) in open.graph.outputs.iter().zip(found.iter().zip(&expected)) {
            if !close(found, expected) {
                return Err(format!("at a batch of {} '{}' would be wrong", test.batch, printable(name)));
            }
        }
    }
    Ok(open)
}

fn close(found: &Tensor, expected: &Tensor) -> bool {
    let (Some(found), Some(expected)) = (found.to_f64(), expected.to_f64()) else {
        return found.shape() == expected.shape();
    };
    let largest = expected.iter().filter(|e| e.is_finite()).fold(0.0, |max: f64, e| max.max(e.abs()));
    let near = |f: &f64, e: &f64| (f - e).abs() <= TOLERANCE * largest || (f.is_nan() && e.is_nan()) || f == e;
    found.len() == expected.len() && found.iter().zip(&expected).all(|(f, e)| near(f, e))
}
