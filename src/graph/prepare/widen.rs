//! Half precision computed in single precision: float16 and bfloat16 constants, attributes and nested graphs become
//! float32. Inputs keep their types, so that data fits them, and are cast.

use super::writer::MADE;
use crate::graph::proto::to_tensor_proto;
use crate::graph::{Graph, GraphError, Name, Node, attribute};
use crate::model;
use crate::tensor::DType;
use onnx_protobuf::type_proto::Value;
use onnx_protobuf::{AttributeProto, GraphProto, TensorProto, TypeProto};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Attributes that name a type.
const TYPES: [&str; 4] = ["to", "dtype", "output_dtype", "stash_type"];

/// Writes float32 in place of the halves of a graph.
pub(super) fn widen(graph: &mut Graph) -> Result<(), GraphError> {
    for tensor in graph.constants.values_mut() {
        if let Some(single) = tensor.to_single() {
            *tensor = Arc::new(single);
        }
    }
    for attribute in graph.nodes.iter_mut().flat_map(|node| &mut node.attributes) {
        self::attribute_of(attribute)?;
    }
    cast_inputs(graph);
    Ok(())
}

fn is_half(data_type: i64) -> bool {
    [DType::F16, DType::BF16].iter().any(|half| i64::from(half.to_onnx()) == data_type)
}

fn attribute_of(attribute: &mut AttributeProto) -> Result<(), GraphError> {
    if TYPES.contains(&attribute.name.as_str()) && is_half(attribute.i) {
        attribute.i = DType::F32.to_onnx().into();
    }
    attribute.tp.as_mut().into_iter().chain(&mut attribute.type_protos).for_each(value_type);
    attribute.t.as_mut().into_iter().chain(&mut attribute.tensors).try_for_each(tensor)?;
    attribute.g.as_mut().into_iter().chain(&mut attribute.graphs).try_for_each(nested)
}

fn nested(graph: &mut GraphProto) -> Result<(), GraphError> {
    graph.initializer.iter_mut().try_for_each(tensor)?;
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    values.filter_map(|value| value.type_.as_mut()).for_each(value_type);
    graph.node.iter_mut().flat_map(|node| &mut node.attribute).try_for_each(attribute_of)
}

fn tensor(tensor: &mut TensorProto) -> Result<(), GraphError> {
    if is_half(tensor.data_type.into())
        && let Some(single) = model::inline(tensor)?.to_single()
    {
        *tensor = to_tensor_proto(&tensor.name, &single);
    }
    Ok(())
}

fn value_type(of: &mut TypeProto) {
    match &mut of.value {
        Some(Value::TensorType(tensor)) if is_half(tensor.elem_type.into()) => tensor.elem_type = DType::F32.to_onnx(),
        Some(Value::SequenceType(sequence)) => sequence.elem_type.as_mut().into_iter().for_each(value_type),
        Some(Value::OptionalType(optional)) => optional.elem_type.as_mut().into_iter().for_each(value_type),
        _ => {}
    }
}

/// Puts a cast after every input that is a half, unless the model itself does nothing else with it.
fn cast_inputs(graph: &mut Graph) {
    let single = i64::from(DType::F32.to_onnx());
    let casts = |node: &Node| node.domain.is_empty() && node.op == "Cast" && node.int("to") == Some(single);
    let reads = |node: &Node, name: &Name| node.inputs.contains(&Some(name.clone())) || node.captured().contains(name);
    let mut renamed = BTreeMap::new();
    let mut nodes = Vec::new();
    for input in graph.inputs.iter().filter(|input| is_half(input.dtype.to_onnx().into())) {
        if graph.nodes.iter().all(|node| casts(node) || !reads(node, &input.name)) {
            continue;
        }
        let output = Name::from(format!("{MADE}{}", input.name));
        nodes.push(Node {
            name: output.to_string(),
            domain: String::new(),
            op: "Cast".into(),
            inputs: vec![Some(input.name.clone())],
            outputs: vec![Some(output.clone())],
            attributes: vec![attribute("to", single)],
        });
        renamed.insert(input.name.clone(), output);
    }
    if !renamed.is_empty() {
        graph.nodes.iter_mut().for_each(|node| node.rename_inputs(&renamed));
        graph.nodes.splice(0..0, nodes);
    }
}
