//! Operator sets from 7 to 15 raised to 16, the first that has all that gradients are written in. Nodes whose
//! form or meaning changed on the way are written anew; all others only gained types and optional parts.

use super::writer::{Writer, rewrite};
use super::{Graph, GraphError, Node, unsupported};
use crate::graph::{Name, attribute};

const TARGET: i64 = 16;
/// The version of the file format that came with it.
const TARGET_IR: i64 = 8;

type Upgrade = fn(Node, &mut Writer) -> Result<(), GraphError>;

/// An operator, the first opset with the new form, and the step from the form before.
static CHANGES: &[(&str, i64, Upgrade)] = &[
    ("BatchNormalization", 9, spatial),
    ("BatchNormalization", 14, without_statistics),
    ("Clip", 11, clip),
    ("Dropout", 12, dropout),
    ("Hardmax", 13, coerced),
    ("LogSoftmax", 13, coerced),
    ("Pad", 11, pad),
    ("ReduceSum", 13, axes),
    ("Resize", 11, resize),
    ("RoiAlign", 16, roi_align),
    ("Scan", 9, batched_scan),
    ("Scatter", TARGET, scatter),
    ("Slice", 10, slice),
    ("Softmax", 13, coerced),
    ("Split", 13, split),
    ("Squeeze", 13, axes),
    ("TopK", 10, top_k),
    ("Unsqueeze", 13, axes),
    ("Upsample", TARGET, resize),
];

/// Raises a graph of an older operator set.
pub(super) fn upgrade(graph: &mut Graph) -> Result<(), GraphError> {
    let opset = graph.opset();
    if opset >= TARGET {
        return Ok(());
    }
    rewrite(graph, "opset", &mut |node, writer| {
        let changed =
            |(op, since, _): &&(&str, i64, Upgrade)| node.domain.is_empty() && node.op == *op && opset < *since;
        match CHANGES.iter().find(changed) {
            Some((_, _, step)) => step(node, writer),
            None => {
                writer.nodes.push(node);
                Ok(())
            }
        }
    })?;
    graph.opsets.insert(String::new(), TARGET);
    graph.ir_version = graph.ir_version.max(TARGET_IR);
    Ok(())
}

fn put(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    writer.nodes.push(node);
    Ok(())
}

/// The node with a list that was the attribute `name` as its next input, where it has one.
fn list_to_input(mut node: Node, name: &str, writer: &mut Writer) -> Node {
    let values = node.ints(name).map(<[i64]>::to_vec);
    node.inputs.extend(values.map(|values| Some(writer.integers(&values))));
    node.without(&[name])
}

/// `axes` became an input.
fn axes(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    put(list_to_input(node, "axes", writer), writer)
}

/// `split` became an input.
fn split(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    put(list_to_input(node, "split", writer), writer)
}

/// `starts`, `ends` and `axes` became inputs.
fn slice(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let node = ["starts", "ends", "axes"].into_iter().fold(node, |node, name| list_to_input(node, name, writer));
    put(node, writer)
}

/// `k` became an input.
fn top_k(mut node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let k = node.int("k").ok_or_else(|| node.bad("k"))?;
    node.inputs.push(Some(writer.integers(&[k])));
    put(node.without(&["k"]), writer)
}

/// `min` and `max` became inputs.
fn clip(mut node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let x = node.required(0)?.clone();
    let bounds = ["min", "max"].map(|name| node.float(name).map(|bound| writer.scalar(&x, bound)));
    node.inputs.extend(bounds);
    put(node.without(&["min", "max"]), writer)
}

/// `pads` and `value` became inputs.
fn pad(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let x = node.required(0)?.clone();
    let value = node.float("value").map(|value| writer.scalar(&x, value));
    let mut node = list_to_input(node, "pads", writer);
    node.inputs.extend(value.map(Some));
    put(node.without(&["value"]), writer)
}

/// `ratio` became an input; it has no effect in inference.
fn dropout(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    put(
        first_output(node.without(&["ratio"]), writer, "its mask is used, which older operator sets do not define")?,
        writer,
    )
}

/// Training gave more outputs.
fn without_statistics(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    put(first_output(node, writer, "it gives batch statistics (training mode)")?, writer)
}

/// The node with its first output alone.
fn first_output(mut node: Node, writer: &Writer, reason: &str) -> Result<Node, GraphError> {
    if node.outputs.iter().skip(1).flatten().any(|output| writer.reads(output)) {
        return Err(unsupported(&node, reason));
    }
    node.outputs.truncate(1);
    Ok(node)
}

/// With `spatial` 0 there were statistics for every element of a sample: `y = (x - mean) / √(var + ε) scale + B`.
fn spatial(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    if node.int("spatial").unwrap_or(1) != 0 {
        return without_statistics(node.without(&["spatial"]), writer);
    }
    let node = first_output(node, writer, "it gives batch statistics (training mode)")?;
    let [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map(|i| node.required(i).cloned());
    let (x, variance) = (x?, variance?);
    let epsilon = writer.scalar(&x, -node.float("epsilon").unwrap_or(1e-5));
    let shifted = writer.node("Sub", &[&variance, &epsilon], vec![]);
    let deviation = writer.node("Sqrt", &[&shifted], vec![]);
    let centred = writer.node("Sub", &[&x, &mean?], vec![]);
    let normal = writer.node("Div", &[&centred, &deviation], vec![]);
    let scaled = writer.node("Mul", &[&normal, &scale?], vec![]);
    writer.write(node.output()?, "Add", vec![Some(scaled), Some(bias?)], vec![]);
    Ok(())
}

/// All axes from `axis`, 1 unless given, counted as one.
fn coerced(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let axis = node.int("axis").unwrap_or(1);
    let last = || vec![attribute("axis", -1)];
    let (x, y) = (node.required(0)?, node.output()?);
    if axis == -1 {
        writer.write(y, &node.op, vec![Some(x.clone())], last());
        return Ok(());
    }
    let shape = writer.node("Shape", &[x], vec![]);
    let rows = writer.node("Flatten", &[x], vec![attribute("axis", axis)]);
    let done = writer.node(&node.op, &[&rows], last());
    writer.write(y, "Reshape", vec![Some(done), Some(shape)], vec![]);
    Ok(())
}

/// Places were multiples of the scale. The nearest one was rounded down where an axis grows, up where it shrinks.
fn resize(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    let (x, y) = (node.required(0)?, node.output()?);
    let scales = match node.attribute("scales") {
        Some(scales) => writer.floats(&scales.floats),
        None => node.required(1)?.clone(),
    };
    let mode = node.string("mode").unwrap_or("nearest");
    let attributes = |nearest: &str| {
        let coordinates = attribute("coordinate_transformation_mode", "asymmetric");
        vec![attribute("mode", mode), coordinates, attribute("nearest_mode", nearest)]
    };
    let operands = |x: &Name, scales: &Name| vec![Some(x.clone()), None, Some(scales.clone())];
    if node.op == "Upsample" || mode != "nearest" {
        writer.write(y, "Resize", operands(x, &scales), attributes("floor"));
        return Ok(());
    }
    let one = writer.floats(&[1.0]);
    let (up, down) = (writer.node("Max", &[&scales, &one], vec![]), writer.node("Min", &[&scales, &one], vec![]));
    let grown = writer.operands("Resize", operands(x, &up), attributes("floor"));
    writer.write(y, "Resize", operands(&grown, &down), attributes("ceil"));
    Ok(())
}

/// The default of an attribute changed.
fn roi_align(node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    put(node.with("coordinate_transformation_mode", "output_half_pixel"), writer)
}

fn scatter(mut node: Node, writer: &mut Writer) -> Result<(), GraphError> {
    node.op = "ScatterElements".into();
    put(node, writer)
}

fn batched_scan(node: Node, _: &mut Writer) -> Result<(), GraphError> {
    Err(unsupported(&node, "Scan of opset 8 runs over a batch; export the model with opset 9 or later"))
}
