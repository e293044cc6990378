//! A model made ready: read, checked, its weights chosen.

use super::Error;
use crate::autograd::missing_rules;
use crate::autograd::roles::{RoleError, Verdict, verdicts, weights};
use crate::autograd::rules::{self, Gradient};
use crate::data::{self, DataSet, InputSpec};
use crate::error::printable;
use crate::graph::{Graph, Name, Node};
use crate::model::{self, Model};
use crate::report::File;
use crate::session::RuntimeOptions;
use crate::tensor::{DType, Tensor};
use onnx_protobuf::AttributeProto;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What all commands on a model take.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub runtime: RuntimeOptions,
    /// Outputs to look at; all where empty.
    pub outputs: Vec<String>,
    /// Patterns of weight names.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub model_limits: model::Limits,
    pub data_limits: data::Limits,
}

/// A model that was read and checked.
pub struct Opened {
    pub model: Model,
    pub graph: Graph,
    /// Names of the initializers that may be changed.
    pub weights: BTreeSet<Name>,
}

/// Reads a model and chooses its weights.
///
/// # Errors
/// An unreadable or malformed model, patterns that match nothing, no weights, weights that are not finite.
pub fn open(path: &Path, common: &Common) -> Result<Opened, Error> {
    open_for(path, common, |verdicts| weights(verdicts, &common.include, &common.exclude))
}

/// Reads a model and takes the constants that `choose` names for its weights.
pub(super) fn open_for(
    path: &Path,
    common: &Common,
    choose: impl Fn(&[Verdict]) -> Result<BTreeSet<Name>, RoleError>,
) -> Result<Opened, Error> {
    let model = Model::read(path, &common.model_limits)?;
    let mut graph = graph(&model, path)?;
    let weights = choose(&own_verdicts(&model, &graph))?;
    choose_outputs(&model, &mut graph, path, &common.outputs)?;
    for name in &weights {
        if let Some(index) = graph.constants.get(name).and_then(|t| t.first_not_finite()) {
            return Err(Error::NotFinite { path: path.into(), name: printable(name), index });
        }
    }
    Ok(Opened { model, graph, weights })
}

/// Keeps the outputs with the given names. Where none is given: all, if all can be differentiated; the only one
/// that can, where others are labels.
///
/// # Errors
/// A name that is no output; none given, and no output or several could be meant.
pub(super) fn choose_outputs(model: &Model, graph: &mut Graph, path: &Path, names: &[String]) -> Result<(), Error> {
    let outputs = model.outputs();
    let (numbers, others): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| holds_numbers(model, output));
    let select = |graph: &mut Graph, names: &[String]| {
        graph.select_outputs(names).map_err(|source| Error::Graph { path: path.into(), source })
    };
    match (names, &numbers[..]) {
        ([], [only]) => select(graph, std::slice::from_ref(&only.name)),
        ([], _) if !others.is_empty() => {
            let dtype = |output: &model::ValueInfo| output.dtype.map_or("no tensor".into(), |dtype| dtype.to_string());
            let list = outputs.iter().map(|output| format!("{} ({})", printable(&output.name), dtype(output)));
            Err(Error::Outputs { path: path.into(), list: list.collect::<Vec<_>>().join(", ") })
        }
        _ => select(graph, names),
    }
}

/// Whether an output is floating point, as far as the model says: a tensor, or dictionaries of probabilities.
fn holds_numbers(model: &Model, output: &model::ValueInfo) -> bool {
    let made_of = |op: &str| {
        let gives = |node: &&onnx_protobuf::NodeProto| node.output.contains(&output.name);
        model.proto.graph.node.iter().find(gives).is_some_and(|node| node.op_type == op)
    };
    let typed = model.proto.graph.output.iter().any(|o| o.name == output.name && o.type_.is_some());
    output.dtype.map_or(!typed || made_of("ZipMap"), DType::is_float)
}

/// The verdicts on the tensors that the model itself holds, in their types; not on what was made for its graph.
fn own_verdicts(model: &Model, graph: &Graph) -> Vec<Verdict> {
    let own = |verdict: Verdict| {
        let dtype = model.places().get(&verdict.name)?.dtype?;
        Some(Verdict { dtype: dtype.to_string(), ..verdict })
    };
    verdicts(graph).into_iter().filter_map(own).collect()
}

/// Lists of numbers that a node of a classical library holds as attributes: what was fitted, but no tensor.
fn attribute_verdicts(node: &Node) -> Vec<Verdict> {
    if node.domain != rules::ML {
        return vec![];
    }
    let lists = node.attributes.iter().filter(|attribute| !attribute.floats.is_empty());
    let verdict = |attribute: &AttributeProto| Verdict {
        name: printable(&format!("{}.{}", node.outputs.iter().flatten().next().map_or("", |o| o), attribute.name)),
        shape: vec![attribute.floats.len()],
        dtype: DType::F32.to_string(),
        weight: false,
        reason: format!("an attribute of {}, not a tensor: it cannot be rewritten", node.describe()),
    };
    lists.map(verdict).collect()
}

/// The graph of a model that was read from `path`.
pub(super) fn graph(model: &Model, path: &Path) -> Result<Graph, Error> {
    Graph::new(model).map_err(|source| Error::Graph { path: path.into(), source })
}

impl Opened {
    /// Opens data for the inputs of the model.
    ///
    /// # Errors
    /// The data is malformed or does not fit.
    pub fn data(&self, path: &Path, common: &Common) -> Result<DataSet, Error> {
        let spec =
            |i: &crate::graph::Input| InputSpec { name: i.name.to_string(), dtype: i.dtype, shape: i.shape.clone() };
        let specs: Vec<InputSpec> = self.graph.inputs.iter().map(spec).collect();
        Ok(DataSet::open(path, &specs, &common.data_limits)?)
    }

    /// A weight in the type that the model holds it in.
    ///
    /// # Errors
    /// No such weight.
    pub(super) fn weight(&self, name: &Name) -> Result<Arc<Tensor>, Error> {
        let stored = self.model.places().get(&**name).and_then(|place| place.dtype);
        match self.graph.constants.get(name) {
            Some(tensor) if Some(tensor.dtype()) == stored => Ok(tensor.clone()),
            _ => Ok(Arc::new(self.model.tensor(name)?)),
        }
    }

    /// Outputs that the objective is made of.
    pub(super) fn output_names(&self) -> Vec<String> {
        self.graph.outputs.iter().map(|name| name.to_string()).collect()
    }

    /// The files of the model for a report.
    pub(super) fn files(&self) -> Vec<File> {
        let file = |(path, sha256)| File { role: "model".into(), path, sha256 };
        self.model.files().into_iter().map(file).collect()
    }
}

/// An input or output of a model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Port {
    pub name: String,
    pub dtype: String,
    /// None where the model leaves a dimension open.
    pub shape: Vec<Option<usize>>,
}

/// What can be unlearned in a model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Summary {
    pub sha256: String,
    pub ir_version: i64,
    pub opset: i64,
    pub producer: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Every constant, weights first.
    pub parameters: Vec<Verdict>,
    /// Number of weights that may be changed.
    pub total_weights: usize,
    /// Number of nodes by operator in the graph that computes.
    pub operators: BTreeMap<String, usize>,
    /// Operators whose gradient is zero by definition.
    pub without_gradient: Vec<String>,
    /// Operators between weights and outputs that have no rule.
    pub unsupported: Vec<String>,
}

/// What can be unlearned in a model, and what stands in the way.
///
/// # Errors
/// An unreadable or malformed model.
pub fn inspect(path: &Path, common: &Common) -> Result<Summary, Error> {
    let model = Model::read(path, &common.model_limits)?;
    let graph = graph(&model, path)?;
    let mut parameters = own_verdicts(&model, &graph);
    parameters.extend(graph.nodes.iter().flat_map(attribute_verdicts));
    parameters.sort_by_key(|v| !v.weight);
    let weights = parameters.iter().filter(|v| v.weight).map(|v| Name::from(v.name.as_str())).collect();
    let port = |v: model::ValueInfo| Port {
        name: v.name,
        dtype: v.dtype.map_or("not a tensor".into(), |d| d.to_string()),
        shape: v.shape,
    };
    let mut operators = BTreeMap::new();
    let mut zero = BTreeSet::new();
    for node in &graph.nodes {
        let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
        let name = printable(&format!("{domain}{}", node.op));
        if let Some(Gradient::Zero(_)) = rules::find(node, graph.opset()).map(|row| &row.gradient) {
            zero.insert(name.clone());
        }
        *operators.entry(name).or_default() += 1;
    }
    Ok(Summary {
        sha256: model.sha256().into(),
        ir_version: model.proto.ir_version,
        opset: model.opset(),
        producer: printable(&format!("{} {}", model.proto.producer_name, model.proto.producer_version)),
        inputs: model.inputs().into_iter().map(port).collect(),
        outputs: model.outputs().into_iter().map(port).collect(),
        total_weights: parameters.iter().filter(|v| v.weight).map(|v| v.shape.iter().product::<usize>()).sum(),
        parameters,
        operators,
        without_gradient: zero.into_iter().collect(),
        unsupported: missing_rules(&graph, &weights).into_keys().collect(),
    })
}
