//! What alone reads the result of a convolution of ours, element by element, and is computed with it.

use super::convolutions::WinogradConv;
use super::operators::{DOMAIN, Layers};
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use std::collections::BTreeMap;

/// Whether a ReLU follows, or the gradient of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Relu {
    #[default]
    None,
    Value,
    /// An operand tells where it was positive.
    Gradient,
}

/// Has each convolution add another image where the next node does, and then take the ReLU after it, or the gradient
/// of one.
pub(super) fn with_convolutions(graph: &mut Graph, kinds: &Kinds, layers: &mut Layers<WinogradConv>) {
    let mut readers: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let read = node.inputs.iter().flatten().cloned().chain(node.captured());
        read.for_each(|name| readers.entry(name).or_default().push(index));
    }
    // Who wants an output of the graph is not known.
    let known = |name: &Name| !graph.outputs.contains(name);
    let next = |name: &Name| match readers.get(name).map(Vec::as_slice) {
        Some(&[index]) if known(name) => Some(index),
        _ => None,
    };
    let mut nodes: Vec<Option<Node>> = graph.nodes.iter().cloned().map(Some).collect();
    for index in 0..nodes.len() {
        let Some(mut node) = nodes[index].clone() else { continue };
        let Some(layer) = layers.of(&node) else { continue };
        let mut place = index;
        while let Some(reader) = node.output().ok().and_then(next) {
            let Some((operand, output)) = nodes[reader].as_ref().and_then(|next| layer.takes(&node, next, kinds))
            else {
                break;
            };
            node.inputs.extend(operand.map(Some));
            node.outputs = vec![Some(output)];
            nodes[place] = None;
            place = reader;
        }
        nodes[place] = Some(node);
    }
    graph.nodes = nodes.into_iter().flatten().collect();
}

impl WinogradConv {
    /// Takes over what the next node does with the output of a node of this layer, where it can; what that reads besides,
    /// and its output.
    fn takes(&mut self, node: &Node, next: &Node, kinds: &Kinds) -> Option<(Option<Name>, Name)> {
        let (own, output) = (node.output().ok()?, next.output().ok()?);
        let alike =
            next.inputs.iter().flatten().all(|name| kinds.get(name) == kinds.get(output)) && kinds.contains_key(output);
        let other = next.inputs.iter().flatten().find(|name| *name != own).cloned();
        match (&*next.domain, &*next.op, self.relu) {
            _ if !alike => return None,
            ("", "Add", Relu::None) if !self.adds => {
                other.as_ref()?;
                self.adds = true;
            }
            ("", "Relu", Relu::None) => self.relu = Relu::Value,
            (DOMAIN, "ReluGradient", Relu::None) if next.input(1) == Some(own) && other.is_some() => {
                self.relu = Relu::Gradient
            }
            _ => return None,
        }
        Some((other, output.clone()))
    }
}
