//! Gelu, its gradient and that of ReLU, for which the runtime goes several times through memory.

use super::made::{Made, operands};
use super::operators::{Found, declare_own, in_parallel, missing, put};
use crate::graph::{Graph, Name, Node};
use crate::kernels::gelu::{Form, Gelu};
use crate::kernels::relu;
use crate::session::Kinds;
use crate::tensor::DType;
use ort::Result;
use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext,
};
use ort::value::TensorElementType;
use pulp::Arch;
use std::f64::consts::PI;

/// Elements of one task.
const TASK: usize = 1 << 15;

/// One of the operators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Elementwise {
    /// `Gelu(x)`
    Gelu,
    /// `GeluGradient(x, dy)`
    GeluGradient,
    /// `ReluGradient(y, dy)`
    ReluGradient,
}

impl Elementwise {
    pub const ALL: [Elementwise; 3] = [Elementwise::Gelu, Elementwise::GeluGradient, Elementwise::ReluGradient];

    fn operator(self) -> &'static str {
        match self {
            Elementwise::Gelu => "Gelu",
            Elementwise::GeluGradient => "GeluGradient",
            Elementwise::ReluGradient => "ReluGradient",
        }
    }
}

/// Puts nodes of our operators in the place of Gelu and of what the rules of differentiation write; says whether there
/// are any.
pub(super) fn replace(graph: &mut Graph, kinds: &Kinds) -> bool {
    put(graph, |node, made| {
        let (DType::F32, shape) = kinds.get(node.output().ok()?)? else { return None };
        let gelu = || Some((Elementwise::Gelu, vec![gelu(node)?]));
        let gelu_gradient = || Some((Elementwise::GeluGradient, gelu_gradient(node, made)?.to_vec()));
        let relu_gradient = || Some((Elementwise::ReluGradient, relu_gradient(node, made)?.to_vec()));
        let (operator, inputs) = gelu().or_else(gelu_gradient).or_else(relu_gradient)?;
        let alike = inputs.iter().all(|&input| kinds.get(input).is_some_and(|(_, own)| own == shape));
        let inputs = inputs.into_iter().cloned().collect();
        alike.then(|| Found { op: operator.operator(), inputs, shape: shape.clone() })
    })
}

/// The operand of a Gelu.
fn gelu(node: &Node) -> Option<&Name> {
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

impl Operator for Elementwise {
    type Kernel<'attr> = Elements;

    fn name(&self) -> &str {
        self.operator()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let count = if *self == Elementwise::Gelu { 1 } else { 2 };
        (0..count).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> Result<Elements> {
        Ok(Elements { operator: *self, arch: Arch::new() })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        declare_own(context)
    }
}

/// One of them, ready to run.
pub(super) struct Elements {
    operator: Elementwise,
    arch: Arch,
}

impl Kernel for Elements {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let x = context.input(0)?.ok_or_else(missing)?;
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let mut out = context.output(0, shape.clone())?.ok_or_else(missing)?;
        let (_, out) = out.try_extract_tensor_mut::<f32>()?;
        let (arch, tasks) = (self.arch, x.chunks(TASK).zip(out.chunks_mut(TASK)));
        if self.operator == Elementwise::Gelu {
            return in_parallel(context, tasks, |_, (x, out)| arch.dispatch(Gelu { form: Form::Value, x, out }));
        }
        let dy = context.input(1)?.ok_or_else(missing)?;
        let (_, dy) = dy.try_extract_tensor::<f32>()?;
        if dy.len() != x.len() {
            return Err(missing());
        }
        in_parallel(context, tasks.zip(dy.chunks(TASK)), |_, ((x, out), dy)| match self.operator {
            Elementwise::ReluGradient => arch.dispatch(relu::Gradient { y: x, dy, dx: out }),
            _ => arch.dispatch(Gelu { form: Form::Gradient(dy), x, out }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::tests::{between_products, counts};
    use super::super::operators::DOMAIN;
    use super::*;
    use crate::graph::attribute;
    use onnx_protobuf::AttributeProto;

    /// How often each operator is in the gradient graph of a Gelu, before and after, its values being of this type.
    fn operators(dtype: DType, form: Vec<AttributeProto>) -> [std::collections::BTreeMap<String, usize>; 2] {
        let mut backward = between_products("Gelu", &[], form);
        let before = counts(&backward.graph);
        let kinds = backward.kinds.into_iter().map(|(name, (_, shape))| (name, (dtype, shape))).collect();
        let any = replace(&mut backward.graph, &kinds);
        assert_eq!(any, backward.graph.nodes.iter().any(|node| node.domain == DOMAIN));
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
        assert!(replace(&mut backward.graph, &backward.kinds));
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
