//! Transpositions of matrices left to the product that reads or makes them: as nodes of their own they move single
//! numbers. The runtime does so too, but only after it has merged them with other moves of axes.

use crate::graph::{Graph, Made, Name, Node, attribute, operands};
use crate::session::Kinds;
use crate::tensor::DType;
use onnx_protobuf::AttributeProto;
use std::collections::BTreeMap;

/// Of the runtime: a product of operands that may be transposed, in its domain.
const OPERATOR: &str = "FusedMatMul";
const DOMAIN: &str = "com.microsoft";
/// What new values are named after.
const PREFIX: &str = "onnx_unlearn/moved_";

/// Writes products of stacks of matrices so that no Transpose beside them takes the last axis of an operand, or of the
/// product, to another place; how it moves the others stays.
pub(super) fn turn(graph: &mut Graph, kinds: &Kinds) {
    let made = Made::new(graph);
    let readers = graph.lone_readers();
    let mut turned =
        Turned { made: &made, moved: BTreeMap::new(), nodes: Vec::with_capacity(graph.nodes.len()), named: 0 };
    for node in &graph.nodes {
        let moved = transposition(node).and_then(|(source, perm)| {
            let product = made.node(source, "MatMul").filter(|_| readers.contains_key(source))?;
            let axis = perm.len().checked_sub(2)?;
            (perm.last() == Some(&axis)).then_some((stacks(product, kinds)?, perm, axis))
        });
        match (moved, stacks(node, kinds), node.output()) {
            (Some(([a, b], mut perm, axis)), _, Ok(output)) => {
                // (A B)ᵀ = Bᵀ Aᵀ
                let axes = perm.iter_mut().filter(|place| **place >= axis);
                axes.for_each(|place| *place = 2 * axis + 1 - *place);
                let product = if perm.is_sorted() { output.clone() } else { turned.name() };
                turned.product([b, a], true, product.clone());
                if product != *output {
                    turned.push("Transpose", "", vec![product], output.clone(), order(&perm));
                }
            }
            (None, Some(operands), Ok(output)) => turned.product(operands, false, output.clone()),
            _ => turned.nodes.push(node.clone()),
        }
    }
    let nodes = turned.nodes;
    if nodes.iter().any(|node| node.domain == DOMAIN) {
        graph.nodes = nodes;
        graph.opsets.insert(DOMAIN.into(), 1);
        graph.prune();
    }
}

/// The nodes of a graph, written anew.
struct Turned<'a> {
    made: &'a Made<'a>,
    /// What is a value with its axes in an order, by both.
    moved: BTreeMap<(Name, Vec<usize>), Name>,
    nodes: Vec<Node>,
    /// New names so far.
    named: usize,
}

impl Turned<'_> {
    /// A product of operands that are both transposed or both not.
    fn product(&mut self, operands: [&Name; 2], transposed: bool, output: Name) {
        let [(a, trans_a), (b, trans_b)] = operands.map(|operand| self.operand(operand, transposed));
        let flags = [("transA", trans_a), ("transB", trans_b)];
        let (domain, op, attributes) = match trans_a || trans_b {
            true => (DOMAIN, OPERATOR, flags.map(|(flag, on)| attribute(flag, i64::from(on))).to_vec()),
            false => ("", "MatMul", vec![]),
        };
        self.push(op, domain, vec![a, b], output, attributes);
    }

    /// An operand, or what it is made of, and whether the product is to transpose that.
    fn operand(&mut self, name: &Name, mut transposed: bool) -> (Name, bool) {
        let mut operand = name.clone();
        while let Some((source, mut perm)) = self.made.node(&operand, "Transpose").and_then(transposition) {
            let last = perm.len() - 1;
            if perm[last - 1] != last {
                break;
            }
            perm.swap(last - 1, last);
            transposed = !transposed;
            if !perm.is_sorted() {
                return (self.moved(source, perm), transposed);
            }
            operand = source.clone();
        }
        (operand, transposed)
    }

    /// A value with its axes in another order.
    fn moved(&mut self, source: &Name, perm: Vec<usize>) -> Name {
        let key = (source.clone(), perm);
        if let Some(known) = self.moved.get(&key) {
            return known.clone();
        }
        let name = self.name();
        self.push("Transpose", "", vec![source.clone()], name.clone(), order(&key.1));
        self.moved.insert(key, name.clone());
        name
    }

    fn name(&mut self) -> Name {
        self.named += 1;
        format!("{PREFIX}{}", self.named).into()
    }

    fn push(&mut self, op: &str, domain: &str, inputs: Vec<Name>, output: Name, attributes: Vec<AttributeProto>) {
        let inputs = inputs.into_iter().map(Some).collect();
        let (op, domain, outputs) = (op.into(), domain.into(), vec![Some(output)]);
        self.nodes.push(Node { name: String::new(), domain, op, inputs, outputs, attributes });
    }
}

/// The operands of a product of two stacks of matrices.
fn stacks<'a>(node: &'a Node, kinds: &Kinds) -> Option<[&'a Name; 2]> {
    let stack = |name: &&Name| matches!(kinds.get(*name), Some((DType::F32, shape)) if shape.len() > 2);
    operands(node, "MatMul").filter(|operands| operands.iter().all(stack))
}

/// The operand of a Transpose, and the order of its axes.
fn transposition(node: &Node) -> Option<(&Name, Vec<usize>)> {
    let [source] = operands(node, "Transpose")?;
    Some((source, node.ints("perm")?.iter().map(|&axis| axis as usize).collect()))
}

fn order(perm: &[usize]) -> Vec<AttributeProto> {
    vec![attribute("perm", perm.iter().map(|&axis| axis as i64).collect::<Vec<_>>())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Input;
    use crate::session::{Feed, Runtime, RuntimeChoice, RuntimeOptions};
    use crate::tensor::Tensor;

    fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Node {
        let inputs = inputs.iter().map(|&name| Some(name.into())).collect();
        let (op, outputs) = (op.into(), vec![Some(output.into())]);
        Node { name: String::new(), domain: String::new(), op, inputs, outputs, attributes }
    }

    fn graph(nodes: Vec<Node>, outputs: Vec<Name>) -> (Graph, Kinds) {
        let (shape, given) = ([3; 4], ["x", "y"].map(Name::from));
        let input = |name: &Name| Input { name: name.clone(), dtype: DType::F32, shape: shape.map(Some).to_vec() };
        let names = nodes.iter().flat_map(|node| node.outputs.iter().flatten()).chain(&given);
        let kinds = names.map(|name| (name.clone(), (DType::F32, shape.to_vec()))).collect();
        let inputs = given.iter().map(input).collect();
        let opsets = [(String::new(), 17)].into();
        (Graph { nodes, constants: BTreeMap::new(), inputs, outputs, opsets, ir_version: 8 }, kinds)
    }

    /// All orders of four axes.
    fn orders() -> Vec<Vec<usize>> {
        let all = (0..256).map(|i| vec![i >> 6, i >> 4 & 3, i >> 2 & 3, i & 3]);
        all.filter(|order| (0..4).all(|axis| order.contains(&axis))).collect()
    }

    /// Operands and products with their axes in all orders.
    #[test]
    fn what_products_give_stays() {
        let (mut nodes, mut outputs) = (vec![], vec![]);
        for (number, perm) in orders().iter().enumerate() {
            for side in ["x", "y"] {
                nodes.push(node("Transpose", &[side], &format!("{side}{number}"), order(perm)));
            }
        }
        let all = (0..24).flat_map(|a| (0..24).map(move |b| (a, b)));
        for (number, (a, b)) in all.enumerate() {
            let product = format!("product{number}");
            nodes.push(node("MatMul", &[&format!("x{a}"), &format!("y{b}")], &product, vec![]));
            nodes.push(node("Transpose", &[&product], &format!("z{number}"), order(&orders()[number * 7 % 24])));
            outputs.push(format!("z{number}").into());
            // One of them is read as it is, too.
            outputs.extend((number % 5 == 0).then(|| product.into()));
        }
        let (graph, kinds) = graph(nodes, outputs);
        let runtime = RuntimeOptions { runtime: RuntimeChoice::OnnxRuntime, ..RuntimeOptions::default() };
        let runtime = Runtime::open(runtime).unwrap();
        let values = |seed| ndarray::ArrayD::from_shape_vec(vec![3; 4], crate::kernels::numbers(81, seed)).unwrap();
        let feed: Feed = [("x", 1), ("y", 2)].map(|(name, seed)| (name.into(), Tensor::F32(values(seed)))).into();
        let plain = runtime.session(&graph, &kinds).unwrap().run(&feed).unwrap();
        let mut turned = graph.clone();
        turn(&mut turned, &kinds);
        let own = runtime.session(&turned, &kinds).unwrap().run(&feed).unwrap();
        for ((expected, found), name) in plain.iter().zip(&own).zip(&graph.outputs) {
            let close = |a: &f64, b: &f64| (a - b).abs() < 1e-5;
            let (expected, found) = (expected.to_f64().unwrap(), found.to_f64().unwrap());
            assert!(expected.iter().zip(&found).all(|(a, b)| close(a, b)), "{name}");
        }
        let made = Made::new(&turned);
        let takes_last_away =
            |name: &Name| made.node(name, "Transpose").and_then(transposition).is_some_and(|(_, perm)| perm[2] == 3);
        let products = || turned.nodes.iter().filter(|node| node.op.ends_with("MatMul"));
        assert!(products().any(|node| node.op == OPERATOR) && products().any(|node| node.op == "MatMul"));
        assert!(!products().flat_map(|node| node.inputs.iter().flatten()).any(takes_last_away));
    }

    /// The scores of attention and the gradient of its keys, which comes transposed.
    #[test]
    fn attention_needs_no_transposition() {
        let swapped = || order(&[0, 1, 3, 2]);
        let nodes = vec![
            node("Transpose", &["y"], "yt", swapped()),
            node("MatMul", &["x", "yt"], "scores", vec![]),
            node("Transpose", &["x"], "xt", swapped()),
            node("MatMul", &["xt", "scores"], "dyt", vec![]),
            node("Transpose", &["dyt"], "dy", swapped()),
            node("Transpose", &["yt"], "ytt", swapped()),
            node("MatMul", &["scores", "ytt"], "dx", vec![]),
        ];
        let (mut graph, kinds) = graph(nodes, ["dy", "dx"].map(Name::from).to_vec());
        turn(&mut graph, &kinds);
        let told = |node: &Node| {
            let flags = ["transA", "transB"].map(|flag| node.int(flag).unwrap_or(0));
            let names: Vec<&str> = node.inputs.iter().chain(&node.outputs).flatten().map(|name| &**name).collect();
            format!("{} {flags:?} {}", node.op, names.join(" "))
        };
        let nodes: Vec<String> = graph.nodes.iter().map(told).collect();
        assert_eq!(
            nodes,
            ["FusedMatMul [0, 1] x y scores", "FusedMatMul [1, 0] scores x dy", "MatMul [0, 0] scores y dx",]
        );
    }
}
