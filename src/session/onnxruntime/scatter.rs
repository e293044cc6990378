//! ScatterElements that adds to zeros along the last axis, as the gradient of MaxPool does: the runtime takes one thread
//! for it, and works out every place from all its axes.

use super::operators::{Layer, Layers, in_parallel, missing, put};
use crate::graph::{Graph, Name, Node};
use crate::session::Kinds;
use crate::tensor::{DType, Tensor};
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use ort::{Error, Result};
use pulp::Arch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Updates of rows.
pub(super) struct ScatterRows {
    /// Updates, and elements of the result, in each row.
    updates: usize,
    length: usize,
}

/// Puts nodes of our operator in the place of those that do this. The zeros, as large as the result, are no longer read.
pub(super) fn of_rows(graph: &mut Graph, kinds: &Kinds) -> Layers<ScatterRows> {
    put(graph, kinds, |node, made| Some((vec![node.input(1)?, node.input(2)?], layer(node, kinds, made.constants)?)))
}

fn layer(node: &Node, kinds: &Kinds, constants: &BTreeMap<Name, Arc<Tensor>>) -> Option<ScatterRows> {
    if node.op != "ScatterElements" || !node.domain.is_empty() || node.string("reduction") != Some("add") {
        return None;
    }
    let zeros = constants.get(node.input(0)?)?.slice::<f32>()?;
    let (DType::I64, places) = kinds.get(node.input(1)?)? else { return None };
    let (DType::F32, output) = kinds.get(node.output().ok()?)? else { return None };
    let ([rows @ .., updates], [all @ .., length]) = (&places[..], &output[..]) else { return None };
    let last = node.axis("axis", 0, output.len()).ok()? + 1 == output.len();
    let fits = last && rows == all && *updates > 0 && *length > 0 && zeros.iter().all(|&zero| zero == 0.0);
    fits.then_some(ScatterRows { updates: *updates, length: *length })
}

impl Layer for ScatterRows {
    const OPERATOR: &'static str = "ScatterRows";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Int64, TensorElementType::Float32];

    fn compute(&self, context: &ComputeContext, output: &[i64], _: Arch) -> Result<()> {
        let ScatterRows { updates, length } = *self;
        let (places, values) = (context.input(0)?.ok_or_else(missing)?, context.input(1)?.ok_or_else(missing)?);
        let ((_, places), (_, values)) = (places.try_extract_tensor::<i64>()?, values.try_extract_tensor::<f32>()?);
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        if places.len() != values.len() || places.len() * length != y.len() * updates {
            return Err(missing());
        }
        let outside = AtomicBool::new(false);
        let rows = places.chunks_exact(updates).zip(values.chunks_exact(updates)).zip(y.chunks_exact_mut(length));
        in_parallel(context, rows, |_, ((places, values), y)| {
            y.fill(0.0);
            for (&place, value) in places.iter().zip(values) {
                let from_front = if place < 0 { place + length as i64 } else { place };
                match usize::try_from(from_front).ok().and_then(|place| y.get_mut(place)) {
                    Some(y) => *y += value,
                    None => outside.store(true, Ordering::Relaxed),
                }
            }
        })?;
        match outside.into_inner() {
            true => Err(Error::new(format!("{}: an index lies outside an axis of {length} elements", Self::OPERATOR))),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::attribute;
    use onnx_protobuf::AttributeProto;

    fn found(zeros: &[f32], places: &[usize], output: &[usize], attributes: Vec<AttributeProto>) -> Option<[usize; 2]> {
        let name = |name: &str| Some(Name::from(name));
        let node = Node {
            name: String::new(),
            domain: String::new(),
            op: "ScatterElements".into(),
            inputs: vec![name("zeros"), name("places"), name("values")],
            outputs: vec![name("y")],
            attributes,
        };
        let kinds = [("places", DType::I64, places), ("y", DType::F32, output)];
        let kinds = kinds.into_iter().map(|(name, dtype, shape)| (name.into(), (dtype, shape.to_vec()))).collect();
        let zeros = Tensor::new(output, zeros.to_vec()).unwrap();
        let layer = layer(&node, &kinds, &[("zeros".into(), Arc::new(zeros))].into())?;
        Some([layer.updates, layer.length])
    }

    #[test]
    fn zeros_along_the_last_axis_are_added_to() {
        let with = |axis: i64, reduction: &str| vec![attribute("axis", axis), attribute("reduction", reduction)];
        assert_eq!(found(&[0.0; 8], &[2, 3], &[2, 4], with(-1, "add")), Some([3, 4]));
        assert_eq!(found(&[0.0; 8], &[2, 3], &[2, 4], with(1, "add")), Some([3, 4]));
        // Not zeros; another axis; fewer rows; values that are written over others.
        assert_eq!(found(&[1.0; 8], &[2, 3], &[2, 4], with(1, "add")), None);
        assert_eq!(found(&[0.0; 8], &[2, 3], &[2, 4], with(0, "add")), None);
        assert_eq!(found(&[0.0; 8], &[1, 3], &[2, 4], with(1, "add")), None);
        assert_eq!(found(&[0.0; 8], &[2, 3], &[2, 4], with(1, "none")), None);
        assert_eq!(found(&[0.0; 8], &[2, 3], &[2, 4], vec![]), None);
    }
}
