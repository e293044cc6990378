//! Operators of `ai.onnx.ml` around the networks that scikit-learn's converter writes: scaling of the inputs
//! becomes arithmetic, and a table of probabilities takes the place of the dictionaries made of it.

use super::writer::{Writer, rewrite};
use super::{Graph, GraphError, Node, unsupported};
use crate::graph::{Name, attribute};
use crate::tensor::DType;

const DOMAIN: &str = "ai.onnx.ml";
/// The opset since which axes of every reduction are an input.
const AXES_AS_INPUT: i64 = 18;

/// Writes them in the default domain, at the graph's opset.
pub(super) fn rewrite_all(graph: &mut Graph) -> Result<(), GraphError> {
    let opset = graph.opset();
    rewrite(graph, "ml", &mut |node, writer| {
        match (node.domain.as_str(), node.op.as_str()) {
            (DOMAIN, "ZipMap") => writer.write(node.output()?, "Identity", vec![node.input(0).cloned()], vec![]),
            (DOMAIN, "Scaler") => scaler(&node, writer)?,
            (DOMAIN, "Normalizer") => normalizer(&node, writer, opset)?,
            _ => writer.nodes.push(node),
        }
        Ok(())
    })
}

/// The operand as float32, which these operators give of every type.
fn single(node: &Node, writer: &mut Writer) -> Result<Name, GraphError> {
    Ok(writer.node("Cast", &[node.required(0)?], vec![attribute("to", i64::from(DType::F32.to_onnx()))]))
}

/// `y = (x - offset) scale`, of one number each or one for each column.
fn scaler(node: &Node, writer: &mut Writer) -> Result<(), GraphError> {
    let x = single(node, writer)?;
    let numbers = |name: &str| node.attribute(name).map(|a| a.floats.clone()).ok_or_else(|| node.bad(name));
    let (offset, scale) = (writer.floats(&numbers("offset")?), writer.floats(&numbers("scale")?));
    let centred = writer.node("Sub", &[&x, &offset], vec![]);
    writer.write(node.output()?, "Mul", vec![Some(centred), Some(scale)], vec![]);
    Ok(())
}

/// `y = x / norm` of each row, rows of zeros staying as they are.
fn normalizer(node: &Node, writer: &mut Writer, opset: i64) -> Result<(), GraphError> {
    let reduction = match node.string("norm").unwrap_or("MAX") {
        "MAX" => "ReduceMax",
        "L1" => "ReduceL1",
        "L2" => "ReduceL2",
        other => return Err(unsupported(node, &format!("norm is {other}"))),
    };
    let x = single(node, writer)?;
    let norm = if opset < AXES_AS_INPUT {
        writer.node(reduction, &[&x], vec![attribute("axes", vec![-1i64])])
    } else {
        let axes = writer.integers(&[-1]);
        writer.node(reduction, &[&x, &axes], vec![])
    };
    let (zero, one) = (writer.scalar(&x, 0.0), writer.scalar(&x, 1.0));
    let none = writer.node("Equal", &[&norm, &zero], vec![]);
    let safe = writer.node("Where", &[&none, &one, &norm], vec![]);
    writer.write(node.output()?, "Div", vec![Some(x), Some(safe)], vec![]);
    Ok(())
}
