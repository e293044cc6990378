//! Matrix products.

use super::*;

pub fn cases() -> Vec<Case> {
    let matmul = |what, nodes: &str| case("MatMul", what, nodes);
    let mut cases = vec![
        matmul("rows and a weight", "y = MatMul(x, w)").act("x", &[4]).weight("w", &[4, 3]).opsets(EVERY),
        matmul("tokens and a weight", "y = MatMul(x, w)").act("x", &[5, 4]).weight("w", &[4, 3]),
        matmul("heads of tokens and a weight", "y = MatMul(x, w)").act("x", &[2, 5, 4]).weight("w", &[4, 3]),
        matmul("weight on the left", "y = MatMul(w, x)").act("x", &[4, 3]).weight("w", &[2, 4]),
        matmul("batched weight on the right", "y = MatMul(x, w)").act("x", &[2, 5, 4]).weight("w", &[2, 4, 3]),
        matmul("batched weight on the left, an axis of length 1", "y = MatMul(w, x)")
            .act("x", &[1, 4, 3])
            .weight("w", &[2, 5, 4]),
        matmul("weight with an axis of length 1", "y = MatMul(x, w)").act("x", &[5, 4]).weight("w", &[1, 4, 3]),
        matmul("two activations", "y = MatMul(a, b)").act("a", &[2, 5, 4]).act("b", &[2, 4, 3]),
        matmul("two activations, one broadcast", "y = MatMul(a, b)").act("a", &[1, 5, 4]).act("b", &[2, 4, 3]),
        matmul("a value with itself", "t = Transpose<perm=[0,2,1]>(x); y = MatMul(x, t)").act("x", &[3, 4]),
        matmul("a weight used twice", "h = MatMul(x, w); y = MatMul(h, w)").act("x", &[5, 3]).weight("w", &[3, 3]),
        matmul("a vector of weights on the right", "y = MatMul(x, w)").act("x", &[5, 4]).weight("w", &[4]),
        matmul("rows and a vector of weights", "y = MatMul(x, w)").act("x", &[4]).weight("w", &[4]),
        matmul("a vector of weights on the left", "y = MatMul(w, x)").act("x", &[4, 3]).weight("w", &[4]),
        matmul("weight behind Transpose", "v = Transpose(w); y = MatMul(x, v)").act("x", &[5, 4]).weight("w", &[3, 4]),
        matmul("weight behind Transpose, rows", "v = Transpose(w); y = MatMul(x, v)")
            .act("x", &[4])
            .weight("w", &[3, 4]),
        matmul("weight behind Reshape", "v = Reshape(w, s); y = MatMul(x, v)")
            .act("x", &[5, 4])
            .weight("w", &[2, 6])
            .ints("s", &[4, 3]),
        matmul(
            "weight behind Reshape, Transpose and Identity",
            "a = Reshape(w, s); b = Transpose<perm=[1,0]>(a); v = Identity(b); y = MatMul(x, v)",
        )
        .act("x", &[5, 4])
        .weight("w", &[2, 6])
        .ints("s", &[3, 4]),
        matmul(
            "weight behind Unsqueeze and Transpose",
            "a = Unsqueeze(w, s); v = Transpose<perm=[0,2,1]>(a); y = MatMul(x, v)",
        )
        .act("x", &[5, 4])
        .weight("w", &[3, 4])
        .ints("s", &[0]),
        matmul("weight as it is and behind Transpose", "v = Transpose(w); h = MatMul(x, w); y = MatMul(h, v)")
            .act("x", &[5, 4])
            .weight("w", &[4, 3]),
        matmul(
            "weight cut and joined in another order",
            "a = Slice(w, s, e, s); b = Slice(w, e, f, s); v = Concat<axis=0>(b, a); y = MatMul(x, v)",
        )
        .act("x", &[5, 4])
        .weight("w", &[4, 3])
        .ints("s", &[0])
        .ints("e", &[1])
        .ints("f", &[4]),
        matmul(
            "two weights joined, moved and cut apart",
            "c = Concat<axis=0>(v, w); t = Transpose<perm=[1,0]>(c); a = Slice(t, s, e, o); b = Slice(t, e, f, o); h = MatMul(x, a); g = Tanh(h); y = MatMul(g, b)",
        )
        .act("x", &[5, 4])
        .weight("v", &[4, 4])
        .weight("w", &[3, 4])
        .ints("s", &[0])
        .ints("e", &[4])
        .ints("f", &[7])
        .ints("o", &[1]),
        matmul(
            "two weights joined and taken apart as they were",
            "c = Concat<axis=0>(v, w); a = Slice(c, s, e, s); b = Slice(c, e, f, s); h = MatMul(x, a); y = MatMul(h, b)",
        )
        .act("x", &[5, 4])
        .weight("v", &[4, 3])
        .weight("w", &[3, 3])
        .ints("s", &[0])
        .ints("e", &[4])
        .ints("f", &[7]),
        matmul("weight computed from a weight", "v = Tanh(w); y = MatMul(x, v)")
            .act("x", &[5, 4])
            .weight("w", &[4, 3]),
        matmul("weight as it is and computed from", "v = Tanh(w); h = MatMul(x, w); y = MatMul(h, v)")
            .act("x", &[5, 4])
            .weight("w", &[4, 4]),
        matmul(
            "a table of the places, computed in two layers, read twice",
            "a = MatMul(p, u); b = Tanh(a); t = MatMul(b, w); h = Add(x, t); g = Tanh(h); y = Mul(g, t)",
        )
        .act("x", &[5, 3])
        .weight("u", &[2, 4])
        .weight("w", &[4, 3])
        .constant(Sampler::Uniform(-1.0, 1.0), "p", &[5, 2]),
        matmul(
            "a table for each head, computed, added to all windows",
            "a = Tanh(w); r = Reshape(x, s); h = Add(r, a); y = Tanh(h)",
        )
        .act("x", &[2, 6, 4])
        .weight("w", &[3, 4])
        .ints("s", &[-1, 2, 3, 4]),
        matmul(
            "a computed weight that some samples' axis is joined to",
            "v = Tanh(w); n = Shape(x); f = Gather(n, zero); s = Concat<axis=0>(f, rest); c = Expand(v, s); h = Concat<axis=1>(c, x); y = Tanh(h)",
        )
        .act("x", &[4, 3])
        .weight("w", &[1, 1, 3])
        .ints("zero", &[0])
        .ints("rest", &[1, 3]),
    ];
    cases.extend([
        matmul("weight on the left, samples in columns", "t = Transpose(x); y = MatMul(w, t)")
            .act("x", &[4])
            .weight("w", &[2, 4]),
        matmul("a vector of weights on the left, samples in columns", "t = Transpose(x); y = MatMul(w, t)")
            .act("x", &[4])
            .weight("w", &[4]),
        matmul(
            "weight behind Transpose on the left, samples in columns",
            "v = Transpose(w); t = Transpose(x); y = MatMul(v, t)",
        )
        .act("x", &[4])
        .weight("w", &[4, 2]),
        matmul("a stack of weights on the right, samples in rows", "t = Transpose<perm=[1,0,2]>(x); y = MatMul(t, w)")
            .act("x", &[2, 4])
            .weight("w", &[2, 4, 3]),
        matmul(
            "a stack of weights on the right, samples and tokens in rows",
            "t = Transpose<perm=[2,0,1,3]>(x); f = Reshape(t, s); y = MatMul(f, w)",
        )
        .act("x", &[5, 2, 4])
        .weight("w", &[2, 4, 3])
        .ints("s", &[2, -1, 4]),
        matmul(
            "a stack of weights on the left, samples in columns",
            "t = Transpose<perm=[1,2,0]>(x); y = MatMul(w, t)",
        )
        .act("x", &[2, 4])
        .weight("w", &[2, 3, 4]),
        matmul(
            "weight behind Cast, Squeeze, Transpose and Reshape",
            "a = Cast<to=1>(w); b = Squeeze(a, one); c = Transpose(b); v = Reshape(c, s); y = MatMul(x, v)",
        )
        .act("x", &[5, 4])
        .weight("w", &[6, 1, 2])
        .ints("one", &[1])
        .ints("s", &[4, 3])
        .single("the cast names float32")
        .polynomial(),
    ]);
    for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let attributes = format!("alpha=0.5,beta=2.0,transA={a},transB={b}");
        let shape: &[usize] = if b == 1 { &[2, 4] } else { &[4, 2] };
        let (left, name) = if a == 1 { ("t = Transpose(x); ", "t") } else { ("", "x") };
        cases.push(
            case(
                "Gemm",
                format!("weight on the right, transA {a}, transB {b}"),
                format!("{left}y = Gemm<{attributes}>({name}, w, c)"),
            )
            .act("x", &[4])
            .weight("w", shape)
            .weight("c", &[2])
            .opsets(if (a, b) == (0, 0) { EVERY } else { &[17] }),
        );
        let shape: &[usize] = if a == 1 { &[4, 2] } else { &[2, 4] };
        let (right, name) = if b == 1 { ("", "x") } else { ("t = Transpose(x); ", "t") };
        cases.push(
            case(
                "Gemm",
                format!("weight on the left, transA {a}, transB {b}"),
                format!("{right}y = Gemm<{attributes}>(w, {name}, c)"),
            )
            .act("x", &[4])
            .weight("w", shape)
            .weight("c", &[2, 1]),
        );
    }
    for (what, shape) in
        [("scalar", &[][..]), ("one element", &[1]), ("one row", &[1, 2]), ("a column of one", &[1, 1])]
    {
        cases.push(
            case("Gemm", format!("addend: {what}"), "y = Gemm<beta=0.7>(x, w, c)")
                .act("x", &[4])
                .weight("w", &[4, 2])
                .weight("c", shape),
        );
    }
    cases.extend([
        case("Gemm", "no addend", "y = Gemm(x, w)").act("x", &[4]).weight("w", &[4, 2]),
        case("Gemm", "an activation as the addend", "y = Gemm(x, w, c)")
            .act("x", &[4])
            .weight("w", &[4, 2])
            .act("c", &[2]),
        case("Gemm", "a weight used twice", "h = Gemm(x, w); y = Gemm<transB=1>(h, w)")
            .act("x", &[4])
            .weight("w", &[4, 3]),
        case("Gemm", "weight behind Transpose", "v = Transpose(w); y = Gemm(x, v)").act("x", &[4]).weight("w", &[3, 4]),
    ]);
    cases
}
