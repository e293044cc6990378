//! Functions that are written in parts, as before operator set 20 a Gelu is, differentiated as the whole: in fewer passes
//! over memory than part by part.

use crate::graph::{Graph, Made, Name, Node, operands};
use std::collections::BTreeSet;
use std::f64::consts::FRAC_1_SQRT_2;

/// The nodes of a graph; in the place of one that ends a Gelu in parts, a Gelu of what that reads. The other parts stay,
/// since they may be read by others. Numbers that are differentiated, `wrt`, are no part of a function.
pub(super) fn whole(graph: &Graph, wrt: &BTreeSet<Name>) -> Vec<Node> {
    let parts = Parts { made: Made::new(graph), wrt };
    let whole = |node: &Node| match parts.gelu(node) {
        Some(x) => Node { op: "Gelu".into(), inputs: vec![Some(x.clone())], attributes: vec![], ..node.clone() },
        None => node.clone(),
    };
    graph.nodes.iter().map(whole).collect()
}

struct Parts<'a> {
    made: Made<'a>,
    wrt: &'a BTreeSet<Name>,
}

impl<'a> Parts<'a> {
    /// The `x` of `x (1 + erf(x / √2)) / 2`, multiplied in any order.
    fn gelu(&self, node: &'a Node) -> Option<&'a Name> {
        either(operands(node, "Mul")?, |[a, b]| {
            let [c, d] = self.made.by(b, "Mul")?;
            [[a, c, d], [c, a, d], [d, a, c]].into_iter().find_map(|[half, e, f]| {
                self.is(half, 0.5).then_some(())?;
                either([e, f], |[x, sum]| (self.twice_cumulative(sum)? == x).then_some(x))
            })
        })
    }

    /// The `x` of `1 + erf(x / √2)`.
    fn twice_cumulative(&self, sum: &Name) -> Option<&'a Name> {
        let erf = either(self.made.by(sum, "Add")?, |[one, erf]| self.is(one, 1.0).then_some(erf))?;
        let [u] = self.made.by(erf, "Erf")?;
        let divided = || self.made.by(u, "Div").filter(|[_, by]| self.is(by, FRAC_1_SQRT_2.recip())).map(|[x, _]| x);
        let scaled = || either(self.made.by(u, "Mul")?, |[x, by]| self.is(by, FRAC_1_SQRT_2).then_some(x));
        divided().or_else(scaled)
    }

    /// Whether a value is this number, as exactly as single precision has it.
    fn is(&self, name: &Name, number: f64) -> bool {
        let found = self.made.number(name).filter(|_| !self.wrt.contains(name));
        found.is_some_and(|found| (found - number).abs() <= f64::from(f32::EPSILON) * number)
    }
}

/// What is found for two operands in this order or the other.
fn either<'a, T>(operands: [&'a Name; 2], find: impl Fn([&'a Name; 2]) -> Option<T>) -> Option<T> {
    let [a, b] = operands;
    find([a, b]).or_else(|| find([b, a]))
}

#[cfg(test)]
mod tests {
    use super::whole;
    use crate::graph::{Graph, Name, Node};
    use crate::tensor::Tensor;
    use std::collections::BTreeMap;
    use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
    use std::sync::Arc;

    /// What stands in the place of the last of these nodes, `output = operator(a, b)`, and what it reads.
    fn last(nodes: &[&str], wrt: &[&str]) -> (String, Vec<Option<Name>>) {
        let node = |text: &&str| {
            let (output, call) = text.split_once(" = ").unwrap();
            let (op, inputs) = call.strip_suffix(')').unwrap().split_once('(').unwrap();
            Node {
                name: String::new(),
                domain: String::new(),
                op: op.into(),
                inputs: inputs.split(", ").map(|input| Some(input.into())).collect(),
                outputs: vec![Some(output.into())],
                attributes: vec![],
            }
        };
        let numbers = [("half", 0.5), ("one", 1.0), ("two", 2.0), ("root", SQRT_2), ("by", FRAC_1_SQRT_2)];
        let constant =
            |(name, number): (&str, f32)| (Name::from(name), Arc::new(Tensor::F32(ndarray::arr0(number).into_dyn())));
        let graph = Graph {
            nodes: nodes.iter().map(node).collect(),
            constants: numbers.into_iter().map(constant).collect(),
            inputs: vec![],
            outputs: vec![],
            opsets: BTreeMap::new(),
            ir_version: 8,
        };
        let wrt = wrt.iter().map(|&name| name.into()).collect();
        let node = whole(&graph, &wrt).pop().unwrap();
        (node.op, node.inputs)
    }

    #[test]
    fn a_gelu_in_parts_is_one() {
        let erf = ["u = Div(x, root)", "e = Erf(u)", "s = Add(e, one)"];
        let scaled = ["u = Mul(by, x)", "e = Erf(u)", "s = Add(one, e)"];
        let found = ("Gelu".to_string(), vec![Some(Name::from("x"))]);
        for ends in [
            ["p = Mul(x, s)", "y = Mul(p, half)"],
            ["p = Mul(half, x)", "y = Mul(p, s)"],
            ["p = Mul(s, half)", "y = Mul(x, p)"],
        ] {
            for start in [erf, scaled] {
                assert_eq!(last(&[&start[..], &ends].concat(), &[]), found, "{ends:?}");
            }
        }
    }

    #[test]
    fn what_is_like_a_gelu_stays() {
        let others = [
            ["u = Div(x, two)", "e = Erf(u)", "s = Add(e, one)", "p = Mul(x, s)", "y = Mul(p, half)"],
            ["u = Div(x, root)", "e = Erf(u)", "s = Add(e, two)", "p = Mul(x, s)", "y = Mul(p, half)"],
            ["u = Div(x, root)", "e = Erf(u)", "s = Add(e, one)", "p = Mul(x, s)", "y = Mul(p, two)"],
            ["u = Div(x, root)", "e = Tanh(u)", "s = Add(e, one)", "p = Mul(x, s)", "y = Mul(p, half)"],
            ["u = Div(x, root)", "e = Erf(u)", "s = Add(e, one)", "p = Mul(z, s)", "y = Mul(p, half)"],
        ];
        for nodes in others {
            assert_eq!(last(&nodes, &[]).0, "Mul", "{nodes:?}");
        }
        let parts = ["u = Div(x, root)", "e = Erf(u)", "s = Add(e, one)", "p = Mul(x, s)", "y = Mul(p, half)"];
        assert_eq!(last(&parts, &["half"]).0, "Mul");
    }
}
