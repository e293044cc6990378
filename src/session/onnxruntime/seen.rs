//! Outputs that differ in shape alone from what a node computes: the runtime would copy them.

use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use crate::tensor::DType;
use std::collections::BTreeMap;

/// An output of a graph, as a session sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// Which of the outputs of the session it is.
    pub index: usize,
    /// Its own shape, where that of the session's output is another one.
    pub shape: Option<Vec<usize>>,
}

/// Has the graph give what its outputs are made of by nodes that change the shape alone; how its own outputs, in their
/// order, are seen then.
pub(super) fn through(graph: &mut Graph, kinds: &Kinds) -> Vec<Seen> {
    let made: BTreeMap<&Name, &Node> =
        graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten().map(move |name| (name, node))).collect();
    let operand = |name: &Name| made.get(name).filter(|node| reshapes(node)).and_then(|node| node.input(0));
    let before = |name: &Name| operand(name).filter(|operand| made.contains_key(operand)).cloned();
    let (mut outputs, mut seen) = (vec![], vec![]);
    for name in &graph.outputs {
        let (source, shape) = match kinds.get(name) {
            Some((DType::F32, shape)) => {
                let source = std::iter::successors(Some(name.clone()), before).last().unwrap_or(name.clone());
                let moved = source != *name;
                (source, moved.then(|| shape.clone()))
            }
            _ => (name.clone(), None),
        };
        let index = outputs.iter().position(|known| *known == source).unwrap_or(outputs.len());
        if index == outputs.len() {
            outputs.push(source);
        }
        seen.push(Seen { index, shape });
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
    use super::*;

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
        let shapes = [(0, Some(vec![3])), (0, None), (1, None), (2, None)];
        assert_eq!(seen, shapes.map(|(index, shape)| Seen { index, shape }));

        let mut other = graph.clone();
        let seen = through(&mut other, &kinds(DType::F16));
        assert_eq!(other.outputs, graph.outputs);
        assert!(seen.iter().enumerate().all(|(i, seen)| seen.index == i && seen.shape.is_none()));
    }
}
