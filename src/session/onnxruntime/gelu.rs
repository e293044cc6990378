//! Gelu and its gradient, for which the runtime goes a dozen times through memory.

use super::made::{Made, operands};
use super::operators::{DOMAIN, in_parallel, missing};
use crate::graph::{Graph, Name, Node};
use crate::kernels::gelu::{Form, Gelu};
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

/// One of the two operators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Curve {
    /// `Gelu(x)`
    Value,
    /// `GeluGradient(x, dy)`
    Gradient,
}

impl Curve {
    pub const ALL: [Curve; 2] = [Curve::Value, Curve::Gradient];

    fn operator(self) -> &'static str {
        match self {
            Curve::Value => "Gelu",
            Curve::Gradient => "GeluGradient",
        }
    }
}

/// Puts nodes of our operators in the place of Gelu and of what its rule of differentiation writes; says whether there
/// are any.
pub(super) fn replace(graph: &mut Graph, kinds: &Kinds) -> bool {
    let made = Made::new(graph);
    let single = |node: &Node| {
        let (dtype, shape) = kinds.get(node.output().ok()?)?;
        (*dtype == DType::F32).then_some(shape)
    };
    let found = graph.nodes.iter().map(|node| {
        let shape = single(node)?;
        let (curve, inputs) = match value(node) {
            Some(x) => (Curve::Value, vec![x]),
            None => (Curve::Gradient, gradient(node, &made)?.to_vec()),
        };
        let alike = inputs.iter().all(|&input| kinds.get(input).is_some_and(|(_, own)| own == shape));
        alike.then(|| (curve, inputs.into_iter().cloned().map(Some).collect::<Vec<_>>()))
    });
    let found: Vec<_> = found.collect();
    let any = found.iter().any(Option::is_some);
    for (node, found) in graph.nodes.iter_mut().zip(found) {
        if let Some((curve, inputs)) = found {
            (node.domain, node.op) = (DOMAIN.into(), curve.operator().into());
            (node.inputs, node.attributes) = (inputs, vec![]);
        }
    }
    if any {
        // What led to the gradients.
        graph.prune();
    }
    any
}

/// The operand of a Gelu.
fn value(node: &Node) -> Option<&Name> {
    let exact = node.string("approximate").is_none_or(|form| form == "none");
    (node.op == "Gelu" && node.domain.is_empty() && exact).then(|| node.input(0)).flatten()
}

/// The operands `x` and `dy` of the gradient of a Gelu that a node ends: with `u = x / √2`,
/// `dy ((1 + erf u) / 2 + u e^(-ln √π - u²))`, as [its rule](crate::autograd) has it.
fn gradient<'a>(node: &'a Node, made: &Made<'a>) -> Option<[&'a Name; 2]> {
    let [dy, slope] = operands(node, "Mul")?;
    let [cumulative, product] = made.by(slope, "Add")?;
    let [u, density] = made.by(product, "Mul")?;
    let [exponent] = made.by(density, "Exp")?;
    let [level, square] = made.by(exponent, "Sub")?;
    let [erf] = made.by(cumulative, "HardSigmoid")?;
    let halves = made.node(cumulative, "HardSigmoid")?;
    let half = |name| halves.float(name) == Some(0.5);
    let [x, scale] = made.by(u, "Mul")?;
    let number = |name, value: f64| made.number(name).is_some_and(|found| (found - value).abs() < 1e-6);
    let same = half("alpha") && half("beta") && made.by(erf, "Erf")? == [u] && made.by(square, "Mul")? == [u, u];
    (same && number(scale, 0.5f64.sqrt()) && number(level, -PI.sqrt().ln())).then_some([x, dy])
}

impl Operator for Curve {
    type Kernel<'attr> = Elements;

    fn name(&self) -> &str {
        self.operator()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let count = if *self == Curve::Value { 1 } else { 2 };
        (0..count).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> Result<Elements> {
        Ok(Elements { curve: *self, arch: Arch::new() })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> Result<()> {
        let x = context.inputs().into_iter().next().ok_or_else(missing)?;
        context.set_output(0, &x)
    }
}

/// One of them, ready to run.
pub(super) struct Elements {
    curve: Curve,
    arch: Arch,
}

impl Kernel for Elements {
    fn compute(&mut self, context: &ComputeContext) -> Result<()> {
        let x = context.input(0)?.ok_or_else(missing)?;
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let mut out = context.output(0, shape.clone())?.ok_or_else(missing)?;
        let (_, out) = out.try_extract_tensor_mut::<f32>()?;
        let tasks = x.chunks(TASK).zip(out.chunks_mut(TASK));
        match self.curve {
            Curve::Value => in_parallel(context, tasks, |_, (x, out)| {
                self.arch.dispatch(Gelu { form: Form::Value, x, out });
            }),
            Curve::Gradient => {
                let dy = context.input(1)?.ok_or_else(missing)?;
                let (_, dy) = dy.try_extract_tensor::<f32>()?;
                if dy.len() != x.len() {
                    return Err(missing());
                }
                in_parallel(context, tasks.zip(dy.chunks(TASK)), |_, ((x, out), dy)| {
                    self.arch.dispatch(Gelu { form: Form::Gradient(dy), x, out });
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::tests::{between_products, counts};
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
    fn other_types_and_forms_stay() {
        for (dtype, form) in [(DType::F64, vec![]), (DType::F32, vec![attribute("approximate", "tanh")])] {
            let [before, after] = operators(dtype, form);
            assert_eq!(before, after);
        }
    }
}
