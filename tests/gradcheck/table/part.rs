//! Values of which only some entries of an axis are read: nothing else of them is computed.

use super::*;

/// One layer of attention over five tokens and a network behind it, of which `pick` takes part.
fn layer(what: &str, pick: &str) -> Case {
    let nodes = format!(
        "q = MatMul(x, wq); k = MatMul(x, wk); kt = Transpose<perm=[0,2,1]>(k); s = MatMul(q, kt); \
         p = Softmax<axis=-1>(s); a = MatMul(p, x); f = Reshape(a, rows); o = Gemm(f, wo, bo); \
         u = Reshape(o, tokens); h = Add(x, u); n = LayerNormalization<axis=-1>(h, g, b); m = MatMul(n, wm); \
         t = Tanh(m); z = Add(h, t); {pick}"
    );
    case("Gather", what, nodes)
        .act("x", &[5, 4])
        .weight("wq", &[4, 4])
        .weight("wk", &[4, 4])
        .weight("wo", &[4, 4])
        .weight("bo", &[4])
        .weight("g", &[4])
        .weight("b", &[4])
        .weight("wm", &[4, 4])
        .ints("rows", &[-1, 4])
        .ints("tokens", &[-1, 5, 4])
        .ints_shaped("first", &[0], &[])
        .ints_shaped("last", &[-1], &[])
        .ints("two", &[-2, -1])
        .ints("no", &[0])
        .ints("one", &[1])
        .ints("three", &[3])
        .ints("five", &[5])
}

pub fn cases() -> Vec<Case> {
    let picked = |what: &str, nodes: &str| case("Gather", what, nodes).act("x", &[6, 3]).ints_shaped("at", &[4], &[]);
    vec![
        layer("the first token", "y = Gather<axis=1>(z, first)").opsets(&[17, 21]),
        layer("the last token, the axis kept", "y = Slice(z, three, five, one); v = Mul(y, y)").outputs(&["v"]),
        layer("two tokens apart, by two nodes", "c = Gather<axis=1>(z, first); d = Slice(z, one, two1, one); e = Reshape(d, row); y = Mul(c, e)")
            .ints("two1", &[2])
            .ints("row", &[-1, 4]),
        layer("tokens with another between", "c = Gather<axis=1>(z, ends); y = Mul(c, c)").ints("ends", &[0, 2]),
        layer("more than half of them", "c = Slice(z, no, three, one); y = Mul(c, c)"),
        layer("the first token and the whole", "c = Gather<axis=1>(z, first); d = Tanh(z)").outputs(&["c", "d"]),
        layer("the first token of one value and the last of another", "c = Gather<axis=1>(h, first); d = Gather<axis=1>(z, last); y = Mul(c, d)"),
        picked("tokens first", "s = Transpose<perm=[1,0,2]>(x); h = MatMul(s, w); t = Tanh(h); y = Gather<axis=0>(t, at)").weight("w", &[3, 2]),
        picked("tokens first, merged with samples", "s = Transpose<perm=[1,0,2]>(x); f = Reshape(s, m); h = Gemm(f, w); t = Reshape(h, u); y = Gather<axis=0>(t, at)")
            .weight("w", &[3, 2])
            .ints("m", &[-1, 3])
            .ints("u", &[6, -1, 2]),
        picked("a feature", "h = Tanh(x); t = Mul(h, w); y = Gather<axis=2>(t, no)").weight("w", &[3]).ints_shaped("no", &[1], &[]),
        picked("an embedding of places", "h = Add(x, w); t = Tanh(h); y = Gather<axis=1>(t, at)").weight("w", &[6, 3]),
        picked("an embedding of places in another order", "v = Transpose(w); h = Add(x, v); t = Tanh(h); y = Gather<axis=1>(t, at)").weight("w", &[3, 6]),
        picked("a column of the right operand", "h = MatMul(x, w); t = Tanh(h); y = Gather<axis=2>(t, no)").weight("w", &[3, 5]).ints_shaped("no", &[1], &[]),
        picked("repeated along the axis", "h = Tanh(x); c = Slice(h, zero, one, axis); e = Expand(c, s); t = Mul(e, x); y = Gather<axis=1>(t, at)")
            .ints("zero", &[0])
            .ints("one", &[1])
            .ints("axis", &[1])
            .ints("s", &[1, 6, 3]),
        picked("a part of a part", "h = Tanh(x); c = Slice(h, two, six, axis); t = Mul(c, c); y = Gather<axis=1>(t, no)")
            .ints("two", &[2])
            .ints("six", &[6])
            .ints("axis", &[1])
            .ints_shaped("no", &[1], &[]),
        picked("every third of a part, and a part of another axis", "h = Tanh(x); t = Mul(h, h); y = Slice(t, starts, ends, axes, steps)")
            .ints("starts", &[-5, 1])
            .ints("ends", &[-1, 3])
            .ints("axes", &[1, 2])
            .ints("steps", &[3, 1]),
        picked("an axis of length one put in", "h = Tanh(x); u = Unsqueeze(h, axis); t = Mul(u, u); y = Gather<axis=2>(t, at)").ints("axis", &[1]),
        picked("levels of each entry", "c = Cast<to=3>(i); t = DequantizeLinear<axis=1>(c, scale); z = Mul(t, x); y = Gather<axis=1>(z, at)")
            .indices("i", &[6, 3], 4)
            .singles("scale", &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
            .single("its scales are float32"),
    ]
}
