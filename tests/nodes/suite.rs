//! One case of the suite: a model, values for its inputs, and the outputs it should give.

use onnx_protobuf::type_proto::Value;
use onnx_protobuf::{Message, ModelProto, TensorProto, ValueInfoProto};
use onnx_unlearn::graph::{Graph, Name};
use onnx_unlearn::model::{Limits, Model, inline};
use onnx_unlearn::tensor::Tensor;
use std::fs;
use std::path::Path;

/// The names of all cases, sorted.
pub fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The operator that a case tests; for a function written out, the one that it defines.
pub fn operator(data: &Path, name: &str) -> String {
    let name = name.split_once("_expanded").map_or(name, |(function, _)| function);
    match proto(&data.join(name)).as_ref().map(|model| model.graph.node.as_slice()) {
        Ok([node]) if ["", "ai.onnx"].contains(&node.domain.as_str()) => node.op_type.clone(),
        Ok([node]) => format!("{}.{}", node.domain, node.op_type),
        _ => "-".into(),
    }
}

pub struct Case {
    pub graph: Graph,
    pub inputs: Vec<(Name, Tensor)>,
    pub outputs: Vec<(Name, Tensor)>,
}

/// Types of `TensorProto.DataType` that are floating point, those of 4 and 8 bits included.
const FLOATS: [i32; 10] = [1, 10, 11, 16, 17, 18, 19, 20, 23, 24];

/// Why the case has no gradient by its types alone.
pub fn without_gradient(folder: &Path) -> Option<String> {
    let model = proto(folder).ok()?;
    let types = |list: &[ValueInfoProto]| list.iter().map(elements).collect::<Vec<_>>();
    let (inputs, outputs) = (types(&model.graph.input), types(&model.graph.output));
    let none = |types: &[Option<i32>]| types.iter().all(|t| t.is_some_and(|t| !FLOATS.contains(&t)));
    match (none(&inputs), none(&outputs)) {
        (true, _) => Some("no floating-point input".into()),
        (_, true) => Some("no floating-point output".into()),
        _ => None,
    }
}

/// The type of a value's elements, through sequences and optional values.
fn elements(info: &ValueInfoProto) -> Option<i32> {
    let mut found = info.type_.as_ref()?;
    loop {
        match found.value.as_ref()? {
            Value::TensorType(tensor) => return Some(tensor.elem_type),
            Value::SequenceType(sequence) => found = sequence.elem_type.as_ref()?,
            Value::OptionalType(optional) => found = optional.elem_type.as_ref()?,
            _ => return None,
        }
    }
}

fn proto(folder: &Path) -> Result<ModelProto, String> {
    let bytes = fs::read(folder.join("model.onnx")).map_err(|e| e.to_string())?;
    ModelProto::parse_from_bytes(&bytes).map_err(|e| e.to_string())
}

impl Case {
    pub fn read(folder: &Path) -> Result<Case, String> {
        let proto = proto(folder)?;
        let model = Model::read(&folder.join("model.onnx"), &Limits::default()).map_err(|e| e.to_string());
        let model = model.map_err(|e| e.split_once("model.onnx: ").map_or(e.clone(), |(_, rest)| rest.into()))?;
        let graph = Graph::new(&model).map_err(|e| e.to_string())?;
        let all = |list: &[ValueInfoProto], kind: &str| {
            let value = |(i, info): (usize, &ValueInfoProto)| {
                if !matches!(info.type_.value, Some(Value::TensorType(_))) {
                    return Err(format!("{kind} '{}' is a sequence or an optional value", info.name));
                }
                let file = folder.join(format!("test_data_set_0/{kind}_{i}.pb"));
                let bytes = fs::read(file).map_err(|e| e.to_string())?;
                let tensor = TensorProto::parse_from_bytes(&bytes).map_err(|e| e.to_string())?;
                Ok((Name::from(info.name.as_str()), inline(&tensor).map_err(|e| e.to_string())?))
            };
            list.iter().enumerate().map(value).collect::<Result<Vec<_>, String>>()
        };
        let (inputs, outputs) = (all(&proto.graph.input, "input")?, all(&proto.graph.output, "output")?);
        Ok(Case { graph, inputs, outputs })
    }
}
