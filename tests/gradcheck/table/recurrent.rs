//! Recurrent layers: samples lie on the second axis.

use super::*;
use crate::case::{Kind, Operand};

const FEATURES: usize = 3;
const HIDDEN: usize = 2;
const STEPS: usize = 4;

/// A layer over sequences of every sample, with its weights; `what` names the optional operands that are given.
fn layer(op: &'static str, what: &str, attributes: &str, given: &[&str], outputs: &str) -> Case {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let ways = if attributes.contains("bidirectional") { 2 } else { 1 };
    let attributes = format!("hidden_size={HIDDEN}{}{attributes}", if attributes.is_empty() { "" } else { "," });
    let operand = |slot: usize| ["b", "n", "h", "c", "p"].get(slot).filter(|name| given.contains(name)).unwrap_or(&"");
    let operands: Vec<&str> = (0..5).map(operand).copied().collect();
    let operands = operands.join(", ");
    let operands = operands.trim_end_matches([',', ' ']);
    let comma = if operands.is_empty() { "" } else { ", " };
    let nodes = format!("s = Transpose<perm=[1,0,2]>(x); {outputs} = {op}<{attributes}>(s, w, r{comma}{operands})");
    let mut case = case(op, what, nodes)
        .act("x", &[STEPS, FEATURES])
        .weight("w", &[ways, gates * HIDDEN, FEATURES])
        .weight("r", &[ways, gates * HIDDEN, HIDDEN])
        .single(NO_F64);
    for name in given {
        case = match *name {
            "b" => case.weight("b", &[ways, 2 * gates * HIDDEN]),
            "n" => case
                .indices("i", &[], 2)
                .ints("three", &[3])
                .prepend("m = Add(i, three); n = Cast<to=6>(m)")
                .not_in_tract("tract demands constant lengths"),
            "p" => case.weight("p", &[ways, 3 * HIDDEN]),
            "h" => case.act("h0", &[ways, HIDDEN]).prepend("h = Transpose<perm=[1,0,2]>(h0)"),
            _ => case.act("c0", &[ways, HIDDEN]).prepend("c = Transpose<perm=[1,0,2]>(c0)"),
        };
    }
    case
}

/// The layer on numbers for which every sum is far from a kink at a multiple of a quarter.
fn on_a_grid(case: Case) -> Case {
    let same = |x| Kind::Weight(Sampler::Uniform(x, x));
    let place = |operand: &Operand| match operand.name {
        "x" => Operand { name: "x", shape: vec![STEPS, 1], kind: Kind::Activation(Sampler::Distinct) },
        "w" => Operand { name: "w", shape: vec![operand.shape[0], operand.shape[1], 1], kind: same(1.0) },
        name => Operand { name, shape: operand.shape.clone(), kind: same(if name == "r" { 0.005 } else { 0.0625 }) },
    };
    Case { operands: case.operands.iter().map(place).collect(), ..case }
}

/// A layer whose outputs are added up.
fn added(case: Case, nodes: &str) -> Case {
    Case { nodes: format!("{}; {nodes}", case.nodes), ..case }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ["LSTM", "GRU", "RNN"] {
        let layer = |what, attributes, given: &[&str], outputs| layer(op, what, attributes, given, outputs);
        cases.extend([
            layer("forward, weights alone", "", &[], "y"),
            layer("biased", "", &["b"], "y").opsets(ALL_BANDS),
            layer("reverse", "direction=\"reverse\"", &["b"], "y"),
            layer("bidirectional, with a first state", "direction=\"bidirectional\"", &["b", "h"], "y"),
            layer("the last state alone", "", &["b"], ", y"),
            added(layer("all and the last state", "", &["b"], "a, l"), "t = Tanh(l); y = Add(a, t)"),
            layer("reverse, lengths", "direction=\"reverse\"", &["b", "n"], "y"),
            layer("bidirectional, lengths, the last state", "direction=\"bidirectional\"", &["b", "n"], ", y"),
            on_a_grid(layer("clipped", "clip=0.5", &["b"], "y")),
        ]);
    }
    let names = |list: &str| format!("activations=[{list}]");
    cases.extend([
        layer("LSTM", "peepholes", "", &["b", "h", "c", "p"], "y"),
        layer("LSTM", "bidirectional, peepholes", "direction=\"bidirectional\"", &["b", "p"], "y"),
        layer("LSTM", "forget gate coupled", "input_forget=1", &["b"], "y"),
        added(layer("LSTM", "the last cell state", "", &["b", "c"], "a, l, c1"), "t = Mul(l, c1); y = Add(a, t)"),
        added(
            layer("LSTM", "lengths, the last cell state", "", &["b", "c", "n"], "a, l, c1"),
            "t = Mul(l, c1); y = Add(a, t)",
        ),
        layer(
            "LSTM",
            "other activations",
            &format!(
                "{},activation_alpha=[0.25,1.5],activation_beta=[0.4,0.8]",
                names("\"HardSigmoid\",\"Softsign\",\"ScaledTanh\"")
            ),
            &["b"],
            "y",
        ),
        layer("GRU", "reset after the product", "linear_before_reset=1", &["b"], "y"),
        layer("GRU", "reset after the product, no bias", "linear_before_reset=1", &["h"], "y"),
        layer(
            "GRU",
            "bidirectional, reset after the product",
            "linear_before_reset=1,direction=\"bidirectional\"",
            &["b", "n"],
            "y",
        ),
        layer(
            "GRU",
            "other activations",
            &format!("{},activation_alpha=[0.3]", names("\"HardSigmoid\",\"Relu\"")),
            &["b"],
            "y",
        ),
        layer(
            "RNN",
            "an activation for each direction",
            &format!(
                "direction=\"bidirectional\",{},activation_alpha=[0.7],activation_beta=[0.2]",
                names("\"Affine\",\"Softplus\"")
            ),
            &["b"],
            "y",
        ),
    ]);
    for list in ["\"Relu\"", "\"LeakyRelu\"", "\"Elu\"", "\"ThresholdedRelu\"],activation_alpha=[0.25"] {
        cases.push(on_a_grid(layer("RNN", &format!("activation {list}"), &names(list), &["b"], "y")));
    }
    cases
}
