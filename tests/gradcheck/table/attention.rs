//! Attention and rotary embedding of the default domain.

use super::*;

const HEADS: &[usize] = &[2, 3, 4];

fn attention(what: &str, call: &str) -> Case {
    let case = case("Attention", what, if call.contains(" = ") { call.into() } else { format!("y = {call}") });
    case.opsets(&[23]).not_in_tract("tract does not know the operator")
}

pub fn cases() -> Vec<Case> {
    let heads = |what: &str, call: &str| attention(what, call).act("q", HEADS).act("k", HEADS).act("v", HEADS);
    let flat = |what: &str, call: &str, kv: usize| {
        attention(what, call).act("q", &[3, 8]).act("k", &[5, kv]).act("v", &[5, kv])
    };
    let outputs = |mode: usize| {
        let call = format!(
            "o, , , s = Attention<qk_matmul_output_mode={mode},softcap=2.0>(q, k, v, m); t = Tanh(s); y = Concat<axis=-1>(o, t)"
        );
        heads(&format!("scores asked for, mode {mode}"), &call).constant(Sampler::Uniform(-1.0, 1.0), "m", &[3, 3])
    };
    let rotary = |what: &str, call: &str| {
        case("RotaryEmbedding", what, format!("y = RotaryEmbedding{call}")).opsets(&[23]).single(NO_F64)
    };
    let tables = |case: Case, angles: usize| {
        case.indices("p", &[3], 4)
            .prepend("o = Add(p, four)")
            .ints("four", &[4])
            .constant(Sampler::Uniform(-1.0, 1.0), "c", &[8, angles])
            .constant(Sampler::Uniform(-1.0, 1.0), "s", &[8, angles])
    };
    vec![
        heads("heads apart", "Attention(q, k, v)").opsets(&[23, 24]),
        heads("capped, causal, numbers as the mask, in float32", "Attention<is_causal=1,softcap=0.5>(q, k, v, m)")
            .act("m", &[2, 3, 3])
            .single("ONNX Runtime has a kernel for float32, a function for float64"),
        flat("heads merged", "Attention<q_num_heads=2,kv_num_heads=2>(q, k, v)", 8),
        flat("queries share keys, scaled", "Attention<q_num_heads=4,kv_num_heads=2,scale=0.7>(q, k, v)", 4),
        heads("causal, capped", "Attention<is_causal=1,softcap=0.5>(q, k, v)"),
        heads("numbers as the mask", "Attention(q, k, v, m)").act("m", &[2, 3, 3]),
        heads("numbers as the mask, for all samples", "Attention(q, k, v, m)").weight("m", &[3, 3]),
        heads("truth values as the mask", "Attention(q, k, v, m)")
            .choices("c", &[1, 3, 3])
            .ints_shaped("i", &[0, 1, 2], &[3, 1])
            .ints("j", &[0, 1, 2])
            .prepend("d = Equal(i, j); m = Or(c, d)"),
        heads("past keys and values", "y, a, b = Attention<is_causal=1>(q, k, v, , pk, pv)")
            .act("pk", &[2, 2, 4])
            .act("pv", &[2, 2, 4]),
        heads(
            "present keys and values are used",
            "o, a, b = Attention(q, k, v, , pk, pv); c = Mul(a, b); y = Concat<axis=2>(o, c)",
        )
        .act("pk", &[2, 2, 4])
        .act("pv", &[2, 2, 4]),
        heads("keys have lengths", "Attention(q, k, v, , , , n)")
            .indices("i", &[], 1)
            .prepend("n = Add(i, three)")
            .ints("three", &[3])
            .opsets(&[24]),
        outputs(0),
        outputs(1),
        outputs(2),
        outputs(3),
        tables(rotary("halves", "(x, c, s, o)").act("x", &[2, 3, 4]), 2),
        tables(
            rotary("neighbours, some features", "<interleaved=1,rotary_embedding_dim=4>(x, c, s, o)")
                .act("x", &[2, 3, 6]),
            2,
        ),
        tables(
            rotary("halves, some features, heads merged", "<rotary_embedding_dim=2,num_heads=2>(x, c, s, o)")
                .act("x", &[3, 8]),
            1,
        ),
        rotary("angles given for each position", "(x, c, s)").act("x", &[2, 3, 4]).act("c", &[3, 2]).act("s", &[3, 2]),
    ]
}
