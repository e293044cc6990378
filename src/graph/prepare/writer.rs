//! Nodes put in the place of others, in a graph and in the graphs nested in its nodes.

use crate::graph::proto::{self, to_node_proto, to_tensor_proto};
use crate::graph::{Graph, GraphError, Name, Node, attribute};
use crate::tensor::{DType, Tensor};
use onnx_protobuf::{AttributeProto, GraphProto};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names that are made here start with this; a model's own names never do.
pub const MADE: &str = "onnx_unlearn.graph/";

/// What stands in the place of one graph's nodes.
#[derive(Default)]
pub struct Writer {
    pub nodes: Vec<Node>,
    /// New constants of the graph.
    pub constants: BTreeMap<Name, Arc<Tensor>>,
    /// Names that are read in the graph, by its nodes or as its outputs.
    read: BTreeSet<Name>,
    /// Floating-point types of values, where they are not float32.
    double: BTreeSet<Name>,
    /// What the names of new values tell: for what they were made.
    label: &'static str,
    made: usize,
}

/// Takes a node and writes it, or others in its place.
pub type Rewrite<'a> = dyn FnMut(Node, &mut Writer) -> Result<(), GraphError> + 'a;

/// Hands every node of the graph, those of nested graphs first, to `each`, which writes what takes its place.
///
/// # Errors
/// That of `each`.
pub fn rewrite(graph: &mut Graph, label: &'static str, each: &mut Rewrite) -> Result<(), GraphError> {
    let mut writer = Writer { label, ..Writer::default() };
    writer.read.extend(graph.outputs.iter().cloned());
    writer.note_types(graph.inputs.iter().filter(|i| i.dtype == DType::F64).map(|i| &i.name));
    writer.note_types(graph.constants.iter().filter(|(_, t)| t.dtype() == DType::F64).map(|(n, _)| n));
    writer.take(std::mem::take(&mut graph.nodes), each)?;
    graph.nodes = writer.nodes;
    graph.constants.extend(writer.constants);
    Ok(())
}

impl Writer {
    fn take(&mut self, nodes: Vec<Node>, each: &mut Rewrite) -> Result<(), GraphError> {
        self.read.extend(nodes.iter().flat_map(|n| n.inputs.iter().flatten().cloned().chain(n.captured())));
        for mut node in nodes {
            for attribute in &mut node.attributes {
                for nested in attribute.g.as_mut().into_iter().chain(&mut attribute.graphs) {
                    self.nested(nested, each)?;
                }
            }
            self.note_type(&node);
            each(node, self)?;
        }
        Ok(())
    }

    /// A nested graph gets nodes and constants of its own; what it reads from outside keeps its type.
    fn nested(&mut self, graph: &mut GraphProto, each: &mut Rewrite) -> Result<(), GraphError> {
        let read = graph.output.iter().map(|o| o.name.as_str().into()).collect();
        let mut inner =
            Writer { read, double: self.double.clone(), label: self.label, made: self.made, ..Writer::default() };
        let double = |data_type: i32| data_type == DType::F64.to_onnx();
        let inputs = graph.input.iter().filter(|i| double(i.type_.tensor_type().elem_type)).map(|i| &i.name);
        let constants = graph.initializer.iter().filter(|t| double(t.data_type)).map(|t| &t.name);
        inner.double.extend(inputs.chain(constants).map(|name| name.as_str().into()));
        inner.take(graph.node.iter().map(proto::node).collect(), each)?;
        graph.node = inner.nodes.iter().map(to_node_proto).collect();
        graph.initializer.extend(inner.constants.iter().map(|(name, tensor)| to_tensor_proto(name, tensor)));
        self.made = inner.made;
        Ok(())
    }

    fn note_types<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        self.double.extend(names.cloned());
    }

    /// An output has the type of the first floating-point operand, or the one that an attribute names.
    fn note_type(&mut self, node: &Node) {
        let named = node.int("to").or_else(|| node.int("dtype"));
        let double = match named {
            Some(data_type) => data_type == i64::from(DType::F64.to_onnx()),
            None => node.inputs.iter().flatten().any(|i| self.double.contains(i)),
        };
        if double {
            self.double.extend(node.outputs.iter().flatten().cloned());
        }
    }

    /// Whether anything in the graph reads the value.
    pub fn reads(&self, name: &Name) -> bool {
        self.read.contains(name)
    }

    /// A name that no value has.
    pub fn fresh(&mut self, what: &str) -> Name {
        self.made += 1;
        format!("{MADE}{}_{}_{what}", self.label, self.made).into()
    }

    fn constant(&mut self, tensor: Option<Tensor>) -> Name {
        let name = self.fresh("constant");
        self.constants.extend(tensor.map(|tensor| (name.clone(), Arc::new(tensor))));
        name
    }

    /// A one-dimensional integer constant.
    pub fn integers(&mut self, values: &[i64]) -> Name {
        self.constant(Tensor::new(&[values.len()], values.to_vec()))
    }

    /// A scalar integer constant.
    pub fn integer(&mut self, value: i64) -> Name {
        self.constant(Tensor::new(&[], vec![value]))
    }

    /// The value of `name` from here on, in the place of the node that gave it.
    pub fn give(&mut self, name: &Name, tensor: Tensor) {
        self.constants.insert(name.clone(), Arc::new(tensor));
    }

    /// A one-dimensional constant of float32.
    pub fn floats(&mut self, values: &[f32]) -> Name {
        self.constant(Tensor::new(&[values.len()], values.to_vec()))
    }

    /// A scalar constant of the type of `like`.
    pub fn scalar(&mut self, like: &Name, value: f32) -> Name {
        self.constant(match self.double.contains(like) {
            true => Tensor::new(&[], vec![f64::from(value)]),
            false => Tensor::new(&[], vec![value]),
        })
    }

    /// A new node of the default domain with one output.
    pub fn node(&mut self, op: &str, inputs: &[&Name], attributes: Vec<AttributeProto>) -> Name {
        self.operands(op, inputs.iter().map(|&name| Some(name.clone())).collect(), attributes)
    }

    /// A new node as [`Writer::node`] has it, some of whose operands may be absent.
    pub fn operands(&mut self, op: &str, inputs: Vec<Option<Name>>, attributes: Vec<AttributeProto>) -> Name {
        let output = self.fresh(op);
        self.write(&output, op, inputs, attributes);
        output
    }

    /// A new node of the default domain that gives the value `output`.
    pub fn write(&mut self, output: &Name, op: &str, inputs: Vec<Option<Name>>, attributes: Vec<AttributeProto>) {
        let (name, outputs) = (format!("{MADE}{output}"), vec![Some(output.clone())]);
        self.nodes.push(Node { name, domain: String::new(), op: op.into(), inputs, outputs, attributes });
    }
}

impl Node {
    pub(super) fn without(mut self, names: &[&str]) -> Node {
        self.attributes.retain(|a| !names.contains(&a.name.as_str()));
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl crate::graph::proto::IntoAttribute) -> Node {
        self.attributes.push(attribute(name, value));
        self
    }
}
