//! Nodes written as `y, z = Op<name=1, list=[1,2], real=0.5, text="x">(a, , b)`, one after another with
//! `;` between. An operator of another domain is written `domain.Op`. An absent operand is left out between its commas.

use onnx_protobuf::AttributeProto;
use onnx_unlearn::graph::{Name, Node, attribute};

/// The nodes of a text.
///
/// # Panics
/// The text is not of the form above.
pub fn nodes(text: &str) -> Vec<Node> {
    text.split(';').map(|statement| node(statement.trim())).collect()
}

fn node(text: &str) -> Node {
    let (outputs, call) = text.split_once(" = ").unwrap_or_else(|| panic!("'{text}' has no ' = '"));
    let (head, inputs) = call.strip_suffix(')').and_then(|c| c.split_once('(')).expect("operands in parentheses");
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
    let (mut depth, mut quoted) = (0, false);
    let between = |c: char| {
        depth += (c == '[') as i32 - (c == ']') as i32;
        quoted ^= c == '"';
        c == ',' && depth == 0 && !quoted
    };
    text.split(between).map(|pair| pair.trim().split_once('=').expect("name=value")).map(value).collect()
}

fn value((name, text): (&str, &str)) -> AttributeProto {
    let int = |text: &str| text.trim().parse::<i64>().expect("an integer");
    let number = |text: &str| text.parse::<f32>().expect("a number");
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
