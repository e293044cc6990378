//! From the model's protobuf to a [`Graph`] and back.

use super::{Graph, GraphError, Input, Name, Node, inline};
use crate::model::Model;
use crate::tensor::{DType, Tensor};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use protobuf::{EnumOrUnknown, MessageField};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn from_model(model: &Model) -> Result<Graph, GraphError> {
    let proto = &model.proto.graph;
    let (mut constants, mut nodes) = (BTreeMap::new(), Vec::new());
    for (name, place) in model.places() {
        if place.dtype.is_some() {
            constants.insert(Name::from(name.as_str()), Arc::new(model.tensor(name)?));
        } else if let Some(tensor) = model.proto_of(place).filter(|_| !place.constant_node) {
            nodes.push(passed_through(name, tensor));
        }
    }
    nodes.extend(proto.node.iter().filter(|n| !is_known_constant(n, &constants)).map(Node::from));
    let inputs = model.inputs().iter().map(|i| input(i, model)).collect::<Result<_, _>>()?;
    let opsets = model.proto.opset_import.iter().map(|o| (domain(&o.domain), o.version)).collect();
    let mut graph = Graph {
        nodes,
        constants,
        inputs,
        outputs: proto.output.iter().map(|o| o.name.as_str().into()).collect(),
        opsets,
        ir_version: model.proto.ir_version,
    };
    inline::functions(&mut graph, &model.proto.functions)?;
    graph.check_names()?;
    graph.prepare()?;
    Ok(graph)
}

/// A tensor of a type that is not computed with, as strings are.
fn passed_through(name: &str, tensor: &TensorProto) -> Node {
    let mut value =
        AttributeProto { name: "value".into(), t: MessageField::some(tensor.clone()), ..Default::default() };
    value.type_ = EnumOrUnknown::new(AttributeType::TENSOR);
    Node {
        name: String::new(),
        domain: String::new(),
        op: "Constant".into(),
        inputs: vec![],
        outputs: vec![Some(name.into())],
        attributes: vec![value],
    }
}

fn is_known_constant(node: &NodeProto, constants: &BTreeMap<Name, Arc<Tensor>>) -> bool {
    node.op_type == "Constant" && node.output.first().is_some_and(|o| constants.contains_key(o.as_str()))
}

fn domain(domain: &str) -> String {
    if domain == "ai.onnx" { String::new() } else { domain.to_string() }
}

impl From<&NodeProto> for Node {
    fn from(proto: &NodeProto) -> Node {
        let names = |list: &[String]| list.iter().map(|n| (!n.is_empty()).then(|| n.as_str().into())).collect();
        Node {
            name: proto.name.clone(),
            domain: domain(&proto.domain),
            op: proto.op_type.clone(),
            inputs: names(&proto.input),
            outputs: names(&proto.output),
            attributes: proto.attribute.clone(),
        }
    }
}

fn input(port: &crate::model::ValueInfo, model: &Model) -> Result<Input, GraphError> {
    let dtype = port.dtype.ok_or_else(|| {
        let data_type =
            model.proto.graph.input.iter().find(|i| i.name == port.name).map_or(0, |i| i.type_.tensor_type().elem_type);
        GraphError::TensorType { node: format!("input '{}'", crate::error::printable(&port.name)), data_type }
    })?;
    Ok(Input { name: port.name.as_str().into(), dtype, shape: port.shape.clone() })
}

/// An attribute as the operator set writes it.
pub trait IntoAttribute {
    fn fill(self, attribute: &mut AttributeProto);
}

macro_rules! attribute_value {
    ($t:ty, $kind:ident, $self:ident, $attribute:ident => $fill:expr) => {
        impl IntoAttribute for $t {
            fn fill($self, $attribute: &mut AttributeProto) {
                $attribute.type_ = EnumOrUnknown::new(AttributeType::$kind);
                $fill;
            }
        }
    };
}
attribute_value!(i64, INT, self, a => a.i = self);
attribute_value!(f32, FLOAT, self, a => a.f = self);
attribute_value!(&[i64], INTS, self, a => a.ints = self.to_vec());
attribute_value!(Vec<i64>, INTS, self, a => a.ints = self);
attribute_value!(&Tensor, TENSOR, self, a => a.t = MessageField::some(to_tensor_proto("", self)));
attribute_value!(Vec<f32>, FLOATS, self, a => a.floats = self);
attribute_value!(Vec<&str>, STRINGS, self, a => a.strings = self.into_iter().map(|s| s.as_bytes().to_vec()).collect());
attribute_value!(TensorProto, TENSOR, self, a => a.t = MessageField::some(self));
attribute_value!(GraphProto, GRAPH, self, a => a.g = MessageField::some(self));
attribute_value!(&str, STRING, self, a => a.s = self.as_bytes().to_vec());

/// An attribute with this name and value.
pub fn attribute(name: &str, value: impl IntoAttribute) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.to_string(), ..Default::default() };
    value.fill(&mut attribute);
    attribute
}

pub(super) fn to_tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: name.to_string(),
        data_type: tensor.dtype().to_onnx(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        raw_data: tensor.to_le_bytes(),
        ..Default::default()
    }
}

pub(super) fn to_node_proto(node: &Node) -> NodeProto {
    let names = |list: &[Option<Name>]| list.iter().map(|n| n.as_deref().unwrap_or_default().to_string()).collect();
    NodeProto {
        name: node.name.clone(),
        domain: node.domain.clone(),
        op_type: node.op.clone(),
        input: names(&node.inputs),
        output: names(&node.outputs),
        attribute: node.attributes.clone(),
        ..Default::default()
    }
}

fn value_info(name: &str, kind: Option<(DType, Vec<Option<usize>>)>) -> ValueInfoProto {
    let mut info = ValueInfoProto { name: name.to_string(), ..Default::default() };
    if let Some((dtype, dims)) = kind {
        let mut shape = TensorShapeProto::default();
        for dim in dims {
            let value = dim.map(|d| tensor_shape_proto::dimension::Value::DimValue(d as i64));
            shape.dim.push(tensor_shape_proto::Dimension { value, ..Default::default() });
        }
        let tensor =
            type_proto::Tensor { elem_type: dtype.to_onnx(), shape: MessageField::some(shape), ..Default::default() };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        info.type_ = MessageField::some(kind);
    }
    info
}

/// The graph as a model for a runtime. `kind` tells type and shape of an output where they are known.
pub fn to_model_proto(graph: &Graph, kind: impl Fn(&Name) -> Option<(DType, Vec<usize>)>) -> ModelProto {
    to_open_model_proto(graph, |name| kind(name).map(|(dtype, shape)| (dtype, shape.into_iter().map(Some).collect())))
}

/// [`to_model_proto`] of a graph with outputs whose dimensions may be open.
pub fn to_open_model_proto(graph: &Graph, kind: impl Fn(&Name) -> Option<(DType, Vec<Option<usize>>)>) -> ModelProto {
    model_proto(graph, kind, to_tensor_proto)
}

/// Tensors of fewer bytes stay in the message.
const SMALL: usize = 1 << 10;
/// Where tensors begin in a buffer.
const ALIGNMENT: usize = 64;

/// [`to_model_proto`] with the larger tensors one after the other in a buffer, which the message refers to as an
/// external file of the name `file`: without it, a runtime needs their bytes twice.
pub fn to_split_model_proto(
    graph: &Graph,
    kind: impl Fn(&Name) -> Option<(DType, Vec<usize>)>,
    file: &str,
) -> (ModelProto, Arc<[u8]>) {
    let size = |tensor: &Tensor| tensor.len() * tensor.dtype().size();
    let (mut places, mut end) = (BTreeMap::new(), 0usize);
    for (name, tensor) in graph.constants.iter().filter(|(_, tensor)| size(tensor) >= SMALL) {
        let start = end.next_multiple_of(ALIGNMENT);
        end = start + size(tensor);
        places.insert(&**name, start..end);
    }
    let mut buffer: Arc<[u8]> = std::iter::repeat_n(0, end).collect();
    let kind = |name: &Name| kind(name).map(|(dtype, shape)| (dtype, shape.into_iter().map(Some).collect()));
    let proto = model_proto(graph, kind, |name, tensor| {
        let (Some(place), Some(bytes)) = (places.get(name), Arc::get_mut(&mut buffer)) else {
            return to_tensor_proto(name, tensor);
        };
        tensor.write_le_bytes(&mut bytes[place.clone()]);
        let facts =
            [("location", file.into()), ("offset", place.start.to_string()), ("length", place.len().to_string())];
        let entry =
            |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value, ..Default::default() };
        TensorProto {
            name: name.to_string(),
            data_type: tensor.dtype().to_onnx(),
            dims: tensor.shape().iter().map(|&d| d as i64).collect(),
            data_location: EnumOrUnknown::new(DataLocation::EXTERNAL),
            external_data: facts.into_iter().map(entry).collect(),
            ..Default::default()
        }
    });
    (proto, buffer)
}

fn model_proto(
    graph: &Graph,
    kind: impl Fn(&Name) -> Option<(DType, Vec<Option<usize>>)>,
    mut tensor: impl FnMut(&str, &Tensor) -> TensorProto,
) -> ModelProto {
    let proto = GraphProto {
        name: "graph".into(),
        node: graph.nodes.iter().map(to_node_proto).collect(),
        initializer: graph.constants.iter().map(|(name, value)| tensor(name, value)).collect(),
        input: graph.inputs.iter().map(|i| value_info(&i.name, Some((i.dtype, i.shape.clone())))).collect(),
        output: graph.outputs.iter().map(|o| value_info(o, kind(o))).collect(),
        ..Default::default()
    };
    let opset = |(domain, version): (&String, &i64)| OperatorSetIdProto {
        domain: domain.clone(),
        version: *version,
        ..Default::default()
    };
    ModelProto {
        ir_version: graph.ir_version,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: graph.opsets.iter().map(opset).collect(),
        graph: MessageField::some(proto),
        ..Default::default()
    }
}
