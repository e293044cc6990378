//! Nodes written as `y, z = Op<name=1, list=[1,2], real=0.5, text="x">(a, , b)`, one after another with
//! `;` between. An operator of another domain is written `domain.Op`. An absent operand is left out between its commas.
//! A body is an attribute `{#i, ?c, a -> nodes -> y, z}`: its inputs, of which `#i` is an integer and `?c` a truth value,
//! its nodes, its outputs.

use onnx_protobuf::{AttributeProto, GraphProto, TypeProto, ValueInfoProto, type_proto};
use onnx_unlearn::graph::{Graph, Name, Node, attribute, to_model_proto};
use std::collections::BTreeMap;

/// The nodes of a text.
///
/// # Panics
/// The text is not of the form above.
pub fn nodes(text: &str) -> Vec<Node> {
    split(text, ';').into_iter().map(|statement| node(statement.trim())).collect()
}

/// The parts between separators that stand in neither brackets nor quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut quoted) = (0, false);
    let between = |c: char| {
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        quoted ^= c == '"';
        c == separator && depth == 0 && !quoted
    };
    text.split(between).collect()
}

fn node(text: &str) -> Node {
    let (outputs, call) = text.split_once(" = ").unwrap_or_else(|| panic!("'{text}' has no ' = '"));
    let head = split(call, '(')[0];
    let inputs =
        call[head.len()..].strip_prefix('(').and_then(|c| c.strip_suffix(')')).expect("operands in parentheses");
    let (op, attributes) = match head.split_once('<') {
        Some((op, rest)) => (op, self::attributes(rest.strip_suffix('>').expect("attributes in <>"))),
        None => (head, vec![]),
    };
    let inputs = if inputs.is_empty() { vec![] } else { names(inputs) };
    let outputs = names(outputs);
    let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
    Node { name: String::new(), domain: domain.into(), op: op.into(), inputs, outputs, attributes }
}

fn names(text: &str) -> Vec<Option<Name>> {
    text.split(',').map(str::trim).map(|name| (!name.is_empty()).then(|| name.into())).collect()
}

fn attributes(text: &str) -> Vec<AttributeProto> {
    split(text, ',').into_iter().map(|pair| pair.trim().split_once('=').expect("name=value")).map(value).collect()
}

fn value((name, text): (&str, &str)) -> AttributeProto {
    let int = |text: &str| text.trim().parse::<i64>().expect("an integer");
    let number = |text: &str| text.parse::<f32>().expect("a number");
    if let Some(body) = text.strip_prefix('{') {
        return attribute(name, self::body(body.strip_suffix('}').expect("a body in {}")));
    }
    if let Some(list) = text.strip_prefix('[') {
        let items = list.trim_end_matches(']').split(',').map(str::trim).filter(|item| !item.is_empty());
        return match list.as_bytes() {
            [b'"', ..] => attribute(name, items.map(|item| item.trim_matches('"')).collect::<Vec<&str>>()),
            _ if list.contains('.') => attribute(name, items.map(number).collect::<Vec<f32>>()),
            _ => attribute(name, items.map(int).collect::<Vec<i64>>()),
        };
    }
    match (text.strip_prefix('"'), text.contains('.')) {
        (Some(string), _) => attribute(name, string.trim_end_matches('"')),
        (None, true) => attribute(name, number(text)),
        (None, false) => attribute(name, int(text)),
    }
}

fn body(text: &str) -> GraphProto {
    let (inputs, rest) = text.split_once("->").expect("inputs");
    let (nodes, outputs) = rest.rsplit_once("->").expect("outputs");
    let graph = Graph {
        nodes: self::nodes(nodes),
        constants: BTreeMap::new(),
        inputs: vec![],
        outputs: names(outputs).into_iter().flatten().collect(),
        opsets: BTreeMap::new(),
        ir_version: 8,
    };
    let mut proto = to_model_proto(&graph, |_| None).graph.unwrap_or_default();
    proto.input = names(inputs).into_iter().flatten().map(|name| formal(&name)).collect();
    proto.name = "body".into();
    proto
}

fn formal(text: &str) -> ValueInfoProto {
    let name = text.trim_start_matches(['#', '?']);
    let elem_type = match text.chars().next() {
        Some('#') => 7,
        Some('?') => 9,
        _ => return ValueInfoProto { name: name.into(), ..Default::default() },
    };
    let tensor = type_proto::Tensor { elem_type, shape: Some(Default::default()).into(), ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: Some(kind).into(), ..Default::default() }
}
