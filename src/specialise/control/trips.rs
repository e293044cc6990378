//! How often a loop runs that its own condition ends, where neither data nor parameters have a part in that.

use super::super::{SpecialiseError, is_random};
use super::{Known, MOST_NODES};
use crate::graph::{Graph, Name, Node};
use crate::session::Feed;
use crate::tensor::Tensor;
use onnx_protobuf::{GraphProto, NodeProto, TypeProto, ValueInfoProto, type_proto};
use std::collections::BTreeSet;
use std::sync::Arc;

const COUNT: &str = "onnx_unlearn/iterations";
const LIMIT: &str = "onnx_unlearn/most_iterations";

/// The number of iterations, of which there are `most` at most; none where data or a parameter has a part in it.
///
/// # Errors
/// The runtime cannot run what the condition depends on.
pub(super) fn counted(
    node: &Node,
    body: &GraphProto,
    graph: &Graph,
    known: &Known,
    most: Option<usize>,
) -> Result<Option<usize>, SpecialiseError> {
    let given = |name: &str| graph.constants.contains_key(name) && !known.parameters.contains(name);
    let Some(counter) = counter(node, body, &given) else { return Ok(None) };
    // One more than can be unrolled, so that the limit is noticed.
    let most = most.unwrap_or(usize::MAX).min(MOST_NODES + 1) as i64;
    let mut counting = Graph { nodes: vec![counter], inputs: vec![], outputs: vec![COUNT.into()], ..graph.clone() };
    counting.constants.insert(LIMIT.into(), Arc::new(Tensor::I64(ndarray::arr0(most).into_dyn())));
    counting.prune();
    let values = known.runtime.observer(&counting)?.run(&Feed::new())?;
    Ok(values.first().and_then(|count| count.shape().first().copied()))
}

/// The loop with nothing left in its body but what its condition depends on, and one element of output for each
/// iteration. `given` tells which values from outside are known.
fn counter(node: &Node, body: &GraphProto, given: &dyn Fn(&str) -> bool) -> Option<Node> {
    let [number, on, ..] = &body.input[..] else { return None };
    let fixed = [number.name.as_str(), on.name.as_str()];
    let after = |state: usize| body.output.get(state - 1).map(|output| output.name.as_str());
    let mut states: Vec<usize> = (2..body.input.len()).collect();
    states.retain(|&i| node.input(i).is_some_and(|initial| given(initial)));
    let inside = loop {
        let carried = states.iter().map(|&i| body.input[i].name.as_str());
        let inside = computed(body, fixed.into_iter().chain(carried).collect(), given);
        let count = states.len();
        states.retain(|&i| after(i).is_some_and(|name| inside.contains(name) || given(name)));
        if states.len() == count {
            break inside;
        }
    };
    let condition = body.output.first().filter(|output| inside.contains(output.name.as_str()))?;
    let counted = NodeProto {
        op_type: "Identity".into(),
        input: vec![number.name.clone()],
        output: vec![COUNT.into()],
        ..Default::default()
    };
    let kept = body.node.iter().filter(|n| n.output.iter().all(|o| inside.contains(o.as_str())));
    let inputs = [0, 1].iter().chain(&states).map(|&i| body.input[i].clone());
    let carried = states.iter().map(|&i| body.output[i - 1].clone());
    let reduced = GraphProto {
        name: body.name.clone(),
        node: kept.cloned().chain([counted]).collect(),
        initializer: body.initializer.clone(),
        input: inputs.collect(),
        output: [condition.clone()].into_iter().chain(carried).chain([integer(COUNT)]).collect(),
        ..Default::default()
    };
    let mut attribute = node.attribute("body")?.clone();
    attribute.g = Some(reduced).into();
    let initial = states.iter().map(|&i| node.input(i).cloned());
    let last = states.iter().map(|i| Some(Name::from(format!("{COUNT}/state{i}"))));
    Some(Node {
        inputs: [Some(LIMIT.into()), node.input(1).cloned()].into_iter().chain(initial).collect(),
        outputs: last.chain([Some(COUNT.into())]).collect(),
        attributes: vec![attribute],
        ..node.clone()
    })
}

/// The values of a body that depend on nothing but `known` values and what is given from outside.
fn computed<'a>(body: &'a GraphProto, mut known: BTreeSet<&'a str>, given: &dyn Fn(&str) -> bool) -> BTreeSet<&'a str> {
    known.extend(body.initializer.iter().map(|tensor| tensor.name.as_str()));
    for node in &body.node {
        let flat = node.attribute.iter().all(|a| a.g.is_none() && a.graphs.is_empty());
        let read = |name: &String| name.is_empty() || known.contains(name.as_str()) || given(name);
        if flat && !is_random(&Node::from(node)) && node.input.iter().all(read) {
            known.extend(node.output.iter().map(String::as_str));
        }
    }
    known
}

fn integer(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: 7, ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), type_: Some(kind).into(), ..Default::default() }
}
