//! Outputs that differ in shape alone from what a node computes, or are images with their channels last: the runtime would
//! copy them.

use super::last;
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use crate::tensor::DType;
use std::collections::BTreeMap;

/// An output of a graph, as a session sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// Which of the outputs of the session it is.
    pub index: usize,
    pub form: Form,
}

/// How an output differs from that of the session.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Same,
    /// It has this shape.
    Shaped(Vec<usize>),
    /// The session has its channels last.
    Last,
}

/// Has the graph give what its outputs are made of by nodes that change the shape or the place of channels
/// alone; how its own outputs, in their order, are seen then.
pub(super) fn through(graph: &mut Graph, kinds: &Kinds) -> Vec<Seen> {
    let made: BTreeMap<&Name, &Node> =
        graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().map(move |name| (name, node))).collect();
    let operand = |name: &Name| made.get(name).filter(|node| reshapes(node)).and_then(|node| node.input(0));
    let before = |name: &Name| operand(name).filter(|operand| made.contains_key(operand)).cloned();
    let images = |name: &Name| made.get(name).filter(|node| last::moves(node, last::FIRST))?.input(0);
    let moved = |name: &Name| images(name).filter(|name| made.contains_key(name));
    let (mut outputs, mut seen) = (vec![], vec![]);
    for name in &graph.outputs {
        let (source, form) = match (kinds.get(name), moved(name)) {
            (Some((DType::F32, _)), Some(images)) => (images.clone(), Form::Last),
            (Some((DType::F32, shape)), None) => {
                let source = std::iter::successors(Some(name.clone()), before).last().unwrap_or(name.clone());
                let form = if source == *name { Form::Same } else { Form::Shaped(shape.clone()) };
                (source, form)
            }
            _ => (name.clone(), Form::Same),
        };
        let index = outputs.iter().position(|known| *known == source).unwrap_or(outputs.len());
        if index == outputs.len() {
            outputs.push(source);
        }
        seen.push(Seen { index, form });
    }
    graph.outputs = outputs;
    graph.prune();
    seen
}

/// Whether a node gives its operand another shape and nothing else.
pub(super) fn reshapes(node: &Node) -> bool {
    node.reshapes() || (node.domain.is_empty() && node.op == "Identity")
}

#[cfg(test)]
mod tests {
    use super::super::operators::tests::Built;
    use super::*;
    use crate::graph::attribute;

    #[test]
    fn shapes_alone_are_no_outputs_of_their_own() {
        let name = |name: &str| Some(Name::from(name));
        let node = |op: &str, input: &str, output: &str| Node {
            name: String::new(),
            domain: String::new(),
            op: op.into(),
            inputs: vec![name(input)],
            outputs: vec![name(output)],
            attributes: vec![],
        };
        let kinds = |dtype| {
            let kinds = ["a", "b", "c", "d", "e"].into_iter().enumerate();
            kinds.map(|(i, name)| (Name::from(name), (dtype, vec![i]))).collect::<Kinds>()
        };
        let graph = Graph {
            nodes: vec![
                node("Flatten", "x", "a"),
                node("Relu", "a", "b"),
                node("Reshape", "b", "c"),
                node("Squeeze", "c", "d"),
                node("Relu", "d", "e"),
            ],
            constants: BTreeMap::new(),
            inputs: vec![],
            outputs: ["d", "b", "e", "a"].map(Name::from).to_vec(),
            opsets: BTreeMap::new(),
            ir_version: 9,
        };
        let mut new = graph.clone();
        let seen = through(&mut new, &kinds(DType::F32));
        // An input of the graph is none of its outputs: the first Flatten stays.
        assert_eq!(new.outputs, ["b", "e", "a"].map(Name::from));
        let forms = [(0, Form::Shaped(vec![3])), (0, Form::Same), (1, Form::Same), (2, Form::Same)];
        assert_eq!(seen, forms.map(|(index, form)| Seen { index, form }));

        let mut other = graph.clone();
        let seen = through(&mut other, &kinds(DType::F16));
        assert_eq!(other.outputs, graph.outputs);
        assert!(seen.iter().enumerate().all(|(i, seen)| seen.index == i && seen.form == Form::Same));
    }

    #[test]
    fn images_with_their_channels_last_are_not_moved() {
        let mut built = Built::new(&[2, 3, 4, 5], &["b", "a"]);
        built.node("Relu", &["x"], &["h"], &[2, 4, 5, 3], vec![]);
        built.node("Transpose", &["h"], &["a"], &[2, 3, 4, 5], vec![attribute("perm", vec![0, 3, 1, 2])]);
        built.node("Transpose", &["h"], &["b"], &[2, 3, 5, 4], vec![attribute("perm", vec![0, 3, 2, 1])]);
        let seen = through(&mut built.graph, &built.kinds);
        assert_eq!(built.graph.outputs, ["b", "h"].map(Name::from));
        assert_eq!(seen, [Seen { index: 0, form: Form::Same }, Seen { index: 1, form: Form::Last }]);
    }
}
