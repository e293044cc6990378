//! Nodes that become simpler ones once types and constants are known.

use super::samples::Facts;
use crate::graph::{Name, Node, attribute};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn settle(node: &mut Node, facts: &Facts, constants: &BTreeMap<Name, Arc<Tensor>>) {
    match (&*node.domain, &*node.op) {
        ("", "CastLike") => settle_type(node, facts),
        ("", "Pad") => settle_pads(node, constants),
        _ => {}
    }
}

/// A cast to the type of another value becomes a cast to that type: the other value has no part in it.
fn settle_type(node: &mut Node, facts: &Facts) {
    if let Some((dtype, _)) = node.output().ok().and_then(|output| facts.kinds.get(output)) {
        node.op = "Cast".into();
        node.inputs.truncate(1);
        node.attributes.push(attribute("to", i64::from(dtype.to_onnx())));
    }
}

/// A Pad of nothing, which exporters write where a size has to be a multiple and is one already, becomes its operand.
fn settle_pads(node: &mut Node, constants: &BTreeMap<Name, Arc<Tensor>>) {
    let pads = node.input(1).and_then(|pads| constants.get(pads)).and_then(|pads| pads.to_i64());
    if pads.is_some_and(|pads| pads.iter().all(|&pad| pad == 0)) {
        node.op = "Identity".into();
        node.inputs.truncate(1);
        node.attributes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_of_nothing_is_its_operand() {
        let name = |name: &str| Some(Name::from(name));
        let found = |pads: &[i64]| {
            let mut node = Node {
                name: String::new(),
                domain: String::new(),
                op: "Pad".into(),
                inputs: vec![name("x"), name("pads"), name("value")],
                outputs: vec![name("y")],
                attributes: vec![attribute("mode", "reflect")],
            };
            let pads = Tensor::I64(ndarray::Array1::from(pads.to_vec()).into_dyn());
            settle(&mut node, &Facts::default(), &[("pads".into(), Arc::new(pads))].into());
            (node.op, node.inputs.len(), node.attributes.len())
        };
        assert_eq!(found(&[0, 0, 0, 0]), ("Identity".into(), 1, 0));
        assert_eq!(found(&[0, 1, 0, 0]), ("Pad".into(), 3, 1));
    }
}
