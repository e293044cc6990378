//! Moves of elements one after the other in one pass over memory: what is cut out of a value, put together and has its
//! axes put in order, as in attention, in windows of an image and in their gradients.

mod layer;
mod pieces;

use super::operators::Layers;
use super::seen::reshapes;
use crate::graph::{Graph, Name, Node, normalise, taken};
use crate::session::Kinds;
use crate::tensor::{DType, Tensor};
use layer::Moved;
use pieces::Pieces;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Puts nodes of our operator in the place of the last of two or more such nodes.
pub(super) fn merged(graph: &mut Graph, kinds: &Kinds) -> Layers<Moved> {
    let moves = Moves::new(graph, kinds);
    let mut layers = Layers::default();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let outputs = || node.outputs.iter().flatten();
        let own = outputs().map(|output| Some((output, moves.layer(output, kinds)?))).collect::<Option<Vec<_>>>();
        match own {
            Some(own) => {
                for (output, (sources, layer)) in own {
                    // One name would be that of several nodes.
                    let mut node = Node { name: String::new(), outputs: vec![Some(output.clone())], ..node.clone() };
                    layers.place(&mut node, sources, &kinds[output].1, layer);
                    nodes.push(node);
                }
            }
            None => nodes.push(node.clone()),
        }
    }
    graph.nodes = nodes;
    graph.prune();
    layers
}

/// What the nodes of a graph do that only move elements.
struct Moves {
    /// What they give, and how many of them one after the other move elements to do so.
    moved: BTreeMap<Name, (Pieces, usize)>,
    /// Values that others read.
    read: BTreeSet<Name>,
}

impl Moves {
    fn new(graph: &Graph, kinds: &Kinds) -> Moves {
        let mut moves = Moves { moved: BTreeMap::new(), read: graph.outputs.iter().cloned().collect() };
        // What comes from constants alone the runtime computes once.
        let mut fixed: BTreeSet<&Name> = graph.constants.keys().collect();
        for node in &graph.nodes {
            let mut inputs = node.inputs.iter().flatten();
            if inputs.all(|input| fixed.contains(input)) {
                fixed.extend(node.outputs.iter().flatten());
                continue;
            }
            match moves.given(node, kinds, &graph.constants) {
                Some(given) => {
                    let named = node.outputs.iter().flatten().cloned().zip(given);
                    moves.moved.extend(named);
                }
                None => moves.read.extend(node.inputs.iter().flatten().cloned()),
            }
        }
        moves
    }

    /// What each output of a node is made of.
    fn given(
        &self,
        node: &Node,
        kinds: &Kinds,
        constants: &BTreeMap<Name, Arc<Tensor>>,
    ) -> Option<Vec<(Pieces, usize)>> {
        let operands = if node.op == "Concat" { &node.inputs[..] } else { node.inputs.get(..1)? };
        let operands: Vec<&Name> = operands.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let shapes = operands.iter().map(|name| shape(name, kinds)).collect::<Option<Vec<_>>>()?;
        let whole = || operands.iter().zip(&shapes).map(|(name, shape)| (Pieces::whole(name, shape), 0));
        let known = operands.iter().zip(whole()).map(|(name, whole)| self.moved.get(*name).cloned().unwrap_or(whole));
        [known.collect::<Vec<_>>(), whole().collect()].into_iter().find_map(|operands| {
            let before = operands.iter().map(|(_, moves)| *moves).max()?;
            let moves = before + usize::from(!reshapes(node));
            let operands: Vec<Pieces> = operands.into_iter().map(|(pieces, _)| pieces).collect();
            let given = given(node, &operands, shapes[0], kinds, constants)?;
            Some(given.into_iter().map(|pieces| (pieces, moves)).collect())
        })
    }

    /// How a value is computed in one pass, and of what; none where the runtime does it as well.
    fn layer(&self, name: &Name, kinds: &Kinds) -> Option<(Vec<&Name>, Moved)> {
        let (pieces, _) = self.moved.get(name).filter(|(_, moves)| *moves > 1 && self.read.contains(name))?;
        let elements = |name: &Name| Some(shape(name, kinds)?.iter().product::<usize>());
        let sources = pieces.sources.iter().map(elements).collect::<Option<_>>()?;
        Some((pieces.sources.iter().collect(), Moved::new(pieces, sources, elements(name)?)?))
    }
}

/// What each output of a node is made of, from what its operands are made of; none where it does not only move elements.
fn given(
    node: &Node,
    operands: &[Pieces],
    from: &[usize],
    kinds: &Kinds,
    constants: &BTreeMap<Name, Arc<Tensor>>,
) -> Option<Vec<Pieces>> {
    let integers = |name: &Name| constants.get(name).and_then(|list| list.to_i64());
    let to = shape(node.output().ok()?, kinds)?;
    let pieces = operands.first()?;
    let given = match (&*node.domain, &*node.op) {
        _ if reshapes(node) => pieces.reshaped(to)?,
        ("", "Transpose") => pieces.transposed(&node.order(from.len())),
        ("", "Slice") => {
            let known = |name: &Name| integers(name).ok_or_else(|| node.bad("input"));
            taken(node, from, to, known).ok()?.into_iter().try_fold(pieces.clone(), |pieces, taken| {
                pieces.taken(taken.axis, taken.first, usize::try_from(taken.step).ok()?, taken.count)
            })?
        }
        ("", "Gather") => {
            let axis = node.axis("axis", 0, from.len()).ok()?;
            let [index] = integers(node.input(1)?)?[..] else { return None };
            pieces.taken(axis, normalise(index, from[axis])?, 1, 1)?.reshaped(to)?
        }
        ("", "Concat") => Pieces::joined(operands, node.axis("axis", 0, from.len()).ok()?)?,
        ("", "Split") => {
            let axis = node.axis("axis", 0, from.len()).ok()?;
            let mut first = 0;
            let part = |output: &Option<Name>| {
                let count = shape(output.as_ref()?, kinds)?[axis];
                first += count;
                pieces.taken(axis, first - count, 1, count)
            };
            return node.outputs.iter().map(part).collect();
        }
        _ => return None,
    };
    Some(vec![given])
}

/// The shape of a value in float32 that has elements.
fn shape<'a>(name: &Name, kinds: &'a Kinds) -> Option<&'a [usize]> {
    let (DType::F32, shape) = kinds.get(name)? else { return None };
    (!shape.contains(&0)).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::super::operators::tests::{Built, counts};
    use super::*;
    use crate::graph::attribute;

    /// Windows of a shifted image, taken apart into what attention reads and put together again; a ReLU where the values
    /// are needed.
    fn attention() -> Built {
        let mut built = Built::new(&[4, 14, 14, 96], &["z", "rows"]);
        for (name, list) in [("0", 0), ("3", 3), ("1", 1), ("14", 14), ("-1", -1)] {
            built.integers(name, &[list]);
        }
        built.integers("windows", &[4, 2, 7, 2, 7, 96]);
        built.integers("heads", &[16, 49, 3, 4, 8]);
        built.integers("thirds", &[1, 1, 1]);
        let axis = |axis: i64| vec![attribute("axis", axis)];
        let perm = |perm: &[i64]| vec![attribute("perm", perm.to_vec())];
        built.node("Slice", &["x", "3", "14", "1"], &["a"], &[4, 11, 14, 96], vec![]);
        built.node("Slice", &["x", "0", "3", "1"], &["b"], &[4, 3, 14, 96], vec![]);
        built.node("Concat", &["a", "b"], &["rolled"], &[4, 14, 14, 96], axis(1));
        built.node("Reshape", &["rolled", "windows"], &["c"], &[4, 2, 7, 2, 7, 96], vec![]);
        built.node("Transpose", &["c"], &["d"], &[4, 2, 2, 7, 7, 96], perm(&[0, 1, 3, 2, 4, 5]));
        built.node("Reshape", &["d", "heads"], &["e"], &[16, 49, 3, 4, 8], vec![]);
        built.node("Relu", &["e"], &["f"], &[16, 49, 3, 4, 8], vec![]);
        built.node("Transpose", &["f"], &["g"], &[3, 16, 4, 49, 8], perm(&[2, 0, 3, 1, 4]));
        built.node("Split", &["g", "thirds"], &["q", "k", "v"], &[1, 16, 4, 49, 8], axis(0));
        for (from, to) in [("q", "dq"), ("k", "dk"), ("v", "dv")] {
            built.node("Neg", &[from], &[to], &[1, 16, 4, 49, 8], vec![]);
        }
        built.node("Concat", &["dv", "dq", "dk"], &["h"], &[3, 16, 4, 49, 8], axis(0));
        built.node("Transpose", &["h"], &["i"], &[16, 49, 3, 4, 8], perm(&[1, 3, 0, 2, 4]));
        built.node("Relu", &["i"], &["z"], &[16, 49, 3, 4, 8], vec![]);
        // Single numbers from here to there: the runtime's own.
        built.node("Slice", &["x", "0", "14", "1", "1"], &["j"], &[4, 14, 14, 96], vec![]);
        built.node("Transpose", &["j"], &["rows"], &[96, 14, 14, 4], perm(&[3, 2, 1, 0]));
        built
    }

    #[test]
    fn in_one_pass() {
        let built = attention();
        let mut own = built.graph.clone();
        merged(&mut own, &built.kinds);
        let expected = [("Moved", 5), ("Neg", 3), ("Relu", 2), ("Slice", 1), ("Transpose", 1)];
        assert_eq!(counts(&own), expected.map(|(op, count)| (op.to_string(), count)).into());

        let [expected, found] = built.run(&|_| false);
        assert!(expected == found);
    }

    #[test]
    fn what_others_read_too_stays() {
        let Built { mut graph, kinds } = attention();
        // The keys alone are read: the runtime splits.
        graph.nodes.retain(|node| !["dq", "dv"].iter().any(|name| node.outputs[0] == Some((*name).into())));
        graph.nodes.retain(|node| !matches!(&*node.op, "Concat") || node.output().is_ok_and(|name| &**name != "h"));
        graph.outputs = ["dk"].map(Name::from).to_vec();
        graph.prune();
        merged(&mut graph, &kinds);
        assert_eq!(counts(&graph).get("Split"), Some(&1));
    }
}
