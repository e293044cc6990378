//! What alone reads the result of a convolution of ours, element by element, and is computed with it.

use super::convolutions::WinogradConv;
use super::operators::{DOMAIN, Layers};
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;

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
    let readers = graph.lone_readers();
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    for index in 0..nodes.len() {
        let Some(layer) = nodes[index].as_ref().and_then(|node| layers.of(node)) else { continue };
        let Some(mut node) = nodes[index].take() else { continue };
        let mut place = index;
        while let Some(&reader) = node.output().ok().and_then(|output| readers.get(output)) {
            let Some((operand, output)) = nodes[reader].as_ref().and_then(|next| layer.takes(&node, next, kinds))
            else {
                break;
            };
            node.inputs.extend(operand.map(Some));
            node.outputs = vec![Some(output)];
            nodes[reader] = None;
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
