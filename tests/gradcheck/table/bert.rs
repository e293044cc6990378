//! Operators that ONNX Runtime's optimiser writes for transformers.

use super::*;

const TRACT: &str = "tract does not know the operator";

fn fused(op: &'static str, what: &str, call: &str) -> Case {
    let nodes = if call.contains(" = ") { call.into() } else { format!("y = com.microsoft.{op}{call}") };
    case(op, what, nodes).single(NO_F64).not_in_tract(TRACT)
}

fn embed(what: &str, call: &str) -> Case {
    let first = "a = Add(i, four); w = Cast<to=6>(a)";
    fused("EmbedLayerNormalization", what, call)
        .prepend(first)
        .indices("i", &[3], 4)
        .ints("four", &[4])
        .weight("words", &[8, 4])
        .weight("places", &[5, 4])
        .weight_in(POSITIVE, "g", &[4])
        .weight("b", &[4])
}

/// Eight features of three positions, projected to two heads.
fn attention(what: &str, call: &str) -> Case {
    fused("Attention", what, call).act("x", &[3, 8]).weight("w", &[8, 12]).weight("b", &[12])
}

fn multi_head(what: &str, call: &str) -> Case {
    fused("MultiHeadAttention", what, call).act("q", &[3, 4]).act("k", &[3, 4]).act("v", &[3, 4])
}

fn rotary(what: &str, call: &str, angles: usize) -> Case {
    let case = case("RotaryEmbedding", what, format!("y = com.microsoft.RotaryEmbedding{call}")).single(NO_F64);
    let tables = Sampler::Uniform(-1.0, 1.0);
    case.constant(tables, "c", &[8, angles]).constant(tables, "s", &[8, angles])
}

/// Two or three unmasked words of three.
const LENGTHS: &str = "l = Add(i, three); m = Cast<to=6>(l)";
/// The first word unmasked, the others by chance.
const MASK: &str = "first = Equal(at, zero); n = Or(c, first); m = Cast<to=6>(n)";

/// As the optimiser leaves a BERT of one layer.
const ENCODER: &str = "u = Add(j, one); t = Cast<to=6>(u); f = Equal(at, zero); n = Or(k, f); m = Cast<to=6>(n); \
    e, l = com.microsoft.EmbedLayerNormalization<epsilon=0.001>(w, t, words, places, segments, g, b, m); \
    v = com.microsoft.Attention<num_heads=2>(e, aw, ab, l); o = MatMul(v, ow); \
    h = com.microsoft.SkipLayerNormalization<epsilon=0.001>(o, e, g1, b1, ob); \
    i1 = MatMul(h, uw); i2 = com.microsoft.BiasGelu(i1, ub); i3 = MatMul(i2, dw); \
    r = com.microsoft.SkipLayerNormalization<epsilon=0.001>(i3, h, g2, b2, db); \
    c = Gather<axis=1>(r, zero); q = Squeeze(c, one); p = Gemm(q, pw, pb); y = Tanh(p)";

pub fn cases() -> Vec<Case> {
    let lengths = |case: Case| case.indices("i", &[], 1).ints("three", &[3]).prepend(LENGTHS);
    let masked =
        |case: Case, shape: &[usize]| case.choices("c", shape).ints("at", &[0, 1, 2]).ints("zero", &[0]).prepend(MASK);
    vec![
        embed("words and positions", "y, = com.microsoft.EmbedLayerNormalization(w, , words, places, , g, b)"),
        embed("segments", "y, = com.microsoft.EmbedLayerNormalization<epsilon=0.001>(w, t, words, places, segments, g, b)")
            .weight("segments", &[2, 4])
            .indices("j", &[3], 1)
            .ints("one", &[1])
            .prepend("u = Add(j, one); t = Cast<to=6>(u)"),
        embed("positions given", "y, = com.microsoft.EmbedLayerNormalization(w, , words, places, , g, b, , p)")
            .indices("j", &[3], 2)
            .ints("two", &[2])
            .prepend("u = Add(j, two); p = Cast<to=6>(u)"),
        embed("the sum is used", "n, , s = com.microsoft.EmbedLayerNormalization(w, , words, places, , g, b); t = Tanh(s); y = Add(n, t)"),
        embed("words are counted", "n, l = com.microsoft.EmbedLayerNormalization<mask_index_type=1>(w, , words, places, , g, b, m); y = com.microsoft.Attention<num_heads=2>(n, v, c, l)")
            .weight("v", &[4, 12])
            .weight("c", &[12])
            .choices("k", &[3])
            .prepend("m = Cast<to=6>(k)"),
        attention("plain", "<num_heads=2>(x, w, b)"),
        attention("causal, scaled", "<num_heads=2,unidirectional=1,scale=0.3>(x, w, b)"),
        fused("Attention", "widths of their own", "<num_heads=2,qkv_hidden_sizes=[4,4,6]>(x, w, b)")
            .act("x", &[3, 8])
            .weight("w", &[8, 14])
            .weight("b", &[14]),
        lengths(attention("lengths", "<num_heads=2>(x, w, b, m)")),
        masked(attention("masked words", "<num_heads=2,mask_filter_value=-50.0>(x, w, b, m)"), &[3]),
        masked(attention("masked pairs", "<num_heads=2>(x, w, b, m)"), &[3, 3]),
        attention("numbers added", "<num_heads=2>(x, w, b, , , r)").act("r", &[2, 3, 3]),
        attention("numbers added, for all samples", "<num_heads=2>(x, w, b, , , r)").weight("r", &[1, 2, 3, 3]),
        embed("a whole encoder", ENCODER)
            .weight("segments", &[2, 4])
            .indices("j", &[3], 1)
            .ints("one", &[1])
            .choices("k", &[3])
            .ints("at", &[0, 1, 2])
            .ints("zero", &[0])
            .weight("aw", &[4, 12])
            .weight("ab", &[12])
            .weight("ow", &[4, 4])
            .weight("ob", &[4])
            .weight_in(POSITIVE, "g1", &[4])
            .weight("b1", &[4])
            .weight("uw", &[4, 6])
            .weight("ub", &[6])
            .weight("dw", &[6, 4])
            .weight("db", &[4])
            .weight_in(POSITIVE, "g2", &[4])
            .weight("b2", &[4])
            .weight("pw", &[4, 4])
            .weight("pb", &[4]),
        multi_head("plain", "<num_heads=2>(q, k, v)"),
        multi_head("biased, causal, scaled", "<num_heads=2,unidirectional=1,scale=0.3>(q, k, v, b)").weight("b", &[12]),
        lengths(multi_head("lengths, numbers added", "<num_heads=2>(q, k, v, , m, r)").act("r", &[2, 3, 3])),
        masked(multi_head("masked words", "<num_heads=2>(q, k, v, , m)"), &[3]),
        multi_head("past keys and values", "y, a, c = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v, , , , p, r)")
            .act("p", &[2, 2, 2])
            .act("r", &[2, 2, 2]),
        fused("MultiHeadAttention", "keys of another length", "<num_heads=2>(q, k, v)")
            .act("q", &[3, 4])
            .act("k", &[5, 4])
            .act("v", &[5, 6]),
        fused("MultiHeadAttention", "heads of keys apart", "<num_heads=2>(q, k, v)")
            .act("q", &[3, 4])
            .act("k", &[2, 5, 2])
            .act("v", &[2, 5, 2]),
        rotary("positions given", "(x, o, c, s)", 2)
            .act("x", &[2, 3, 4])
            .indices("p", &[3], 4)
            .ints("four", &[4])
            .prepend("o = Add(p, four)"),
        rotary("from a first position, heads merged", "(x, o, c, s)", 2)
            .act("x", &[3, 8])
            .ints("o", &[2])
            .not_in_tract("tract demands num_heads"),
        rotary("neighbours, some features, from a first position", "<interleaved=1,num_heads=2,rotary_embedding_dim=2>(x, o, c, s)", 1)
            .act("x", &[3, 8])
            .ints("o", &[0]),
        fused("TransposeMatMul", "transposed weight", "<transB=1,alpha=0.5>(x, w)").act("x", &[3, 4]).weight("w", &[2, 4]),
    ]
}
