//! What can be wrong with a model file: one variant per fault.

use crate::error::{Kind, printable};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a model cannot be read. The message names the file and the place, and where it can, what to do.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Any other fault, with the file it lies in. See [`ModelError::fault`].
    #[error("{}: {fault}", printable(&.file.to_string_lossy()))]
    InFile { file: PathBuf, fault: Box<ModelError> },
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    #[error("not a regular file; give the path of a file")]
    NotRegular,
    #[error("not an ONNX model: byte {offset}: {fault}")]
    Wire { offset: usize, fault: WireFault },
    #[error("{what}: {found} exceeds the limit of {limit}")]
    Limit { what: &'static str, found: u64, limit: u64 },
    #[error("not an ONNX model: it has no ir_version")]
    NoIrVersion,
    #[error("malformed model: it names no opset of the default domain")]
    NoOpset,
    #[error("malformed model: it names two opsets of the domain \"{}\"", printable(.domain))]
    TwoOpsets { domain: String },
    #[error(
        "opset {found} is not supported (7 to 26 are); convert the model with onnx.version_converter or export it again"
    )]
    Opset { found: i64 },
    #[error("malformed model: {}: {fault}", printable(.at))]
    Graph { at: String, fault: GraphFault },
    #[error("malformed model: {}: {fault}", printable(.tensor))]
    Tensor { tensor: String, fault: TensorFault },
    #[error("{}: external data at \"{}\": {fault}", printable(.tensor), printable(.location))]
    External { tensor: String, location: String, fault: ExternalFault },
    #[error("{}: elements of type {} are not supported", printable(.tensor), type_name(*.data_type))]
    UnsupportedType { tensor: String, data_type: i32 },
    #[error("the model has no initializer or constant named \"{}\"", printable(.name))]
    NoSuchTensor { name: String },
}

/// What is wrong with the bytes as a protobuf message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireFault {
    #[error("the file is empty")]
    Empty,
    #[error("this is a text file")]
    Text,
    #[error("this is a Git LFS pointer; fetch the file itself with `git lfs pull`")]
    LfsPointer,
    #[error("this is a model in ORT format; use the .onnx file it was made from")]
    OrtFormat,
    #[error("a field ends {missing} bytes past the end of what holds it; the file is truncated or damaged")]
    Truncated { missing: u64 },
    #[error("a number runs past 64 bits")]
    LongVarint,
    #[error("a protobuf group, which ONNX never uses")]
    Group,
    #[error("wire type {0} does not exist")]
    WireType(u8),
    #[error("field number {0} does not exist")]
    FieldNumber(u64),
    #[error("field {number} of {message} has wire type {wire_type}")]
    FieldType { message: &'static str, number: u64, wire_type: u8 },
    #[error("field {number} of {message} is given twice")]
    Repeated { message: &'static str, number: u64 },
    #[error("a name or text is not UTF-8")]
    Utf8,
    #[error("a packed field is cut in the middle of an element")]
    PartElement,
    #[error("the tensor holds its data in more than one field")]
    TwoData,
    #[error("the tensor holds data inside and outside the file")]
    InsideAndOutside,
    #[error("{0}")]
    Parser(String),
}

/// What is wrong with the graph.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphFault {
    #[error("there is no graph")]
    NoGraph,
    #[error("the graph has no nodes")]
    NoNodes,
    #[error("the graph has no outputs")]
    NoOutputs,
    #[error("an input or output without a name")]
    NoName,
    #[error("the node names no operator")]
    NoOperator,
    #[error("the value \"{}\" is defined twice", printable(.0))]
    DefinedTwice(String),
    #[error("nothing defines the value \"{}\"", printable(.0))]
    Undefined(String),
    #[error("the value \"{}\" is used before the node that computes it (a cycle, or nodes out of order)", printable(.0))]
    Unsorted(String),
    #[error("the attribute \"{}\" is given twice", printable(.0))]
    TwoAttributes(String),
    #[error("the function is defined twice")]
    TwoFunctions,
}

/// What is wrong with a tensor stored in the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TensorFault {
    #[error("an initializer without a name")]
    NoName,
    #[error("another initializer has the same name")]
    Duplicate,
    #[error("the element type is missing")]
    NoType,
    #[error("dimension {0} is negative")]
    NegativeDimension(i64),
    #[error("the product of its dimensions overflows")]
    Overflow,
    #[error("the tensor is split into segments, which is not supported")]
    Segment,
    #[error("its data lies in {found}, but its element type needs raw_data or {expected}")]
    WrongField { found: &'static str, expected: &'static str },
    #[error("{found} {unit} of data, but its shape and type need {expected}")]
    Length { found: u64, expected: u64, unit: &'static str },
    #[error("element {index} is {value}, which its type cannot hold")]
    OutOfRange { index: usize, value: i64 },
}

/// What is wrong with a reference to external data, or the file it leads to.
#[derive(Debug, Error)]
pub enum ExternalFault {
    #[error("the model is not read from a file, so there is no folder to look in")]
    NoFolder,
    #[error("the tensor has external_data but its data_location is not EXTERNAL")]
    NotDeclared,
    #[error("the location is missing")]
    NoLocation,
    #[error("the location must be a plain relative path inside the model's folder")]
    Location,
    #[error("the file lies outside the model's folder (a symbolic link leads there)")]
    Outside,
    #[error("the location is the model file itself")]
    IsModel,
    #[error("not a regular file")]
    NotRegular,
    #[error("unknown key \"{}\"", printable(.0))]
    Key(String),
    #[error("the key \"{}\" is given twice", printable(.0))]
    TwoKeys(String),
    #[error("the {key} \"{}\" is not a whole number from 0 to 2^63-1", printable(.value))]
    Number { key: &'static str, value: String },
    #[error("the length is {found} bytes, but shape and type of the tensor need {expected}")]
    Length { found: u64, expected: u64 },
    #[error("{length} bytes from byte {offset} on run past the end of the file ({size} bytes)")]
    PastEnd { offset: u64, length: u64, size: u64 },
    #[error("{0}; external data must lie beside the model")]
    Io(#[source] io::Error),
}

impl ModelError {
    /// The fault itself, without the name of the file.
    pub fn fault(&self) -> &ModelError {
        match self {
            ModelError::InFile { fault, .. } => fault.fault(),
            fault => fault,
        }
    }

    /// The kind of the failure, which decides the exit code.
    pub fn kind(&self) -> Kind {
        match self.fault() {
            ModelError::Io(_) | ModelError::NotRegular => Kind::Io,
            ModelError::External { fault: ExternalFault::Io(_) | ExternalFault::NotRegular, .. } => Kind::Io,
            ModelError::Limit { .. } => Kind::Limit,
            ModelError::Opset { .. } | ModelError::UnsupportedType { .. } => Kind::Unsupported,
            ModelError::Tensor { fault: TensorFault::Segment, .. } => Kind::Unsupported,
            ModelError::NoSuchTensor { .. } => Kind::Usage,
            _ => Kind::Malformed,
        }
    }

    pub(crate) fn in_file(self, file: &Path) -> ModelError {
        ModelError::InFile { file: file.to_owned(), fault: Box::new(self) }
    }
}

/// Name of a `TensorProto.DataType`, for messages.
pub(crate) fn type_name(data_type: i32) -> String {
    const NAMES: [&str; 24] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
    ];
    usize::try_from(data_type)
        .ok()
        .and_then(|i| NAMES.get(i))
        .map_or_else(|| format!("number {data_type}"), |name| (*name).to_owned())
}
