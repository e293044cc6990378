//! What differs between two models.

use super::outside::outside;
use crate::error::printable;
use crate::model::{Data, Model, ModelError, Place, type_name};
use crate::tensor::Tensor;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// The differences between two models, `a` and `b`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The tensors of the same name, type and shape that hold different values.
    pub tensors: Vec<TensorDiff>,
    /// Names of tensors that only the first model has.
    pub only_in_a: Vec<String>,
    /// Names of tensors that only the second model has.
    pub only_in_b: Vec<String>,
    /// Everything else that differs, in words.
    pub other: Vec<String>,
    /// Whether all files are the same, byte for byte, external data included.
    pub identical: bool,
}

/// How the values of a tensor differ. Norms are Euclidean, over all elements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDiff {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Number of elements.
    pub total: usize,
    /// Number of elements whose bits differ.
    pub differing: usize,
    /// Largest absolute difference; NaN where a difference is.
    pub max_abs_change: f64,
    pub norm_before: f64,
    pub norm_after: f64,
}

/// Compares two models: tensors by value, then the structure, and last the bytes around the
/// tensors, so that nothing that differs goes unmentioned.
pub fn diff(a: &Model, b: &Model) -> Result<Diff, ModelError> {
    let mut diff = Diff {
        tensors: Vec::new(),
        only_in_a: a.places().keys().filter(|name| !b.places().contains_key(*name)).cloned().collect(),
        only_in_b: b.places().keys().filter(|name| !a.places().contains_key(*name)).cloned().collect(),
        other: Vec::new(),
        identical: identical(a, b),
    };
    if diff.identical {
        return Ok(diff);
    }
    for (name, old) in a.places() {
        if let Some(new) = b.places().get(name) {
            compare_tensor((a, old), (b, new), &mut diff)?;
        }
    }
    structure(&a.proto, &b.proto, &mut diff.other);
    // Numbers of variable length move all that follows, so the bytes around say nothing then.
    let moved = |t: &TensorDiff| [a, b].iter().any(|m| matches!(m.places()[&t.name].data, Data::Varints));
    let explained = [&diff.only_in_a, &diff.only_in_b, &diff.other].iter().any(|list| !list.is_empty());
    if !explained
        && !diff.tensors.iter().any(moved)
        && let Some(difference) = outside(a, b)
    {
        diff.other.push(difference);
    }
    diff.other.iter_mut().for_each(|text| *text = printable(text));
    Ok(diff)
}

fn identical(a: &Model, b: &Model) -> bool {
    a.bytes() == b.bytes()
        && a.external().len() == b.external().len()
        && a.external().iter().zip(b.external()).all(|((la, fa), (lb, fb))| la == lb && fa.bytes == fb.bytes)
}

fn compare_tensor(old: (&Model, &Place), new: (&Model, &Place), diff: &mut Diff) -> Result<(), ModelError> {
    let ((a, old), (b, new)) = (old, new);
    let name = &old.name;
    let is = |place: &Place| format!("{} of shape {:?}", type_name(place.data_type), place.shape);
    if (old.data_type, &old.shape) != (new.data_type, &new.shape) {
        diff.other.push(format!("tensor \"{name}\": {} became {}", is(old), is(new)));
        return Ok(());
    }
    if stored(&old.data) != stored(&new.data) {
        diff.other.push(format!("tensor \"{name}\": stored {}, now {}", stored(&old.data), stored(&new.data)));
    }
    let notes = |model: &Model, place| {
        model.proto_of(place).map(|t| (t.doc_string.clone(), t.metadata_props.clone(), t.special_fields.clone()))
    };
    if notes(a, old) != notes(b, new) {
        diff.other.push(format!("tensor \"{name}\": documentation, metadata or unknown fields differ"));
    }
    let Some(dtype) = old.dtype else {
        if content(a, old) != content(b, new) {
            diff.other.push(format!("tensor \"{name}\" ({}) holds other values", is(old)));
        }
        return Ok(());
    };
    let (before, after) = (a.tensor(name)?, b.tensor(name)?);
    let (bytes_before, bytes_after) = (before.to_le_bytes(), after.to_le_bytes());
    if bytes_before == bytes_after {
        return Ok(());
    }
    let size = dtype.size();
    let pairs = bytes_before.chunks_exact(size).zip(bytes_after.chunks_exact(size));
    let (x, y) = (numbers(&before), numbers(&after));
    let change = x.iter().zip(&y).filter(|(x, y)| x != y).map(|(x, y)| (x - y).abs());
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    diff.tensors.push(TensorDiff {
        name: name.clone(),
        dtype: dtype.to_string(),
        shape: old.shape.clone(),
        total: before.len(),
        differing: pairs.filter(|(x, y)| x != y).count(),
        max_abs_change: change.fold(0.0, |max: f64, d| if d.is_nan() || d > max { d } else { max }),
        norm_before: norm(&x),
        norm_after: norm(&y),
    });
    Ok(())
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match (tensor, tensor.to_f64()) {
        (_, Some(values)) => values.into_iter().collect(),
        (Tensor::Bool(values), _) => values.iter().map(|&v| f64::from(u8::from(v))).collect(),
        _ => tensor.to_i64().unwrap_or_default().into_iter().map(|v| v as f64).collect(),
    }
}

fn stored(data: &Data) -> String {
    match data {
        Data::Raw(_) => "as raw_data".to_owned(),
        Data::Typed { .. } | Data::Varints => "in typed fields".to_owned(),
        Data::External { location, offset, .. } => format!("in \"{location}\" from byte {offset} on"),
        Data::Empty => "nowhere".to_owned(),
    }
}

/// The stored form of a tensor whose type is not computed with.
fn content(model: &Model, place: &Place) -> Option<TensorProto> {
    if let Data::External { location, offset, length, .. } = &place.data {
        let bytes = &model.external().get(location)?.bytes;
        let raw_data = bytes.get(*offset as usize..(offset + length) as usize)?.to_vec();
        return Some(TensorProto { raw_data, ..TensorProto::default() });
    }
    model.proto_of(place).cloned()
}

/// Differences of the messages, but for the values of the tensors that have a place.
fn structure(a: &ModelProto, b: &ModelProto, other: &mut Vec<String>) {
    let mut field = Fields(other);
    field.compare("ir_version", &a.ir_version, &b.ir_version);
    field.compare("producer_name", &a.producer_name, &b.producer_name);
    field.compare("producer_version", &a.producer_version, &b.producer_version);
    field.compare("domain", &a.domain, &b.domain);
    field.compare("model_version", &a.model_version, &b.model_version);
    field.same("doc_string", a.doc_string == b.doc_string);
    field.same("opset imports", a.opset_import == b.opset_import);
    field.same("metadata", a.metadata_props == b.metadata_props);
    field.same("training information", a.training_info == b.training_info);
    field.same("functions", a.functions == b.functions);
    field.same("unknown fields of the model", a.special_fields == b.special_fields);
    let (a, b): (&GraphProto, &GraphProto) = (&a.graph, &b.graph);
    field.compare("name of the graph", &a.name, &b.name);
    field.same("doc_string of the graph", a.doc_string == b.doc_string);
    field.same("inputs", a.input == b.input);
    field.same("outputs", a.output == b.output);
    field.same("value_info", a.value_info == b.value_info);
    field.same("sparse initializers", a.sparse_initializer == b.sparse_initializer);
    field.same("quantization annotations", a.quantization_annotation == b.quantization_annotation);
    field.same("metadata of the graph", a.metadata_props == b.metadata_props);
    field.same("unknown fields of the graph", a.special_fields == b.special_fields);
    let order = |graph: &GraphProto| graph.initializer.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    let (names_a, names_b) = (order(a), order(b));
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    field.same("order of the initializers", names_a == names_b || set(&names_a) != set(&names_b));
    field.compare("number of nodes", &a.node.len(), &b.node.len());
    for (index, (x, y)) in a.node.iter().zip(&b.node).enumerate() {
        let parts = node(x, y);
        if !parts.is_empty() {
            let (op, name) = (&x.op_type, &x.name);
            field.0.push(format!("node {index} ({op} \"{name}\"): {} differ", parts.join(", ")));
        }
    }
}

struct Fields<'a>(&'a mut Vec<String>);

impl Fields<'_> {
    fn same(&mut self, what: &str, same: bool) {
        if !same {
            self.0.push(format!("{what}: differ"));
        }
    }

    fn compare<T: Debug + PartialEq>(&mut self, what: &str, a: &T, b: &T) {
        if a != b {
            self.0.push(format!("{what}: {a:?} became {b:?}"));
        }
    }
}

/// The parts in which two nodes differ.
fn node(a: &NodeProto, b: &NodeProto) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |name: &str, same: bool| {
        if !same {
            parts.push(name.to_owned());
        }
    };
    part("operator", (&a.op_type, &a.domain, &a.overload) == (&b.op_type, &b.domain, &b.overload));
    part("name", a.name == b.name);
    part("inputs", a.input == b.input);
    part("outputs", a.output == b.output);
    part("documentation and metadata", (&a.doc_string, &a.metadata_props) == (&b.doc_string, &b.metadata_props));
    part("unknown fields", a.special_fields == b.special_fields);
    let by_name = |node: &'_ NodeProto| -> BTreeSet<String> { node.attribute.iter().map(|x| x.name.clone()).collect() };
    for name in by_name(a).union(&by_name(b)) {
        let of = |node: &NodeProto| node.attribute.iter().find(|x| x.name == *name).cloned();
        let constant = a.op_type == "Constant" && name == "value";
        let same = match (of(a), of(b)) {
            (Some(x), Some(y)) if constant && x.t.is_some() && y.t.is_some() => without_value(x) == without_value(y),
            (x, y) => x == y,
        };
        part(&format!("attribute \"{name}\""), same);
    }
    parts
}

/// A Constant's attribute without what the comparison of tensors has seen already.
fn without_value(mut attribute: AttributeProto) -> AttributeProto {
    attribute.t = Default::default();
    attribute
}
