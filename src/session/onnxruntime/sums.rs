//! Sums over neighbouring axes before the last, such as those that end in gradients of biases: the runtime computes
//! them at a fraction of the rate of memory.

use super::operators::{Layer, Layers, elements, in_parallel, inputs, missing, put};
use crate::graph::{Graph, Name, Node, normalise};
use crate::kernels::sums::{ROWS, Rows};
use crate::session::Kinds;
use crate::tensor::{DType, Tensor};
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The least elements of a row, and of what is added up: below, starting costs more than the sums.
const LEAST_WIDTH: usize = 16;
const LEAST: usize = 1 << 15;

/// `[outer, rows, width]`, added up over rows.
pub(super) struct SumOfRows {
    outer: usize,
    rows: usize,
    width: usize,
}

/// Puts nodes of our operator in the place of such sums.
pub(super) fn of_rows(graph: &mut Graph, kinds: &Kinds) -> Layers<SumOfRows> {
    put(graph, kinds, |node, made| Some((vec![node.input(0)?], layer(node, kinds, made.constants)?)))
}

fn layer(node: &Node, kinds: &Kinds, constants: &BTreeMap<Name, Arc<Tensor>>) -> Option<SumOfRows> {
    if node.op != "ReduceSum" || !node.domain.is_empty() {
        return None;
    }
    let (DType::F32, shape) = kinds.get(node.input(0)?)? else { return None };
    let axes = constants.get(node.input(1)?)?.to_i64()?;
    let axes: Vec<usize> = axes.into_iter().map(|axis| normalise(axis, shape.len())).collect::<Option<_>>()?;
    // Axes of one element belong to whatever is beside them.
    let mut sizes = [1; 3];
    let mut part = 0;
    for (axis, &size) in shape.iter().enumerate().filter(|&(_, &size)| size != 1) {
        match (part, axes.contains(&axis)) {
            (0, true) => part = 1,
            (1, false) => part = 2,
            (2, true) => return None,
            _ => {}
        }
        sizes[part] *= size;
    }
    let [outer, rows, width] = sizes;
    let worth = rows > 1 && width >= LEAST_WIDTH && outer * rows * width >= LEAST;
    worth.then_some(SumOfRows { outer, rows, width })
}

impl Layer for SumOfRows {
    const OPERATOR: &'static str = "SumOfRows";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let SumOfRows { outer, rows, width } = *self;
        let values = inputs(context)?;
        let [x] = elements(&values)?[..] else { return Err(missing()) };
        let mut y = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, y) = y.try_extract_tensor_mut::<f32>()?;
        if x.len() != outer * rows * width || y.len() != outer * width {
            return Err(missing());
        }
        // The same pieces whatever the threads; their sums are added up in float64.
        let pieces = rows.div_ceil(ROWS);
        let mut sums = vec![0.0; outer * pieces * width];
        let parts = x.chunks(rows * width).flat_map(|part| part.chunks(ROWS * width));
        in_parallel(context, parts.zip(sums.chunks_mut(width)), |_, (rows, sum)| {
            arch.dispatch(Rows { rows, sum });
        })?;
        for (y, sums) in y.chunks_mut(width).zip(sums.chunks(pieces * width)) {
            for (column, y) in y.iter_mut().enumerate() {
                *y = sums.iter().skip(column).step_by(width).map(|&sum| f64::from(sum)).sum::<f64>() as f32;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shape: &[usize], axes: &[i64]) -> Option<[usize; 3]> {
        let name = |name: &str| Some(Name::from(name));
        let node = Node {
            name: String::new(),
            domain: String::new(),
            op: "ReduceSum".into(),
            inputs: vec![name("x"), name("axes")],
            outputs: vec![name("y")],
            attributes: vec![],
        };
        let kinds = [("x", shape.to_vec()), ("y", vec![1])];
        let kinds = kinds.into_iter().map(|(name, shape)| (name.into(), (DType::F32, shape))).collect();
        let axes = Tensor::I64(ndarray::Array1::from(axes.to_vec()).into_dyn());
        let layer = layer(&node, &kinds, &[("axes".into(), Arc::new(axes))].into())?;
        Some([layer.outer, layer.rows, layer.width])
    }

    #[test]
    fn neighbouring_axes_before_the_last_are_rows() {
        assert_eq!(found(&[8, 56, 56, 96], &[0, 1, 2]), Some([1, 25088, 96]));
        assert_eq!(found(&[8, 56, 56, 96], &[1, -2]), Some([8, 3136, 96]));
        assert_eq!(found(&[8, 1, 56, 1, 96, 2], &[2, 3]), Some([8, 56, 192]));
        // The last axis; two that are not neighbours; too little.
        assert_eq!(found(&[8, 56, 56, 96], &[3]), None);
        assert_eq!(found(&[8, 56, 56, 96], &[0, 2]), None);
        assert_eq!(found(&[8, 10, 96], &[0]), None);
        assert_eq!(found(&[4096, 64, 8], &[0, 1]), None);
    }
}
