//! The fields of the ONNX messages, as far as the walk over the wire format needs them.
//! Numbers as in `onnx.proto`, IR version 10; later fields are unknown ones and pass unread.

use Form::*;
use Message::*;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    SparseTensor,
    ValueInfo,
    Type,
    TypeTensor,
    TypeSequence,
    TypeMap,
    Shape,
    Dimension,
    Entry,
    Annotation,
    Training,
    Function,
    Opset,
}

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    Text,
    Sub(Message),
}

/// Form of a field and whether it may be repeated; none for unknown fields.
pub(super) fn field(of: Message, number: u64) -> Option<(Form, bool)> {
    let one = |form| Some((form, false));
    let many = |form| Some((form, true));
    match (of, number) {
        (Model, 1 | 5) => one(Varint),
        (Model, 2 | 3 | 4 | 6) => one(Text),
        (Model, 7) => one(Sub(Graph)),
        (Model, 8) => many(Sub(Opset)),
        (Model, 14) => many(Sub(Entry)),
        (Model, 20) => many(Sub(Training)),
        (Model, 25) => many(Sub(Function)),

        (Graph, 1) => many(Sub(Node)),
        (Graph, 2 | 10) => one(Text),
        (Graph, 5) => many(Sub(Tensor)),
        (Graph, 11..=13) => many(Sub(ValueInfo)),
        (Graph, 14) => many(Sub(Annotation)),
        (Graph, 15) => many(Sub(SparseTensor)),
        (Graph, 16) => many(Sub(Entry)),

        (Node, 1 | 2) => many(Text),
        (Node, 3 | 4 | 6 | 7 | 8) => one(Text),
        (Node, 5) => many(Sub(Attribute)),
        (Node, 9) => many(Sub(Entry)),

        (Attribute, 1 | 13 | 21) => one(Text),
        (Attribute, 2) => one(Fixed32),
        (Attribute, 3 | 20) => one(Varint),
        (Attribute, 4) => one(Bytes),
        (Attribute, 5) => one(Sub(Tensor)),
        (Attribute, 6) => one(Sub(Graph)),
        (Attribute, 7) => many(Fixed32),
        (Attribute, 8) => many(Varint),
        (Attribute, 9) => many(Bytes),
        (Attribute, 10) => many(Sub(Tensor)),
        (Attribute, 11) => many(Sub(Graph)),
        (Attribute, 14) => one(Sub(Type)),
        (Attribute, 15) => many(Sub(Type)),
        (Attribute, 22) => one(Sub(SparseTensor)),
        (Attribute, 23) => many(Sub(SparseTensor)),

        (Tensor, 1 | 5 | 7 | 11) => many(Varint),
        (Tensor, 2 | 14) => one(Varint),
        (Tensor, 3) => one(Sub(Segment)),
        (Tensor, 4) => many(Fixed32),
        (Tensor, 6) => many(Bytes),
        (Tensor, 8 | 12) => one(Text),
        (Tensor, 9) => one(Bytes),
        (Tensor, 10) => many(Fixed64),
        (Tensor, 13 | 16) => many(Sub(Entry)),
        (Segment, 1 | 2) => one(Varint),
        (SparseTensor, 1 | 2) => one(Sub(Tensor)),
        (SparseTensor, 3) => many(Varint),

        (ValueInfo, 1 | 3) => one(Text),
        (ValueInfo, 2) => one(Sub(Type)),
        (ValueInfo, 4) => many(Sub(Entry)),
        (Type, 1 | 8) => one(Sub(TypeTensor)),
        (Type, 4 | 9) => one(Sub(TypeSequence)),
        (Type, 5) => one(Sub(TypeMap)),
        (Type, 6) => one(Text),
        (TypeTensor, 1) => one(Varint),
        (TypeTensor, 2) => one(Sub(Shape)),
        (TypeSequence, 1) => one(Sub(Type)),
        (TypeMap, 1) => one(Varint),
        (TypeMap, 2) => one(Sub(Type)),
        (Shape, 1) => many(Sub(Dimension)),
        (Dimension, 1) => one(Varint),
        (Dimension, 2 | 3) => one(Text),

        (Entry, 1 | 2) => one(Text),
        (Annotation, 1) => one(Text),
        (Annotation, 2) => many(Sub(Entry)),
        (Training, 1 | 2) => one(Sub(Graph)),
        (Training, 3 | 4) => many(Sub(Entry)),

        (Function, 1 | 8 | 10 | 13) => one(Text),
        (Function, 4..=6) => many(Text),
        (Function, 7) => many(Sub(Node)),
        (Function, 9) => many(Sub(Opset)),
        (Function, 11) => many(Sub(Attribute)),
        (Function, 12) => many(Sub(ValueInfo)),
        (Function, 14) => many(Sub(Entry)),
        (Opset, 1) => one(Text),
        (Opset, 2) => one(Varint),
        _ => None,
    }
}

impl Message {
    /// Name in `onnx.proto`, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Model => "ModelProto",
            Graph => "GraphProto",
            Node => "NodeProto",
            Attribute => "AttributeProto",
            Tensor => "TensorProto",
            Segment => "TensorProto.Segment",
            SparseTensor => "SparseTensorProto",
            ValueInfo => "ValueInfoProto",
            Type => "TypeProto",
            TypeTensor => "TypeProto.Tensor",
            TypeSequence => "TypeProto.Sequence",
            TypeMap => "TypeProto.Map",
            Shape => "TensorShapeProto",
            Dimension => "TensorShapeProto.Dimension",
            Entry => "StringStringEntryProto",
            Annotation => "TensorAnnotation",
            Training => "TrainingInfoProto",
            Function => "FunctionProto",
            Opset => "OperatorSetIdProto",
        }
    }
}
