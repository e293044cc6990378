//! Names for outputs without one. ONNX Runtime dies on an operator with any number of outputs, all of them
//! required, where one has no name.

use super::writer::{Writer, rewrite};
use super::{Graph, GraphError, Node};

/// Operators with any number of outputs.
const VARIADIC: [&str; 4] = ["If", "Loop", "Scan", "Split"];

pub(super) fn name(graph: &mut Graph) -> Result<(), GraphError> {
    rewrite(graph, "output", &mut |mut node: Node, writer: &mut Writer| {
        if node.domain.is_empty() && VARIADIC.contains(&node.op.as_str()) {
            for output in node.outputs.iter_mut().filter(|output| output.is_none()) {
                *output = Some(writer.fresh(&node.op));
            }
        }
        writer.nodes.push(node);
        Ok(())
    })
}
