//! Operators that ONNX Runtime's optimiser fuses.

use super::normal::{epsilon, rooted, standardised};
use super::{GradError, Name, Node, Tape, Values, one};
use std::f64::consts::PI;

/// `Y = alpha A' B'`.
pub(crate) fn matmul(node: &Node, tape: &mut Tape) -> Values {
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    if flag("transBatchA") || flag("transBatchB") {
        return Err(GradError::unsupported(node, "batch axes are moved"));
    }
    let turned = |tape: &mut Tape, value: &Name, swap: bool| if swap { tape.swap_last(value) } else { value.clone() };
    let (a, b) = (node.required(0)?, node.required(1)?);
    if tape.rank(a) < 2 || tape.rank(b) < 2 {
        return Err(GradError::unsupported(node, "an operand has one axis"));
    }
    let a = turned(tape, a, flag("transA"));
    let b = turned(tape, b, flag("transB"));
    let product = tape.matmul(&a, &b);
    one(tape.scale(&product, node.float("alpha").unwrap_or(1.0).into()))
}

/// `Y = activation(W ⋆ X + b + Z)`.
pub(crate) fn conv(node: &Node, tape: &mut Tape) -> Values {
    let own = ["activation", "activation_params"];
    let attributes = node.attributes.iter().filter(|a| !own.contains(&a.name.as_str())).cloned().collect();
    let y = node.output()?;
    let kind = (tape.dtype(y), tape.shape(y));
    let operands: Vec<&Name> = [node.required(0)?, node.required(1)?].into_iter().chain(node.input(2)).collect();
    let mut value = tape.node("Conv", &operands, attributes, kind);
    if let Some(addend) = node.input(3) {
        value = tape.add(&value, addend);
    }
    let given = node.attribute("activation_params").map(|a| a.floats.as_slice()).unwrap_or_default();
    let kind = (tape.dtype(y), tape.shape(y));
    let alpha = |default: f32| vec![crate::graph::attribute("alpha", given.first().copied().unwrap_or(default))];
    one(match node.string("activation").unwrap_or("") {
        "" => value,
        op @ ("Relu" | "Sigmoid" | "Tanh") => tape.unary(op, &value),
        "LeakyRelu" => tape.node("LeakyRelu", &[&value], alpha(0.01), kind),
        "HardSigmoid" => {
            let beta = crate::graph::attribute("beta", given.get(1).copied().unwrap_or(0.5));
            tape.node("HardSigmoid", &[&value], [alpha(0.2), vec![beta]].concat(), kind)
        }
        "Clip" if given.len() == 2 => {
            let (low, high) = (tape.scalar(&value, given[0].into()), tape.scalar(&value, given[1].into()));
            tape.node("Clip", &[&value, &low, &high], vec![], kind)
        }
        other => return Err(GradError::unsupported(node, format!("activation is {other}"))),
    })
}

/// `x Φ(x) = x (1 + erf(x / √2)) / 2`.
fn normal_gate(tape: &mut Tape, x: &Name) -> Name {
    let scaled = tape.scale(x, 0.5f64.sqrt());
    let erf = tape.unary("Erf", &scaled);
    let gate = tape.shift(&erf, 1.0);
    let half = tape.scale(x, 0.5);
    tape.mul(&half, &gate)
}

/// `y = (x + b) Φ(x + b)`, the bias optional.
pub(crate) fn gelu(node: &Node, tape: &mut Tape) -> Values {
    let x = biased(node, tape)?;
    one(normal_gate(tape, &x))
}

/// `y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`, of `x` plus an optional bias.
pub(crate) fn fast_gelu(node: &Node, tape: &mut Tape) -> Values {
    let x = biased(node, tape)?;
    let root = (2.0 / PI).sqrt();
    let square = tape.mul(&x, &x);
    let cubic = tape.scale(&square, 0.044715 * root);
    let inner = tape.shift(&cubic, root);
    let inner = tape.mul(&x, &inner);
    let tanh = tape.unary("Tanh", &inner);
    let gate = tape.shift(&tanh, 1.0);
    let half = tape.scale(&x, 0.5);
    one(tape.mul(&half, &gate))
}

fn biased(node: &Node, tape: &mut Tape) -> Result<Name, GradError> {
    let x = node.required(0)?;
    Ok(node.input(1).map_or_else(|| x.clone(), |bias| tape.add(x, bias)))
}

/// `y = x sigmoid(alpha x)`.
pub(crate) fn quick_gelu(node: &Node, tape: &mut Tape) -> Values {
    let x = node.required(0)?;
    let scaled = tape.scale(x, node.float("alpha").unwrap_or(1.702).into());
    let gate = tape.unary("Sigmoid", &scaled);
    one(tape.mul(x, &gate))
}

/// `y = gamma x̂ + beta` of `s = x + skip + bias`; the last output is `s`.
pub(crate) fn skip_layer(node: &Node, tape: &mut Tape) -> Values {
    let sum = skipped(node, tape, 4)?;
    let axis = tape.rank(&sum) - 1;
    let normal = standardised(tape, &sum, &[axis], epsilon(node, 1e-12));
    let y = scaled(tape, &normal, node.required(2)?, node.input(3));
    Ok(vec![Some(y), None, None, Some(sum)])
}

/// `y = gamma s / √(mean(s²) + ε)` of `s = x + skip + bias`; the last output is `s`.
pub(crate) fn skip_simplified(node: &Node, tape: &mut Tape) -> Values {
    let sum = skipped(node, tape, 3)?;
    let axis = tape.rank(&sum) - 1;
    let normal = rooted(tape, &sum, &[axis], epsilon(node, 1e-12));
    let y = scaled(tape, &normal, node.required(2)?, None);
    Ok(vec![Some(y), None, None, Some(sum)])
}

fn skipped(node: &Node, tape: &mut Tape, bias: usize) -> Result<Name, GradError> {
    let sum = tape.add(node.required(0)?, node.required(1)?);
    Ok(node.input(bias).map_or_else(|| sum.clone(), |bias| tape.add(&sum, bias)))
}

/// `x̂ gamma + beta`, the addend optional.
pub(super) fn scaled(tape: &mut Tape, normal: &Name, gamma: &Name, beta: Option<&Name>) -> Name {
    let y = tape.mul(normal, gamma);
    beta.map_or_else(|| y.clone(), |beta| tape.add(&y, beta))
}
