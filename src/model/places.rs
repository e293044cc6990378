//! Where the tensors of a model lie: a visit of all of them, and the places of those in the
//! main graph that can be weights.

use super::ModelError;
use super::decode::{self, is_external};
use super::external::{Reference, Store, reference};
use super::wire::{Slot, TensorBytes};
use crate::tensor::DType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// A tensor of the main graph: an initializer, or the value of a Constant node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the initializer, or of the Constant node's output.
    pub name: String,
    /// None for types that are passed through unread.
    pub dtype: Option<DType>,
    /// The type's number in `TensorProto.DataType`.
    pub data_type: i32,
    pub shape: Vec<usize>,
    pub data: Data,
    pub constant_node: bool,
    pub(super) slot: Slot,
}

/// Where and how the elements of a tensor are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// raw_data: little-endian elements in this byte range of the model file.
    Raw(Range<usize>),
    /// float_data or double_data: byte ranges of the model file, in order, each of whole
    /// little-endian elements (packed chunks or single values).
    Typed { ranges: Vec<Range<usize>> },
    /// Numbers of variable length (int32_data, int64_data, uint64_data) or strings: readable
    /// for the supported types, but not to be written over.
    Varints,
    /// Little-endian elements in another file, in bytes.
    External {
        /// The model's folder joined with the location.
        file: PathBuf,
        /// As written in the model, without `.` components; a key of [`super::Model::external`].
        location: String,
        offset: u64,
        length: u64,
    },
    /// No elements.
    Empty,
}

/// What holds a tensor; its `Display` names it in messages.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    Initializer(&'a TensorProto),
    Attribute(&'a NodeProto, &'a str),
    Default(&'a str),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Initializer(tensor) => write!(f, "tensor \"{}\"", tensor.name),
            Owner::Attribute(node, name) => write!(f, "attribute \"{name}\" of {}", describe(node)),
            Owner::Default(name) => write!(f, "default of the attribute \"{name}\" of a function"),
        }
    }
}

/// A node in words: its operator, and its name or else its first output.
pub(super) fn describe(node: &NodeProto) -> String {
    let output = node.output.iter().find(|name| !name.is_empty());
    match (node.name.as_str(), output) {
        ("", Some(output)) => format!("{} node that computes \"{output}\"", node.op_type),
        (name, _) => format!("{} node \"{name}\"", node.op_type),
    }
}

/// All tensors of a model, wherever they are: in graphs, nested graphs, functions, attributes.
pub(super) fn tensors(model: &ModelProto) -> Vec<(Owner<'_>, &TensorProto)> {
    let mut found = Vec::new();
    in_graph(&model.graph, &mut found);
    for training in &model.training_info {
        in_graph(&training.initialization, &mut found);
        in_graph(&training.algorithm, &mut found);
    }
    for function in &model.functions {
        for attribute in &function.attribute_proto {
            in_attribute(attribute, Owner::Default(&attribute.name), &mut found);
        }
        in_nodes(&function.node, &mut found);
    }
    found
}

type Found<'a> = Vec<(Owner<'a>, &'a TensorProto)>;

fn in_graph<'a>(graph: &'a GraphProto, found: &mut Found<'a>) {
    found.extend(graph.initializer.iter().map(|tensor| (Owner::Initializer(tensor), tensor)));
    for sparse in &graph.sparse_initializer {
        in_sparse(sparse, Owner::Initializer(&sparse.values), found);
    }
    in_nodes(&graph.node, found);
}

fn in_nodes<'a>(nodes: &'a [NodeProto], found: &mut Found<'a>) {
    for node in nodes {
        for attribute in &node.attribute {
            in_attribute(attribute, Owner::Attribute(node, &attribute.name), found);
        }
    }
}

fn in_attribute<'a>(attribute: &'a AttributeProto, owner: Owner<'a>, found: &mut Found<'a>) {
    found.extend(attribute.t.iter().chain(&attribute.tensors).map(|tensor| (owner, tensor)));
    for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
        in_sparse(sparse, owner, found);
    }
    for graph in attribute.g.iter().chain(&attribute.graphs) {
        in_graph(graph, found);
    }
}

fn in_sparse<'a>(sparse: &'a SparseTensorProto, owner: Owner<'a>, found: &mut Found<'a>) {
    found.extend(sparse.values.iter().chain(sparse.indices.iter()).map(|tensor| (owner, tensor)));
}

/// Checks every tensor of the model and loads the external data of all.
pub(super) fn check(model: &ModelProto, store: &mut Store) -> Result<(), ModelError> {
    for (owner, tensor) in tensors(model) {
        let name = owner.to_string();
        let shape = decode::check(tensor, &name)?;
        store.add(tensor, &name, &shape)?;
    }
    Ok(())
}

/// The tensor of a Constant node and the index of its attribute.
fn constant(node: &NodeProto) -> Option<(usize, &TensorProto)> {
    let default = matches!(node.domain.as_str(), "" | "ai.onnx");
    if node.op_type != "Constant" || !default {
        return None;
    }
    // Type 4 is TENSOR; old writers leave it out.
    let is_value = |a: &AttributeProto| a.name == "value" && matches!(a.type_.value(), 0 | 4);
    let index = node.attribute.iter().position(is_value)?;
    Some((index, node.attribute[index].t.as_ref()?))
}

/// The tensor in a slot of the main graph.
pub(super) fn tensor_in(graph: &GraphProto, slot: Slot) -> Option<&TensorProto> {
    match slot {
        Slot::Initializer(index) => graph.initializer.get(index),
        Slot::AttributeTensor(node, attribute) => graph.node.get(node)?.attribute.get(attribute)?.t.as_ref(),
        _ => None,
    }
}

/// The places of the initializers and Constant nodes of the main graph, by name.
pub(super) fn find(
    graph: &GraphProto,
    bytes: &BTreeMap<Slot, TensorBytes>,
    store: &Store,
) -> Result<BTreeMap<String, Place>, ModelError> {
    let mut places = BTreeMap::new();
    for (index, tensor) in graph.initializer.iter().enumerate() {
        let place = place(tensor, &tensor.name, Slot::Initializer(index), bytes, store)?;
        places.insert(tensor.name.clone(), place);
    }
    for (index, node) in graph.node.iter().enumerate() {
        if let (Some((attribute, tensor)), Some(name)) =
            (constant(node), node.output.first().filter(|name| !name.is_empty()))
        {
            let slot = Slot::AttributeTensor(index, attribute);
            places.insert(name.clone(), place(tensor, name, slot, bytes, store)?);
        }
    }
    Ok(places)
}

fn place(
    tensor: &TensorProto,
    name: &str,
    slot: Slot,
    bytes: &BTreeMap<Slot, TensorBytes>,
    store: &Store,
) -> Result<Place, ModelError> {
    let shape = decode::check(tensor, name)?;
    let data = if is_external(tensor) {
        match reference(tensor, name, &shape)? {
            Some(Reference { location, offset, length }) => {
                let file = store.files.get(&location).map(|file| file.path.clone()).unwrap_or_default();
                Data::External { file, location, offset, length }
            }
            None => Data::Empty,
        }
    } else {
        match bytes.get(&slot) {
            Some(TensorBytes { raw: Some(range), .. }) if !range.is_empty() => Data::Raw(range.clone()),
            Some(TensorBytes { values, .. }) if values.iter().any(|range| !range.is_empty()) => {
                Data::Typed { ranges: values.clone() }
            }
            _ if shape.contains(&0) => Data::Empty,
            _ => Data::Varints,
        }
    };
    let dtype = DType::from_onnx(tensor.data_type);
    let constant_node = matches!(slot, Slot::AttributeTensor(..));
    Ok(Place { name: name.to_owned(), dtype, data_type: tensor.data_type, shape, data, constant_node, slot })
}

/// The bytes of an external data file that hold a tensor.
pub(crate) struct ExternalRange {
    /// Of the tensor's [`Place`]; none for tensors in nested graphs and attributes.
    pub name: Option<String>,
    pub location: String,
    pub range: Range<usize>,
}

/// The ranges of all external tensors of a checked model.
pub(super) fn external_ranges(model: &ModelProto, places: &BTreeMap<String, Place>) -> Vec<ExternalRange> {
    let graph: &GraphProto = &model.graph;
    let named: BTreeMap<*const TensorProto, &str> = places
        .values()
        .filter_map(|place| Some((std::ptr::from_ref(tensor_in(graph, place.slot)?), place.name.as_str())))
        .collect();
    let range = |tensor: &TensorProto| {
        let shape = decode::check(tensor, &tensor.name).ok()?;
        let at = reference(tensor, &tensor.name, &shape).ok()??;
        let name = named.get(&std::ptr::from_ref(tensor)).map(|name| (*name).to_owned());
        let range = at.offset as usize..(at.offset + at.length) as usize;
        Some(ExternalRange { name, location: at.location, range })
    };
    tensors(model).into_iter().filter_map(|(_, tensor)| range(tensor)).collect()
}
