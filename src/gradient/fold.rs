//! Nodes that read constants alone, computed once.

use crate::graph::{Graph, Name, Node};
use crate::session::{Feed, Kinds, Runtime, SessionError};
use crate::specialise::is_random;
use crate::tensor::Tensor;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Values of more elements stay computed: they would make the file larger than the model.
const LARGEST: usize = 1 << 12;

/// Puts constants in place of values that depend on neither an input nor a constant in `variable`.
///
/// # Errors
/// The runtime cannot compute them.
pub(super) fn constants(
    graph: &mut Graph,
    variable: &BTreeSet<Name>,
    kinds: &Kinds,
    runtime: &Runtime,
) -> Result<(), SessionError> {
    let mut fixed: BTreeSet<Name> = graph.constants.keys().filter(|name| !variable.contains(*name)).cloned().collect();
    let small = |name: &Name| kinds.get(name).is_some_and(|(_, shape)| shape.iter().product::<usize>() <= LARGEST);
    let mut folded: Vec<Node> = Vec::new();
    for node in &graph.nodes {
        let known =
            node.inputs.iter().flatten().all(|i| fixed.contains(i)) && node.captured().is_empty() && !is_random(node);
        if known && node.outputs.iter().flatten().all(|o| small(o) && !graph.outputs.contains(o)) {
            fixed.extend(node.outputs.iter().flatten().cloned());
            folded.push(node.clone());
        }
    }
    if folded.is_empty() {
        return Ok(());
    }
    let outputs: Vec<Name> = folded.iter().flat_map(|n| n.outputs.iter().flatten()).cloned().collect();
    let mut computed = Graph { nodes: folded, inputs: vec![], outputs: outputs.clone(), ..graph.clone() };
    computed.prune();
    let values: Vec<Tensor> = runtime.observer(&computed)?.run(&Feed::new())?;
    let made: BTreeSet<&Name> = outputs.iter().collect();
    graph.nodes.retain(|node| !node.outputs.iter().flatten().any(|o| made.contains(o)));
    graph.constants.extend(outputs.iter().cloned().zip(values.into_iter().map(Arc::new)));
    Ok(())
}
