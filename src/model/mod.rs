//! Reading a model: from bytes to a checked protobuf message, with limits on everything, and
//! with the place of every tensor in the file.

mod check;
mod decode;
mod error;
mod external;
mod places;
mod schema;
mod wire;

pub use decode::inline;
pub(crate) use error::type_name;
pub use error::{ExternalFault, GraphFault, ModelError, TensorFault, WireFault};
pub use external::ExternalFile;
pub(crate) use external::same_file;
pub(crate) use places::ExternalRange;
pub use places::{Data, Place};

use crate::tensor::{DType, Tensor};
use external::{ReadFault, Store, read_regular};
use onnx_protobuf::type_proto::Value;
use onnx_protobuf::{Message, ModelProto, TensorProto, ValueInfoProto};
use protobuf::CodedInputStream;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Bounds on what is read.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the model file; protobuf itself ends at 2 GiB.
    pub max_file_bytes: u64,
    /// Nodes in all graphs and functions together.
    pub max_nodes: u64,
    /// Protobuf messages of any kind.
    pub max_messages: u64,
    /// Protobuf fields of any kind, a packed array counting as one.
    pub max_fields: u64,
    /// Messages within messages; a graph in a node's attribute takes three levels.
    pub max_depth: u32,
    /// Bytes of the model file and of all its external data files together.
    pub max_total_weight_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_file_bytes: (1 << 31) - 1,
            max_nodes: 1_000_000,
            max_messages: 8_000_000,
            max_fields: 32_000_000,
            max_depth: 100,
            max_total_weight_bytes: 64 << 30,
        }
    }
}

/// An input or output of the main graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    pub name: String,
    /// None where the type is missing, not a tensor, or not one that is computed with.
    pub dtype: Option<DType>,
    /// None for a dimension that is symbolic or unknown.
    pub shape: Vec<Option<usize>>,
    /// Whether the model states a shape; without one, `shape` is empty and means nothing.
    pub ranked: bool,
}

/// A model that has been read and checked. What its files held when they were read, it keeps.
#[derive(Debug)]
pub struct Model {
    pub path: Option<PathBuf>,
    pub proto: ModelProto,
    bytes: Vec<u8>,
    sha256: String,
    opset: i64,
    places: BTreeMap<String, Place>,
    external: BTreeMap<String, ExternalFile>,
}

impl Model {
    /// Reads a model and its external data. Everything is checked but the meaning of the
    /// operators; weights may be NaN or infinite, see [`Model::first_not_finite`].
    pub fn read(path: &Path, limits: &Limits) -> Result<Model, ModelError> {
        let bytes = read_regular(path, limits.max_file_bytes).map_err(|fault| match fault {
            ReadFault::Io(error) => ModelError::Io(error),
            ReadFault::NotRegular => ModelError::NotRegular,
            ReadFault::TooLarge(found) => {
                ModelError::Limit { what: "bytes of the model file", found, limit: limits.max_file_bytes }
            }
        });
        bytes.and_then(|bytes| Model::parse(bytes, Some(path), limits)).map_err(|error| error.in_file(path))
    }

    /// A model from its bytes, which may not refer to external data.
    pub fn from_bytes(bytes: Vec<u8>, limits: &Limits) -> Result<Model, ModelError> {
        Model::parse(bytes, None, limits)
    }

    fn parse(bytes: Vec<u8>, path: Option<&Path>, limits: &Limits) -> Result<Model, ModelError> {
        wire::limit("bytes of the model file", bytes.len() as u64, limits.max_file_bytes)?;
        wire::limit("bytes of model and external data", bytes.len() as u64, limits.max_total_weight_bytes)?;
        let found = wire::walk(&bytes, limits)?;
        let mut proto = parse_proto(&bytes, limits)?;
        let opset = check::opset(&proto)?;
        check::check(&proto)?;
        let mut store = Store::new(path, limits, bytes.len() as u64);
        places::check(&proto, &mut store)?;
        let places = places::find(&proto.graph, &found, &store)?;
        // The file itself holds these bytes; once is enough.
        for tensor in &mut proto.graph.mut_or_insert_default().initializer {
            let place = places.get(&tensor.name).filter(|place| place.dtype.is_some());
            if place.is_some_and(|place| matches!(place.data, Data::Raw(_))) {
                tensor.raw_data = Vec::new();
            }
        }
        let external = store.files;
        let sha256 = sha256(&bytes);
        Ok(Model { path: path.map(Path::to_owned), proto, bytes, sha256, opset, places, external })
    }

    /// The model file as it is.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the model file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The model file, where it has a path, and the external data files, each with its SHA-256.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let model = self.path.iter().map(|path| (path.clone(), self.sha256.clone()));
        let external = self.external.values().map(|file| (file.path.clone(), file.sha256.clone()));
        model.chain(external).collect()
    }

    /// The external data files of all tensors, nested ones included, by location.
    pub fn external(&self) -> &BTreeMap<String, ExternalFile> {
        &self.external
    }

    /// Version of the default domain's operators, from 7 to 26.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The tensors of the main graph: initializers by name, values of Constant nodes by the
    /// name of the node's output.
    pub fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    /// The tensor with this name in [`Model::places`].
    pub fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let missing = || ModelError::NoSuchTensor { name: name.to_owned() };
        let place = self.places.get(name).ok_or_else(missing)?;
        let decode =
            |bytes: &[u8]| decode::from_bytes(place.data_type, &place.shape, bytes, &format!("tensor \"{name}\""));
        match &place.data {
            Data::Raw(range) => decode(&self.bytes[range.clone()]),
            Data::Typed { ranges } => {
                let chunks: Vec<&[u8]> = ranges.iter().map(|range| &self.bytes[range.clone()]).collect();
                decode(&chunks.concat())
            }
            Data::Empty => decode(&[]),
            Data::Varints | Data::External { .. } => self.value(self.proto_of(place).ok_or_else(missing)?),
        }
    }

    /// The elements of any tensor of this model's protobuf message, as of a nested graph or an
    /// attribute, wherever they are stored.
    pub fn value(&self, tensor: &TensorProto) -> Result<Tensor, ModelError> {
        if !decode::is_external(tensor) {
            return decode::inline(tensor);
        }
        let name = &format!("tensor \"{}\"", tensor.name);
        let shape = decode::check(tensor, name)?;
        let missing = || ModelError::NoSuchTensor { name: tensor.name.clone() };
        let at = external::reference(tensor, name, &shape)?.ok_or_else(missing)?;
        let file = self.external.get(&at.location).ok_or_else(missing)?;
        let end = at.offset.saturating_add(at.length);
        let bytes = file.bytes.get(at.offset as usize..end as usize).ok_or_else(missing)?;
        decode::from_bytes(tensor.data_type, &shape, bytes, name)
    }

    /// The message that holds the tensor of a place.
    pub(crate) fn proto_of(&self, place: &Place) -> Option<&TensorProto> {
        places::tensor_in(&self.proto.graph, place.slot)
    }

    /// What every tensor takes of the external data files.
    pub(crate) fn external_ranges(&self) -> Vec<ExternalRange> {
        places::external_ranges(&self.proto, &self.places)
    }

    /// The inputs of the main graph that no initializer gives a value.
    pub fn inputs(&self) -> Vec<ValueInfo> {
        let given: HashSet<&str> = self.proto.graph.initializer.iter().map(|t| t.name.as_str()).collect();
        self.proto.graph.input.iter().filter(|input| !given.contains(input.name.as_str())).map(value_info).collect()
    }

    pub fn outputs(&self) -> Vec<ValueInfo> {
        self.proto.graph.output.iter().map(value_info).collect()
    }

    /// The first floating-point tensor, by name, with an element that is NaN or infinite, and
    /// the flat index of that element.
    pub fn first_not_finite(&self) -> Result<Option<(String, usize)>, ModelError> {
        for place in self.places.values().filter(|place| place.dtype.is_some_and(DType::is_float)) {
            if let Some(index) = self.tensor(&place.name)?.first_not_finite() {
                return Ok(Some((place.name.clone(), index)));
            }
        }
        Ok(None)
    }
}

fn parse_proto(bytes: &[u8], limits: &Limits) -> Result<ModelProto, ModelError> {
    let mut input = CodedInputStream::from_bytes(bytes);
    input.set_recursion_limit(limits.max_depth);
    let mut proto = ModelProto::new();
    match proto.merge_from(&mut input) {
        Ok(()) => Ok(proto),
        Err(error) => {
            Err(ModelError::Wire { offset: input.pos() as usize, fault: WireFault::Parser(error.to_string()) })
        }
    }
}

fn value_info(value: &ValueInfoProto) -> ValueInfo {
    let tensor = match value.type_.as_ref().and_then(|t| t.value.as_ref()) {
        Some(Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let dims = shape.map(|shape| shape.dim.iter().map(size).collect());
    ValueInfo {
        name: value.name.clone(),
        dtype: tensor.and_then(|tensor| DType::from_onnx(tensor.elem_type)),
        shape: dims.unwrap_or_default(),
        ranked: shape.is_some(),
    }
}

fn size(dim: &onnx_protobuf::tensor_shape_proto::Dimension) -> Option<usize> {
    match dim.value {
        Some(onnx_protobuf::tensor_shape_proto::dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
