//! Gelu, its gradient and that of ReLU, for which the runtime goes several times through memory.

use super::operators::{Layer, Layers, elements, in_parallel, inputs, missing, put};
use crate::graph::{Graph, Made, Name, Node, operands};
use crate::kernels::{gelu, relu};
use crate::session::Kinds;
use crate::tensor::DType;
use ort::Result;
use ort::operator::ComputeContext;
use ort::value::TensorElementType;
use pulp::Arch;
use std::f64::consts::PI;

/// Elements of one task.
const TASK: usize = 1 << 15;

/// `Gelu(x)`
pub(super) struct Gelu;

/// `GeluGradient(x, dy)`
pub(super) struct GeluGradient;

/// `ReluGradient(y, dy)`
pub(super) struct ReluGradient;

/// Puts nodes of our operator in the place of Gelu.
pub(super) fn gelus(graph: &mut Graph, kinds: &Kinds) -> Layers<Gelu> {
    put(graph, kinds, |node, _| alike(node, vec![operand_of_gelu(node)?], kinds, Gelu))
}

/// Puts nodes of our operator in the place of what the rule of differentiation writes for Gelu.
pub(super) fn gelu_gradients(graph: &mut Graph, kinds: &Kinds) -> Layers<GeluGradient> {
    put(graph, kinds, |node, made| alike(node, gelu_gradient(node, made)?.to_vec(), kinds, GeluGradient))
}

/// Puts nodes of our operator in the place of what the rule of differentiation writes for ReLU.
pub(super) fn relu_gradients(graph: &mut Graph, kinds: &Kinds) -> Layers<ReluGradient> {
    put(graph, kinds, |node, made| alike(node, relu_gradient(node, made)?.to_vec(), kinds, ReluGradient))
}

/// The inputs and the layer of a node, where they and its output are of one shape in float32.
fn alike<'a, T>(node: &Node, inputs: Vec<&'a Name>, kinds: &Kinds, layer: T) -> Option<(Vec<&'a Name>, T)> {
    let kind @ (DType::F32, _) = kinds.get(node.output().ok()?)? else { return None };
    let alike = inputs.iter().all(|&input| kinds.get(input) == Some(kind));
    alike.then_some((inputs, layer))
}

/// The operand of a Gelu.
fn operand_of_gelu(node: &Node) -> Option<&Name> {
    let exact = node.string("approximate").is_none_or(|form| form == "none");
    (node.op == "Gelu" && node.domain.is_empty() && exact).then(|| node.input(0)).flatten()
}

/// The operands `x` and `dy` of the gradient of a Gelu that a node ends: with `u = x / √2`,
/// `dy ((1 + erf u) / 2 + u e^(-ln √π - u²))`, as [its rule](crate::autograd) has it.
fn gelu_gradient<'a>(node: &'a Node, made: &Made<'a>) -> Option<[&'a Name; 2]> {
    let [dy, slope] = operands(node, "Mul")?;
    let [cumulative, product] = made.by(slope, "Add")?;
    let [u, density] = made.by(product, "Mul")?;
    let [exponent] = made.by(density, "Exp")?;
    let [level, square] = made.by(exponent, "Sub")?;
    let halves = made.node(cumulative, "HardSigmoid")?;
    let half = |name| halves.float(name) == Some(0.5);
    let [x, scale] = made.by(u, "Mul")?;
    let number = |name, value: f64| made.number(name).is_some_and(|found| (found - value).abs() < 1e-6);
    let same =
        half("alpha") && half("beta") && made.by(halves.input(0)?, "Erf")? == [u] && made.by(square, "Mul")? == [u, u];
    (same && number(scale, 0.5f64.sqrt()) && number(level, -PI.sqrt().ln())).then_some([x, dy])
}

/// The operands `y` and `dy` of the gradient of a ReLU that a node ends: `dy` times the largest slope cut at 1.
fn relu_gradient<'a>(node: &'a Node, made: &Made<'a>) -> Option<[&'a Name; 2]> {
    let [dy, active] = operands(node, "Mul")?;
    let step = made.node(active, "HardSigmoid")?;
    let steepest = step.float("alpha") == Some(f32::MAX) && step.float("beta") == Some(0.0);
    steepest.then_some([step.input(0)?, dy])
}

const FLOAT: TensorElementType = TensorElementType::Float32;

impl Layer for Gelu {
    const OPERATOR: &'static str = "Gelu";
    const INPUTS: &'static [TensorElementType] = &[FLOAT];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        piecewise(context, output, |[x], out| {
            arch.dispatch(gelu::Gelu { form: gelu::Form::Value, x, out });
        })
    }
}

impl Layer for GeluGradient {
    const OPERATOR: &'static str = "GeluGradient";
    const INPUTS: &'static [TensorElementType] = &[FLOAT; 2];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        piecewise(context, output, |[x, dy], out| {
            arch.dispatch(gelu::Gelu { form: gelu::Form::Gradient(dy), x, out });
        })
    }
}

impl Layer for ReluGradient {
    const OPERATOR: &'static str = "ReluGradient";
    const INPUTS: &'static [TensorElementType] = &[FLOAT; 2];

    fn compute(&self, context: &ComputeContext, output: &[i64], arch: Arch) -> Result<()> {
        piecewise(context, output, |[y, dy], dx| {
            arch.dispatch(relu::Gradient { y, dy, dx });
        })
    }
}

/// Gives `work` pieces of all operands and of the output, which are of one shape.
fn piecewise<const N: usize>(
    context: &ComputeContext,
    output: &[i64],
    work: impl Fn([&[f32]; N], &mut [f32]) + Sync + Send,
) -> Result<()> {
    let values = inputs(context)?;
    let inputs = <[&[f32]; N]>::try_from(elements(&values)?).map_err(|_| missing())?;
    let mut out = context.output(0, output.to_vec())?.ok_or_else(missing)?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    if inputs.iter().any(|input| input.len() != out.len()) {
        return Err(missing());
    }
    in_parallel(context, out.chunks_mut(TASK), |task, out| {
        let start = task * TASK;
        work(inputs.map(|input| &input[start..start + out.len()]), out);
    })
}

#[cfg(test)]
mod tests {
    use super::super::operators::tests::{between_products, counts};
    use super::*;
    use crate::graph::attribute;
    use onnx_protobuf::AttributeProto;

    /// How often each operator is in the gradient graph of a Gelu, before and after, its values being of this type.
    fn operators(dtype: DType, form: Vec<AttributeProto>) -> [std::collections::BTreeMap<String, usize>; 2] {
        let mut backward = between_products("Gelu", &[], form);
        let before = counts(&backward.graph);
        let kinds = backward.kinds.into_iter().map(|(name, (_, shape))| (name, (dtype, shape))).collect();
        gelus(&mut backward.graph, &kinds);
        gelu_gradients(&mut backward.graph, &kinds);
        [before, counts(&backward.graph)]
    }

    #[test]
    fn what_the_rule_writes_is_found() {
        let [before, after] = operators(DType::F32, vec![]);
        for op in ["Erf", "Exp", "HardSigmoid"] {
            assert_eq!((before.get(op), after.get(op)), (Some(&1), None), "{op}");
        }
        assert_eq!((after["Gelu"], after["GeluGradient"]), (1, 1));
    }

    #[test]
    fn the_slope_of_a_relu_is_found() {
        let mut backward = between_products("Relu", &[], vec![]);
        let before = counts(&backward.graph);
        assert_eq!(relu_gradients(&mut backward.graph, &backward.kinds).iter().len(), 1);
        let after = counts(&backward.graph);
        assert_eq!((after.get("ReluGradient"), after.get("HardSigmoid")), (Some(&1), None));
        assert_eq!(after["Mul"] + 1, before["Mul"]);
    }

    #[test]
    fn other_types_and_forms_stay() {
        for (dtype, form) in [(DType::F64, vec![]), (DType::F32, vec![attribute("approximate", "tanh")])] {
            let [before, after] = operators(dtype, form);
            assert_eq!(before, after);
        }
    }
}
