//! A bounded walk over the wire format of a model, before the protobuf parser sees the bytes.
//!
//! It finds where the data of every tensor lies, and refuses what the parser would take in
//! without bound or in more than one sense: groups (the parser descends into them without a
//! limit), deep nesting, fields that may be given once but are given twice (parsers differ:
//! merge or replace), and tensors with their data in several fields. It keeps a stack of its
//! own, so that no input can overflow the thread's.

use super::schema::{Form, Message, field};
use super::{Limits, ModelError, WireFault};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where in the model a message stands, as far as its tensors can be weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Model,
    Graph,
    /// Index of the node.
    Node(usize),
    /// Indices of the node and of its attribute.
    Attribute(usize, usize),
    /// Index of the initializer of the main graph.
    Initializer(usize),
    /// The single tensor of an attribute of a node of the main graph.
    AttributeTensor(usize, usize),
    Elsewhere,
}

/// Where the data of a tensor lies in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct TensorBytes {
    pub raw: Option<Range<usize>>,
    /// Elements of float_data or double_data in order: packed chunks or single values.
    pub values: Vec<Range<usize>>,
}

struct Frame {
    message: Message,
    slot: Slot,
    end: usize,
    /// Bit n is set once field n has been seen.
    seen: u64,
    /// Fields 1 (node) and 5 (initializer, attribute) counted so far.
    nodes: usize,
    fives: usize,
    data: TensorBytes,
}

impl Frame {
    fn new(message: Message, slot: Slot, end: usize) -> Frame {
        Frame { message, slot, end, seen: 0, nodes: 0, fives: 0, data: TensorBytes::default() }
    }

    /// The slot of the child in field `number`.
    fn child(&mut self, number: u64) -> Slot {
        match (self.slot, number) {
            (Slot::Model, 7) => Slot::Graph,
            (Slot::Graph, 1) => Slot::Node(count(&mut self.nodes)),
            (Slot::Graph, 5) => Slot::Initializer(count(&mut self.fives)),
            (Slot::Node(node), 5) => Slot::Attribute(node, count(&mut self.fives)),
            (Slot::Attribute(node, attribute), 5) => Slot::AttributeTensor(node, attribute),
            _ => Slot::Elsewhere,
        }
    }
}

fn count(counter: &mut usize) -> usize {
    *counter += 1;
    *counter - 1
}

/// Checks the bytes of a ModelProto against `limits` and gives the ranges of the tensors that
/// are initializers or attributes of nodes of the main graph.
pub(super) fn walk(bytes: &[u8], limits: &Limits) -> Result<BTreeMap<Slot, TensorBytes>, ModelError> {
    let mut walk = Walk { bytes, at: 0, limits, tensors: BTreeMap::new(), fields: 0, messages: 0, nodes: 0 };
    match walk.run() {
        Ok(()) => Ok(walk.tensors),
        Err(ModelError::Wire { offset, fault }) => Err(recognise(bytes).unwrap_or(ModelError::Wire { offset, fault })),
        Err(other) => Err(other),
    }
}

/// A better message for bytes that are no ONNX model but something well known.
fn recognise(bytes: &[u8]) -> Option<ModelError> {
    let head = &bytes[..bytes.len().min(64)];
    let fault = match head {
        [] => WireFault::Empty,
        _ if head.starts_with(b"version https://git-lfs") => WireFault::LfsPointer,
        _ if head.get(4..8) == Some(b"ORTM") => WireFault::OrtFormat,
        _ if head.iter().all(|b| matches!(b, b' '..=b'~' | b'\t' | b'\r' | b'\n')) => WireFault::Text,
        _ => return None,
    };
    Some(ModelError::Wire { offset: 0, fault })
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
    tensors: BTreeMap<Slot, TensorBytes>,
    fields: u64,
    messages: u64,
    nodes: u64,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), ModelError> {
        if self.bytes.is_empty() {
            return fault(0, WireFault::Empty);
        }
        let mut stack = vec![Frame::new(Message::Model, Slot::Model, self.bytes.len())];
        while let Some(frame) = stack.last_mut() {
            if self.at < frame.end {
                if let Some(child) = self.field(frame)? {
                    stack.push(child);
                    limit("depth of nested messages", stack.len() as u64, self.limits.max_depth as u64)?;
                }
            } else if let Some(done) = stack.pop()
                && matches!(done.slot, Slot::Initializer(_) | Slot::AttributeTensor(..))
            {
                self.tensors.insert(done.slot, done.data);
            }
        }
        Ok(())
    }

    /// Passes one field; gives the frame to enter where the field is a known message.
    fn field(&mut self, frame: &mut Frame) -> Result<Option<Frame>, ModelError> {
        let start = self.at;
        self.fields += 1;
        limit("number of fields", self.fields, self.limits.max_fields)?;
        let tag = self.varint(frame.end)?;
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        if wire == 3 || wire == 4 {
            return fault(start, WireFault::Group);
        }
        if wire > 5 {
            return fault(start, WireFault::WireType(wire));
        }
        if number == 0 || number >= 1 << 29 {
            return fault(start, WireFault::FieldNumber(number));
        }
        let known = field(frame.message, number);
        if let Some((form, repeated)) = known {
            self.check(frame, start, number, wire, form, repeated)?;
        }
        let content = self.content(wire, frame.end)?;
        let Some((form, _)) = known else { return Ok(None) };
        if let Form::Sub(message) = form {
            self.messages += 1;
            self.nodes += u64::from(message == Message::Node);
            limit("number of messages", self.messages, self.limits.max_messages)?;
            limit("number of nodes", self.nodes, self.limits.max_nodes)?;
            self.at = content.start;
            return Ok(Some(Frame::new(message, frame.child(number), content.end)));
        }
        self.value(form, wire, &content)?;
        if frame.message == Message::Tensor {
            match number {
                9 => frame.data.raw = Some(content),
                4 | 10 => frame.data.values.push(content),
                _ => (),
            }
        }
        Ok(None)
    }

    /// Checks a known field's wire type, and that it does not contradict the fields before it.
    fn check(
        &self,
        frame: &mut Frame,
        start: usize,
        number: u64,
        wire: u8,
        form: Form,
        repeated: bool,
    ) -> Result<(), ModelError> {
        let message = frame.message.name();
        let fits = match form {
            Form::Varint => wire == 0 || (repeated && wire == 2),
            Form::Fixed64 => wire == 1 || (repeated && wire == 2),
            Form::Fixed32 => wire == 5 || (repeated && wire == 2),
            Form::Bytes | Form::Text | Form::Sub(_) => wire == 2,
        };
        if !fits {
            return fault(start, WireFault::FieldType { message, number, wire_type: wire });
        }
        let bit = 1 << number;
        if !repeated && frame.seen & bit != 0 {
            return fault(start, WireFault::Repeated { message, number });
        }
        frame.seen |= bit;
        if frame.message == Message::Tensor {
            const DATA: u64 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11;
            let data = frame.seen & DATA;
            if data.count_ones() > 1 {
                return fault(start, WireFault::TwoData);
            }
            if data != 0 && frame.seen & (1 << 13) != 0 {
                return fault(start, WireFault::InsideAndOutside);
            }
        }
        Ok(())
    }

    /// Passes a field's content and gives its range, without the length before it.
    fn content(&mut self, wire: u8, end: usize) -> Result<Range<usize>, ModelError> {
        let mut start = self.at;
        let length = match wire {
            0 => {
                self.varint(end)?;
                return Ok(start..self.at);
            }
            1 => 8,
            5 => 4,
            _ => {
                let length = self.varint(end)?;
                start = self.at;
                length
            }
        };
        let left = (end - start) as u64;
        if length > left {
            return fault(start, WireFault::Truncated { missing: length - left });
        }
        self.at = start + length as usize;
        Ok(start..self.at)
    }

    /// Checks the content of a known field that is not a message.
    fn value(&mut self, form: Form, wire: u8, content: &Range<usize>) -> Result<(), ModelError> {
        match form {
            Form::Text => match std::str::from_utf8(&self.bytes[content.clone()]) {
                Ok(_) => Ok(()),
                Err(error) => fault(content.start + error.valid_up_to(), WireFault::Utf8),
            },
            Form::Varint if wire == 2 => {
                self.at = content.start;
                while self.at < content.end {
                    self.varint(content.end)?;
                }
                Ok(())
            }
            Form::Fixed32 if !content.len().is_multiple_of(4) => fault(content.start, WireFault::PartElement),
            Form::Fixed64 if !content.len().is_multiple_of(8) => fault(content.start, WireFault::PartElement),
            _ => Ok(()),
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64, ModelError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return fault(start, WireFault::Truncated { missing: 1 });
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        fault(start, WireFault::LongVarint)
    }
}

fn fault<T>(offset: usize, fault: WireFault) -> Result<T, ModelError> {
    Err(ModelError::Wire { offset, fault })
}

pub(super) fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), ModelError> {
    if found > limit { Err(ModelError::Limit { what, found, limit }) } else { Ok(()) }
}
