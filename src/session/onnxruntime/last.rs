//! Images with their channels last between our convolutions, which read and write them so: what computes one element from
//! another, adds up places or puts channels together does so in this order as well, and axes are moved where others begin.

use super::operators::{DOMAIN, SHAPE, plain};
use super::{convolutions, depthwise, implicit};
use crate::graph::{Graph, Name, Node, attribute, normalise};
use crate::session::Kinds;
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What new values are named after.
const PREFIX: &str = "onnx_unlearn/last";
/// The axes of images in the order in which they lie with their channels last, and back.
pub(super) const LAST: [usize; 4] = [0, 2, 3, 1];
pub(super) const FIRST: [usize; 4] = [0, 3, 1, 2];

/// Operators that compute each element of the output from those of the operands at its place.
#[rustfmt::skip]
const ELEMENTWISE: &[&str] = &[
    "Abs", "Add", "And", "Cast", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Greater", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Less", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu",
    "Sigmoid", "Sign", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
];
/// Those of ours.
const OURS: &[&str] = &["Gelu", "GeluGradient", "ReluGradient"];
/// Our convolutions, which know no other images.
const CONVOLUTIONS: &[&str] = &[convolutions::OPERATOR, depthwise::OPERATOR, implicit::OPERATOR];

/// Images that the graph itself takes from channels last, or there.
pub(super) fn ends(graph: &Graph) -> BTreeSet<Name> {
    let end = |node: &Node| match node {
        node if moves(node, FIRST) => node.output().ok().cloned(),
        node if moves(node, LAST) => node.input(0).cloned(),
        _ => None,
    };
    graph.nodes.iter().filter_map(end).collect()
}

/// Whether a node puts the axes of images in this order.
pub(super) fn moves(node: &Node, order: [usize; 4]) -> bool {
    node.op == "Transpose" && node.domain.is_empty() && node.order(order.len()) == order
}

/// Gives our convolutions images with their channels last, and tells the kinds of new values.
pub(super) fn between_convolutions(graph: &mut Graph, kinds: &mut Kinds) {
    let is_ours = |node: &Node, ops: &[&str]| node.domain == DOMAIN && ops.contains(&&*node.op);
    if !graph.nodes.iter().any(|node| is_ours(node, CONVOLUTIONS)) {
        return;
    }
    let constants = std::mem::take(&mut graph.constants);
    let (last, only, renamed) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let mut walk = Walk { kinds, constants, nodes: Vec::with_capacity(graph.nodes.len()), last, only, renamed };
    for mut node in std::mem::take(&mut graph.nodes) {
        node.rename_inputs(&walk.renamed);
        if walk.turned(&node) {
            continue;
        }
        if is_ours(&node, CONVOLUTIONS) {
            walk.convolution(node);
            continue;
        }
        let elementwise = is_ours(&node, OURS) || (node.domain.is_empty() && ELEMENTWISE.contains(&&*node.op));
        let done = (elementwise && walk.elementwise(&mut node)) || walk.reduction(&mut node) || walk.concat(&mut node);
        if !done {
            let read: Vec<Name> = node.inputs.iter().flatten().cloned().chain(node.captured()).collect();
            read.iter().for_each(|name| walk.first(name));
        }
        walk.nodes.push(node);
    }
    for name in &graph.outputs {
        walk.first(name);
        if let Some(there) = walk.renamed.get(name) {
            walk.nodes.push(plain("Identity", there, name, vec![]));
        }
    }
    (graph.nodes, graph.constants) = (walk.nodes, walk.constants);
    graph.prune();
}

/// Elements that are moved to or from channels last if a graph is changed so; outputs that nothing reads are
/// [seen](super::seen) where they are.
pub(super) fn moved(graph: &Graph, kinds: &Kinds) -> usize {
    let (mut graph, mut kinds) = (graph.clone(), kinds.clone());
    between_convolutions(&mut graph, &mut kinds);
    let read: BTreeSet<&Name> = graph.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).collect();
    let moved = graph.nodes.iter().filter(|node| moves(node, FIRST) || moves(node, LAST));
    let outputs = moved.filter_map(|node| node.output().ok()).filter(|output| read.contains(output));
    outputs.filter_map(|output| Some(kinds.get(output)?.1.iter().product::<usize>())).sum()
}

/// A graph on its way.
struct Walk<'a> {
    kinds: &'a mut Kinds,
    constants: BTreeMap<Name, Arc<Tensor>>,
    nodes: Vec<Node>,
    /// Values by the names that they have with their channels last.
    last: BTreeMap<Name, Name>,
    /// Those that are there in no other way.
    only: BTreeSet<Name>,
    /// Values that are others.
    renamed: BTreeMap<Name, Name>,
}

impl Walk<'_> {
    fn shape(&self, name: &Name) -> Option<&[usize]> {
        self.kinds.get(name).map(|(_, shape)| &shape[..])
    }

    /// Whether operands of a node are there with their channels last: one in no other way, or all images.
    fn is_wanted(&self, node: &Node) -> bool {
        let mut images = node.inputs.iter().flatten().filter(|name| self.shape(name).is_some_and(|s| s.len() == 4));
        let any = node.inputs.iter().flatten().any(|name| self.only.contains(name));
        any || (images.clone().next().is_some() && images.all(|name| self.last.contains_key(name)))
    }

    /// Gives a convolution of ours what it reads.
    fn convolution(&mut self, mut node: Node) {
        if let (Some(input), Ok(output)) = (node.input(0).cloned(), node.output().cloned()) {
            node.inputs[0] = Some(self.last(&input));
            self.give(&mut node, output);
        }
        self.nodes.push(node);
    }

    /// Has a node compute images with their channels last; false where it cannot, or nothing asks for it.
    fn elementwise(&mut self, node: &mut Node) -> bool {
        let operand = |name: &Name| match self.constants.get(name) {
            Some(constant) => constant.len() == 1 || of_channels(constant.shape()).is_some(),
            None => self.shape(name).is_some_and(|shape| shape.len() == 4),
        };
        let output = node.output().ok().filter(|output| self.shape(output).is_some_and(|shape| shape.len() == 4));
        let able = self.is_wanted(node) && node.inputs.iter().flatten().all(operand);
        let Some(output) = output.cloned().filter(|_| able) else { return false };
        for input in node.inputs.iter_mut().flatten() {
            *input = match self.constants.get(input).cloned() {
                Some(constant) => self.of_channels(input, &constant),
                None => self.last(input),
            };
        }
        self.give(node, output);
        true
    }

    /// Has a sum or mean over some axes read images with their channels last, where it keeps the others in their order.
    fn reduction(&mut self, node: &mut Node) -> bool {
        let (Some(input), Ok(output)) = (node.input(0).cloned(), node.output().cloned()) else { return false };
        let listed = node.input(1).map(|axes| self.constants.get(axes).and_then(|axes| axes.to_i64()));
        let axes = listed.unwrap_or_else(|| node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
        let axes: Option<BTreeSet<usize>> = axes.into_iter().map(|axis| normalise(axis, LAST.len())).collect();
        let Some(axes) = axes.filter(|axes| !axes.is_empty() && self.only.contains(&input)) else { return false };
        if !node.domain.is_empty() || !["ReduceSum", "ReduceMean"].contains(&&*node.op) {
            return false;
        }
        let keeps = node.int("keepdims").unwrap_or(1) != 0;
        let kept: Vec<usize> = LAST.into_iter().filter(|axis| !axes.contains(axis)).collect();
        if !keeps && !kept.is_sorted() {
            return false;
        }
        let moved: Vec<i64> = axes.iter().map(|&axis| FIRST[axis] as i64).collect();
        if node.input(1).is_some() {
            let list = Name::from(format!("{PREFIX}_axes_{}", moved.iter().map(i64::to_string).collect::<String>()));
            let tensor = Tensor::I64(ndarray::Array1::from(moved).into_dyn());
            self.constants.insert(list.clone(), Arc::new(tensor));
            node.inputs[1] = Some(list);
        } else {
            node.attributes.retain(|a| a.name != "axes");
            node.attributes.push(attribute("axes", moved));
        }
        node.inputs[0] = Some(self.last(&input));
        if keeps {
            self.give(node, output);
        }
        true
    }

    /// Has images put together channel by channel with their channels last.
    fn concat(&mut self, node: &mut Node) -> bool {
        let of_images =
            node.domain.is_empty() && node.op == "Concat" && node.axis("axis", 0, LAST.len()).ok() == Some(1);
        let Some(output) = node.output().ok().cloned().filter(|_| of_images && self.is_wanted(node)) else {
            return false;
        };
        if node.inputs.iter().flatten().any(|name| self.shape(name).is_none_or(|shape| shape.len() != 4)) {
            return false;
        }
        for input in node.inputs.iter_mut().flatten() {
            *input = self.last(input);
        }
        node.attributes = vec![attribute("axis", 3)];
        self.give(node, output);
        true
    }

    /// Lets a Transpose that takes channels to one end or the other move nothing, where that can be: then it is gone.
    fn turned(&mut self, node: &Node) -> bool {
        let (Some(input), Ok(output)) = (node.input(0), node.output()) else { return false };
        if moves(node, FIRST) {
            self.first(input);
            self.last.insert(output.clone(), input.clone());
            return self.only.insert(output.clone());
        }
        let there = self.last.get(input).filter(|_| moves(node, LAST));
        there.cloned().map(|there| self.renamed.insert(output.clone(), there)).is_some()
    }

    /// The name of an image with its channels last.
    fn last(&mut self, name: &Name) -> Name {
        if let Some(known) = self.last.get(name) {
            return known.clone();
        }
        let moved = self.named(name);
        self.nodes.push(transpose(name, &moved, LAST));
        moved
    }

    /// Sees to it that a value is there with its channels first.
    fn first(&mut self, name: &Name) {
        if self.only.remove(name) {
            self.nodes.push(transpose(&self.last[name], name, FIRST));
        }
    }

    /// Has a node give a value with its channels last.
    fn give(&mut self, node: &mut Node, output: Name) {
        // Nodes of ours tell the shape.
        if let Some(shape) = node.ints(SHAPE).map(|shape| LAST.map(|axis| shape[axis]).to_vec()) {
            node.attributes.retain(|a| a.name != SHAPE);
            node.attributes.push(attribute(SHAPE, shape));
        }
        node.outputs[0] = Some(self.named(&output));
        self.only.insert(output);
    }

    fn named(&mut self, name: &Name) -> Name {
        let moved = Name::from(format!("{PREFIX}/{name}"));
        if let Some((dtype, shape)) = self.kinds.get(name).cloned() {
            self.kinds.insert(moved.clone(), (dtype, LAST.map(|axis| shape[axis]).to_vec()));
        }
        self.last.insert(name.clone(), moved.clone());
        moved
    }

    /// The name of a constant of one number for each channel, or one in all, as it is used on images with channels last.
    fn of_channels(&mut self, name: &Name, constant: &Tensor) -> Name {
        let Some(channels) = of_channels(constant.shape()).filter(|_| constant.len() > 1) else { return name.clone() };
        let moved = Name::from(format!("{PREFIX}/{name}"));
        let reshaped = Tensor::from_le_bytes(constant.dtype(), &[channels], &constant.to_le_bytes());
        reshaped.map(|constant| self.constants.insert(moved.clone(), Arc::new(constant)));
        moved
    }
}

/// Channels of a constant `[1, channels, 1, 1]`, or without axes in front.
fn of_channels(shape: &[usize]) -> Option<usize> {
    match *shape {
        [channels, 1, 1] | [1, channels, 1, 1] => Some(channels),
        _ => None,
    }
}

fn transpose(from: &Name, to: &Name, order: [usize; 4]) -> Node {
    plain("Transpose", from, to, vec![attribute("perm", order.map(|axis| axis as i64).to_vec())])
}

#[cfg(test)]
mod tests {
    use super::super::operators::tests::{Built, counts, near};
    use super::*;
    use crate::session::onnxruntime::convolutions::by_tiles;
    use crate::session::onnxruntime::depthwise::by_channel;

    const IMAGES: [usize; 4] = [8, 32, 12, 12];

    /// Convolutions with 3×3 taps, and between them what can be computed with channels last.
    fn network(outputs: &[&str]) -> Built {
        let mut built = Built::new(&IMAGES, outputs);
        let pads = || vec![attribute("pads", vec![1; 4])];
        let keeps = |keeps: i64| vec![attribute("keepdims", keeps)];
        ["v", "w"].iter().for_each(|name| built.constant(name, &[32, 32, 3, 3]));
        built.constant("z", &[32, 64, 3, 3]);
        built.constant("scale", &[1, 32, 1, 1]);
        built.constant("shift", &[32, 1, 1]);
        built.constant("half", &[]);
        built.integers("places", &[2, 3]);
        built.integers("all but channels", &[0, 2, -1]);
        built.integers("rows", &[2]);
        built.node("Conv", &["x", "v"], &["a"], &IMAGES, pads());
        built.node("Mul", &["a", "scale"], &["b"], &IMAGES, vec![]);
        built.node("Add", &["b", "shift"], &["c"], &IMAGES, vec![]);
        built.node("Relu", &["c"], &["d"], &IMAGES, vec![]);
        built.node("ReduceMean", &["d"], &["squeezed"], &[8, 32, 1, 1], vec![attribute("axes", vec![2, 3])]);
        built.node("Mul", &["squeezed", "half"], &["excited"], &[8, 32, 1, 1], vec![]);
        built.node("Mul", &["d", "excited"], &["e"], &IMAGES, vec![]);
        built.node("Conv", &["e", "w"], &["f"], &IMAGES, pads());
        built.node("Add", &["f", "x"], &["g"], &IMAGES, vec![]);
        built.node("Relu", &["g"], &["h"], &IMAGES, vec![]);
        built.node("Concat", &["h", "d"], &["i"], &[8, 64, 12, 12], vec![attribute("axis", -3)]);
        built.node("Conv", &["i", "z"], &["j"], &IMAGES, pads());
        built.node("ReduceSum", &["j", "places"], &["of images"], &[8, 32], keeps(0));
        built.node("ReduceSum", &["j", "all but channels"], &["of channels"], &[32], keeps(0));
        built.node("ReduceSum", &["j", "rows"], &["of columns"], &[8, 32, 12], keeps(0));
        built.node("Transpose", &["j"], &["k"], &[12, 12, 32, 8], vec![attribute("perm", vec![3, 2, 1, 0])]);
        built
    }

    #[test]
    fn axes_are_moved_at_the_ends_alone() {
        let Built { mut graph, mut kinds } = network(&["of images", "of channels", "k"]);
        assert_eq!(by_tiles(&mut graph, &kinds, &|_| true, 2).iter().len(), 3);
        between_convolutions(&mut graph, &mut kinds);
        // To the first convolution and from the last, but for the Transpose that was there.
        assert_eq!(counts(&graph)["Transpose"], 3);
        let known = graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs)).flatten();
        assert!(known.clone().all(|name| kinds.contains_key(name) || graph.constants.contains_key(name)));
    }

    #[test]
    fn the_same_as_with_channels_first() {
        let built = network(&["j", "d", "of images", "of channels", "of columns", "k", "squeezed", "h"]);
        for rough in [true, false] {
            let [expected, found] = built.run(&|_| rough);
            found.iter().zip(&expected).for_each(|(found, expected)| near(found, expected));
        }
    }

    #[test]
    fn what_follows_is_computed_with_the_convolution() {
        let mut built = network(&["h"]);
        built.node("Relu", &["f"], &["other"], &IMAGES, vec![]);
        // The first addition and ReLU, of numbers for each channel, are not next to a convolution.
        for (outputs, left) in [(&["h"][..], [1, 1]), (&["h", "other"], [2, 3])] {
            built.graph.outputs = outputs.iter().map(|name| Name::from(*name)).collect();
            let (mut graph, mut kinds) = (built.graph.clone(), built.kinds.clone());
            graph.prune();
            let mut layers = by_tiles(&mut graph, &kinds, &|_| true, 2);
            between_convolutions(&mut graph, &mut kinds);
            super::super::after::with_convolutions(&mut graph, &kinds, &mut layers);
            let counts = counts(&graph);
            let count = |op: &str| counts.get(op).copied().unwrap_or(0);
            assert_eq!([count("Add"), count("Relu")], left);
        }
    }

    #[test]
    fn what_takes_channels_to_the_end_moves_nothing() {
        let mut built = Built::new(&IMAGES, &["e", "b", "f"]);
        let perm = |order: [usize; 4]| vec![attribute("perm", order.map(|axis| axis as i64).to_vec())];
        built.constant("w", &[32, 1, 5, 7]);
        built.constant("bias", &[32]);
        let attributes = vec![attribute("pads", vec![2, 3, 2, 3]), attribute("group", 32)];
        built.node("Conv", &["x", "w", "bias"], &["a"], &IMAGES, attributes);
        built.node("Transpose", &["a"], &["b"], &[8, 12, 12, 32], perm(LAST));
        built.node("Relu", &["b"], &["c"], &[8, 12, 12, 32], vec![]);
        built.node("Transpose", &["c"], &["d"], &IMAGES, perm(FIRST));
        built.node("Add", &["d", "x"], &["e"], &IMAGES, vec![]);
        built.node("MaxPool", &["d"], &["f"], &IMAGES, vec![attribute("kernel_shape", vec![1, 1])]);
        let (mut graph, mut kinds) = (built.graph.clone(), built.kinds.clone());
        assert_eq!(by_channel(&mut graph, &kinds).iter().len(), 1);
        between_convolutions(&mut graph, &mut kinds);
        // Of the input, and of what is put out and pooled with channels first.
        assert_eq!(counts(&graph)["Transpose"], 3);
        let [expected, found] = built.run(&|_| false);
        found.iter().zip(&expected).for_each(|(found, expected)| near(found, expected));
        // With channels first on both sides the runtime's own is as fast.
        built.graph.outputs = vec!["a".into()];
        built.graph.prune();
        assert_eq!(by_channel(&mut built.graph, &built.kinds).iter().len(), 0);
    }
}
