//! Operators that ONNX Runtime's optimiser writes.

use super::*;

const TRACT: &str = "tract does not know the operator";

fn fused(op: &'static str, what: &str, call: &str) -> Case {
    let case = case(op, what, format!("y = com.microsoft.{call}"));
    let case = if ["FusedConv", "FusedMatMul"].contains(&op) { case.not_in_tract(TRACT) } else { case };
    match op {
        "FusedMatMul" | "QuickGelu" => case,
        "FastGelu" => case.single("ONNX Runtime rounds its constants to float32"),
        _ => case.single(NO_F64),
    }
}

pub fn cases() -> Vec<Case> {
    let conv = |what: &str, attributes: &str| {
        fused("FusedConv", what, &format!("FusedConv<pads=[1,1,1,1],{attributes}>(x, w, b)"))
            .act("x", &[2, 4, 4])
            .weight("w", &[3, 2, 3, 3])
            .weight("b", &[3])
    };
    let skip = |op, what: &str, call: &str| {
        fused(op, what, call).act("x", &[3, 4]).act("z", &[3, 4]).weight_in(POSITIVE, "g", &[4])
    };
    vec![
        fused("FusedMatMul", "scaled", "FusedMatMul<alpha=0.5>(x, w)").act("x", &[3, 4]).weight("w", &[4, 2]),
        fused("FusedMatMul", "transposed weight", "FusedMatMul<transB=1>(x, w)").act("x", &[3, 4]).weight("w", &[2, 4]),
        fused("FusedMatMul", "two activations", "FusedMatMul<transA=1,alpha=0.25>(x, z)")
            .act("x", &[3, 4])
            .act("z", &[3, 2]),
        conv("sigmoid", "activation=\"Sigmoid\""),
        conv("tanh", "activation=\"Tanh\""),
        conv("hard sigmoid", "activation=\"HardSigmoid\",activation_params=[0.0625,0.5]"),
        fused("FusedConv", "an addend", "FusedConv<activation=\"Tanh\">(x, w, b, z)")
            .act("x", &[2, 4, 4])
            .weight("w", &[3, 2, 2, 2])
            .weight("b", &[3])
            .act("z", &[3, 3, 3])
            .not_polynomial(),
        fused("Gelu", "fused", "Gelu(x)").act("x", &[3, 4]),
        fused("FastGelu", "plain", "FastGelu(x)").act("x", &[3, 4]),
        fused("FastGelu", "biased", "FastGelu(x, b)").act("x", &[3, 4]).weight("b", &[4]),
        fused("QuickGelu", "plain", "QuickGelu(x)").act("x", &[3, 4]),
        fused("QuickGelu", "steeper", "QuickGelu<alpha=2.5>(x)").act("x", &[3, 4]),
        fused("BiasGelu", "plain", "BiasGelu(x, b)").act("x", &[3, 4]).weight("b", &[4]),
        skip("SkipLayerNormalization", "all operands", "SkipLayerNormalization<epsilon=0.001>(x, z, g, b, c)")
            .weight("b", &[4])
            .weight("c", &[4]),
        skip("SkipLayerNormalization", "no bias", "SkipLayerNormalization(x, z, g)"),
        Case {
            nodes: "n, , , s = com.microsoft.SkipLayerNormalization(x, z, g, b); t = Tanh(s); y = Add(n, t)".into(),
            ..skip("SkipLayerNormalization", "the sum is used", "SkipLayerNormalization(x, z, g, b)").weight("b", &[4])
        },
        skip("SkipSimplifiedLayerNormalization", "biased", "SkipSimplifiedLayerNormalization(x, z, g, c)")
            .weight("c", &[4]),
    ]
}
