//! The gradient of LayerNormalization, for which the runtime goes half a dozen times through memory.

use super::operators::{Layer, Layers, elements, in_parallel, inputs, missing, put};
use crate::graph::{Graph, Made, Name, Node, operands};
use crate::kernels::normal::Rows;
use crate::session::Kinds;
use crate::tensor::DType;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;

/// Elements of one task.
const TASK: usize = 1 << 14;

/// `LayerNormalizationGradient(dy, scale, normal, rate)`
pub(super) struct LayerNormalizationGradient;

/// Puts a node of our operator in the place of what the rule of differentiation writes.
pub(super) fn gradients(graph: &mut Graph, kinds: &Kinds) -> Layers<LayerNormalizationGradient> {
    put(graph, kinds, |node, made| Some((gradient(node, made, kinds)?.to_vec(), LayerNormalizationGradient)))
}

/// The operands `dy`, `scale`, `normal` and `rate` of the gradient of a normalisation over the last axis that a node ends:
/// with `g = dy scale`, `rate (g - mean(g) - normal mean(g normal))`, as [its rule](crate::autograd) has it.
fn gradient<'a>(node: &'a Node, made: &Made<'a>, kinds: &Kinds) -> Option<[&'a Name; 4]> {
    let [inner, rate] = operands(node, "Mul")?;
    let [centred, along] = made.by(inner, "Sub")?;
    let [g, mean] = made.by(centred, "Sub")?;
    let [normal, share] = made.by(along, "Mul")?;
    let [dy, scale] = made.by(g, "Mul")?;
    let product = made.node(share, "ReduceMean")?.input(0)?;
    let same = made.node(mean, "ReduceMean")?.input(0)? == g && made.by(product, "Mul")? == [g, normal];
    let (DType::F32, shape) = kinds.get(node.output().ok()?)? else { return None };
    let (width, rows) = shape.split_last()?;
    let is = |name: &Name, expected: &[usize]| kinds.get(name).is_some_and(|(_, shape)| shape == expected);
    let reduced = [rows, &[1]].concat();
    let fits = [dy, g, normal].iter().all(|name| is(name, shape)) && is(scale, &[*width]);
    let last = [mean, share, rate].iter().all(|name| is(name, &reduced));
    (same && fits && last).then_some([dy, scale, normal, rate])
}

impl Layer for LayerNormalizationGradient {
    const OPERATOR: &'static str = "LayerNormalizationGradient";
    const INPUTS: &'static [TensorElementType] = &[TensorElementType::Float32; 4];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        let values = inputs(context)?;
        let [dy, scale, normal, rate] = elements(&values)?[..] else { return Err(missing()) };
        let mut dx = context.output(0, output.to_vec())?.ok_or_else(missing)?;
        let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
        let width = scale.len();
        if width == 0 || dy.len() != dx.len() || normal.len() != dy.len() || rate.len() * width != dy.len() {
            return Err(missing());
        }
        let rows = (TASK / width).max(1);
        let size = rows * width;
        let operands = dy.chunks(size).zip(normal.chunks(size)).zip(rate.chunks(rows));
        in_parallel(context, operands.zip(dx.chunks_mut(size)), |_, (((dy, normal), rate), dx)| {
            arch.dispatch(Rows { dy, scale, normal, rate, dx });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::operators::tests::{between_products, counts};
    use super::*;
    use crate::graph::attribute;

    #[test]
    fn what_the_rule_writes_is_found() {
        let mut backward = between_products("LayerNormalization", &["scale", "bias"], vec![]);
        assert_eq!(gradients(&mut backward.graph, &backward.kinds).iter().len(), 1);
        let after = counts(&backward.graph);
        // One Mul for the gradient of the scale.
        assert_eq!(
            (after.get(LayerNormalizationGradient::OPERATOR), after.get("ReduceMean"), after.get("Sub")),
            (Some(&1), None, None)
        );
    }

    #[test]
    fn other_axes_and_types_stay() {
        let mut backward = between_products("LayerNormalization", &["scale", "bias"], vec![]);
        let other = |(name, (_, shape))| (name, (DType::F64, shape));
        let kinds = backward.kinds.into_iter().map(other).collect();
        assert_eq!(gradients(&mut backward.graph, &kinds).iter().len(), 0);
        let both = attribute("axis", 0);
        let mut backward = between_products("LayerNormalization", &["scale"], vec![both]);
        assert_eq!(gradients(&mut backward.graph, &backward.kinds).iter().len(), 0);
    }
}
