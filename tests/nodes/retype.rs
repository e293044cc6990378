//! A graph in another floating-point type.

use onnx_protobuf::{AttributeProto, GraphProto, TensorProto, ValueInfoProto, type_proto};
use onnx_unlearn::graph::Graph;
use onnx_unlearn::model::inline;
use onnx_unlearn::tensor::{DType, Tensor};
use std::sync::Arc;

/// Attributes that name a type.
const TYPES: [&str; 5] = ["to", "dtype", "output_datatype", "output_dtype", "stash_type"];

/// Every floating-point constant, and every attribute that names a floating-point type, in `to`.
pub fn retype(graph: &mut Graph, to: DType) {
    // It is written as others that compute in this type, float32 where it names none.
    for node in graph.nodes.iter_mut().filter(|node| node.op == "GroupNormalization") {
        node.attributes.push(onnx_unlearn::graph::attribute("stash_type", 1));
    }
    for tensor in graph.constants.values_mut() {
        *tensor = Arc::new(float(tensor, to));
    }
    graph.nodes.iter_mut().flat_map(|node| &mut node.attributes).for_each(|a| attribute(a, to));
}

/// A floating-point tensor in another type; others as they are.
pub fn float(tensor: &Tensor, to: DType) -> Tensor {
    match (tensor.to_f64(), to) {
        (Some(values), DType::F64) => Tensor::F64(values),
        (Some(values), _) => Tensor::F32(values.mapv(|x| x as f32)),
        (None, _) => tensor.clone(),
    }
}

fn is_float(data_type: i32) -> bool {
    DType::from_onnx(data_type).is_some_and(DType::is_float)
}

fn attribute(attribute: &mut AttributeProto, to: DType) {
    if TYPES.contains(&attribute.name.as_str()) && is_float(attribute.i as i32) {
        attribute.i = to.to_onnx().into();
    }
    attribute.t.as_mut().into_iter().for_each(|t| constant(t, to));
    attribute.g.as_mut().into_iter().chain(&mut attribute.graphs).for_each(|g| nested(g, to));
}

fn constant(proto: &mut TensorProto, to: DType) {
    let Ok(tensor) = inline(proto) else { return };
    if tensor.dtype().is_float() {
        let tensor = float(&tensor, to);
        *proto = TensorProto {
            name: proto.name.clone(),
            dims: proto.dims.clone(),
            data_type: to.to_onnx(),
            raw_data: tensor.to_le_bytes(),
            ..Default::default()
        };
    }
}

fn nested(graph: &mut GraphProto, to: DType) {
    graph.initializer.iter_mut().for_each(|t| constant(t, to));
    graph.node.iter_mut().flat_map(|n| &mut n.attribute).for_each(|a| attribute(a, to));
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(|v| declared(v, to));
}

fn declared(info: &mut ValueInfoProto, to: DType) {
    if let Some(type_proto::Value::TensorType(tensor)) = info.type_.as_mut().and_then(|t| t.value.as_mut())
        && is_float(tensor.elem_type)
    {
        tensor.elem_type = to.to_onnx();
    }
}
