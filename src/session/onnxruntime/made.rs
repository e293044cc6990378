//! Where values of a graph come from, to find what a rule of differentiation wrote.

use crate::graph::{Graph, Name, Node};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The nodes of a graph by their first outputs, and its constants.
pub(super) struct Made<'a> {
    nodes: BTreeMap<&'a Name, &'a Node>,
    pub constants: &'a BTreeMap<Name, Arc<Tensor>>,
}

impl<'a> Made<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        let nodes = graph.nodes.iter().filter_map(|node| Some((node.output().ok()?, node)));
        Made { nodes: nodes.collect(), constants: &graph.constants }
    }

    /// The node that made a value, where it is of this operator.
    pub fn node(&self, name: &Name, op: &str) -> Option<&'a Node> {
        self.nodes.get(name).copied().filter(|node| node.op == op && node.domain.is_empty())
    }

    /// The operands of the node that made a value, where it is of this operator.
    pub fn by<const N: usize>(&self, name: &Name, op: &str) -> Option<[&'a Name; N]> {
        operands(self.node(name, op)?, op)
    }

    /// The one element of a constant.
    pub fn number(&self, name: &Name) -> Option<f64> {
        match self.constants.get(name)?.slice::<f32>()? {
            &[number] => Some(number.into()),
            _ => None,
        }
    }
}

/// The operands of a node, where it is of this operator.
pub(super) fn operands<'a, const N: usize>(node: &'a Node, op: &str) -> Option<[&'a Name; N]> {
    let own = node.op == op && node.domain.is_empty();
    let inputs: Vec<&Name> = node.inputs.iter().flatten().collect();
    inputs.try_into().ok().filter(|_| own)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::autograd::{Backward, Reduction, differentiate, objective::Objective};
    use crate::graph::Input;
    use crate::session::{Feed, Runtime, RuntimeChoice, RuntimeOptions};
    use crate::specialise::specialise;
    use crate::tensor::DType;
    use onnx_protobuf::AttributeProto;

    /// The gradient graph of a node between two products, of an operand `[2, 3]` and parameters of three elements.
    pub fn between_products(op: &str, parameters: &[&str], attributes: Vec<AttributeProto>) -> Backward {
        let name = |name: &&str| Some(Name::from(*name));
        let node = |op: &str, inputs: &[&str], output: &str, attributes| Node {
            name: String::new(),
            domain: String::new(),
            op: op.into(),
            inputs: inputs.iter().map(name).collect(),
            outputs: vec![name(&output)],
            attributes,
        };
        let ones = |shape: &[usize]| Tensor::F32(ndarray::ArrayD::ones(shape));
        let constant = |name: &str, shape: &[usize]| (Name::from(name), Arc::new(ones(shape)));
        let products = ["v", "w"].map(|name| constant(name, &[3, 3]));
        let constants: BTreeMap<_, _> = parameters.iter().map(|name| constant(name, &[3])).chain(products).collect();
        let names = constants.keys().cloned().collect();
        let graph = Graph {
            nodes: vec![
                node("MatMul", &["x", "v"], "h", vec![]),
                node(op, &[&["h"], parameters].concat(), "g", attributes),
                node("MatMul", &["g", "w"], "y", vec![]),
            ],
            constants,
            inputs: vec![Input { name: "x".into(), dtype: DType::F32, shape: vec![None, Some(3)] }],
            outputs: vec!["y".into()],
            opsets: [(String::new(), 20)].into(),
            ir_version: 9,
        };
        let tract = RuntimeOptions { runtime: RuntimeChoice::Tract, ..RuntimeOptions::default() };
        let runtime = Runtime::open(tract).unwrap();
        let feed = Feed::from([("x".to_string(), ones(&[2, 3]))]);
        let specialised = specialise(&graph, &names, &feed, 2, &runtime).unwrap();
        differentiate(specialised, &names, Objective::SquaredL2, Reduction::Sample).unwrap()
    }

    /// How often each operator is in a graph.
    pub fn counts(graph: &Graph) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        graph.nodes.iter().for_each(|node| *counts.entry(node.op.clone()).or_insert(0) += 1);
        counts
    }
}
