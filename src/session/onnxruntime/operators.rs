//! Operators of our own in a session for gradients.

use super::{convolutions, pooling};
use crate::graph::Graph;
use crate::session::{Kinds, Rough};
use ort::operator::OperatorDomain;
use ort::{Error, Result};

pub(super) const DOMAIN: &str = "onnx_unlearn";

/// The graph with our operators where they are faster, and these; the graph as it is where there are none.
pub(super) fn replaced(
    graph: &Graph,
    kinds: &Kinds,
    rough: Rough,
    threads: usize,
) -> Result<(Graph, Option<OperatorDomain>)> {
    let mut graph = graph.clone();
    let convolutions = convolutions::replace(&mut graph, kinds, rough, threads);
    let pooling = pooling::replace(&mut graph, kinds);
    if convolutions.is_none() && pooling.is_none() {
        return Ok((graph, None));
    }
    graph.opsets.insert(DOMAIN.into(), 1);
    let mut domain = OperatorDomain::new(DOMAIN)?;
    if let Some(convolutions) = convolutions {
        domain = domain.add(convolutions)?;
    }
    if let Some(pooling) = pooling {
        domain = domain.add(pooling)?;
    }
    Ok((graph, Some(domain)))
}

/// What a node of ours reads, writes or is made of is not there, or of another shape.
pub(super) fn missing() -> Error {
    Error::new("an operand is missing, or has another shape than when the session was made")
}
