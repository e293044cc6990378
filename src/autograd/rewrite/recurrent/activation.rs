//! Activation functions that recurrent layers name in attributes.

use super::super::{GradError, Name, Node, Tape};
use crate::graph::attribute;

/// One function with its numbers.
pub(super) struct Activation {
    name: String,
    alpha: f64,
    beta: f64,
}

/// Numbers that a function takes, by its name in lower case, each with its default, which is no number where there is none.
fn defaults(name: &str) -> Option<&'static [f64]> {
    Some(match name {
        "relu" | "sigmoid" | "softplus" | "softsign" | "tanh" => &[],
        "leakyrelu" => &[0.01],
        "elu" => &[1.0],
        "thresholdedrelu" => &[f64::NAN],
        "hardsigmoid" => &[0.2, 0.5],
        "affine" | "scaledtanh" => &[f64::NAN, f64::NAN],
        _ => return None,
    })
}

/// The activations of one direction. Numbers are handed out in the order of the functions that take them.
pub(super) fn all(node: &Node, default: &[&str], direction: usize) -> Result<Vec<Activation>, GradError> {
    let named = node.strings("activations");
    let names = if named.is_empty() { default.repeat(direction + 1) } else { named };
    let (mut alphas, mut betas) = (node.floats("activation_alpha").iter(), node.floats("activation_beta").iter());
    let mut all = Vec::new();
    for name in names {
        let name = name.to_lowercase();
        let reason = || GradError::unsupported(node, format!("activation is {name}"));
        let numbers = defaults(&name).ok_or_else(reason)?;
        let mut next = |i: usize| {
            let given = if i == 0 { &mut alphas } else { &mut betas };
            numbers.get(i).map(|&default| given.next().map_or(default, |&x| x.into())).unwrap_or(0.0)
        };
        let (alpha, beta) = (next(0), next(1));
        if alpha.is_nan() || beta.is_nan() {
            return Err(GradError::unsupported(node, format!("activation {name} lacks its numbers")));
        }
        all.push(Activation { name, alpha, beta });
    }
    let all: Vec<Activation> = all.into_iter().skip(direction * default.len()).take(default.len()).collect();
    if all.len() == default.len() { Ok(all) } else { Err(node.bad("activations").into()) }
}

impl Activation {
    /// The function of `x`.
    pub fn of(&self, tape: &mut Tape, x: &Name) -> Name {
        let numbered = |tape: &mut Tape, op: &str, names: &[&str]| {
            let numbers = names.iter().zip([self.alpha, self.beta]);
            let kind = (tape.dtype(x), tape.shape(x));
            tape.node(op, &[x], numbers.map(|(name, n)| attribute(name, n as f32)).collect(), kind)
        };
        match self.name.as_str() {
            "relu" => tape.unary("Relu", x),
            "softplus" => tape.unary("Softplus", x),
            "softsign" => tape.unary("Softsign", x),
            "sigmoid" => tape.unary("Sigmoid", x),
            "leakyrelu" => numbered(tape, "LeakyRelu", &["alpha"]),
            "elu" => numbered(tape, "Elu", &["alpha"]),
            "thresholdedrelu" => numbered(tape, "ThresholdedRelu", &["alpha"]),
            "hardsigmoid" => numbered(tape, "HardSigmoid", &["alpha", "beta"]),
            "affine" => {
                let scaled = tape.scale(x, self.alpha);
                tape.shift(&scaled, self.beta)
            }
            "scaledtanh" => {
                let scaled = tape.scale(x, self.beta);
                let tanh = tape.unary("Tanh", &scaled);
                tape.scale(&tanh, self.alpha)
            }
            _ => tape.unary("Tanh", x),
        }
    }
}
