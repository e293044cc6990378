//! Samples that do not lie on the first axis, or share it with something else.

use super::*;

pub fn cases() -> Vec<Case> {
    vec![
        case("MatMul", "tokens first", "s = Transpose<perm=[1,0,2]>(x); h = MatMul(s, w); a = Add(h, b); y = Transpose<perm=[1,0,2]>(a)")
            .act("x", &[4, 3])
            .weight("w", &[3, 2])
            .weight("b", &[2]),
        case("MatMul", "tokens first in the output", "s = Transpose<perm=[1,0,2]>(x); y = MatMul(s, w)")
            .act("x", &[4, 3])
            .weight("w", &[3, 2]),
        case("MatMul", "as many tokens as samples, tokens first", "s = Transpose<perm=[1,0,2]>(x); y = MatMul(s, w)")
            .act("x", &[3, 3])
            .weight("w", &[3, 2]),
        case("Gemm", "samples and tokens merged", "f = Reshape(x, s); h = Gemm(f, w, b); y = Reshape(h, u)")
            .act("x", &[4, 3])
            .weight("w", &[3, 2])
            .weight("b", &[2])
            .ints("s", &[-1, 3])
            .ints("u", &[-1, 4, 2]),
        case("Gemm", "samples and tokens merged in the output", "f = Reshape(x, s); y = Gemm(f, w, b)")
            .act("x", &[4, 3])
            .weight("w", &[3, 2])
            .weight("b", &[2])
            .ints("s", &[-1, 3]),
        case("Gemm", "tokens and samples merged", "t = Transpose<perm=[1,0,2]>(x); f = Reshape(t, s); y = Gemm(f, w, b)")
            .act("x", &[4, 3])
            .weight("w", &[3, 2])
            .weight("b", &[2])
            .ints("s", &[-1, 3]),
        case("MatMul", "heads merged with samples", "h = Reshape(x, s); t = Transpose<perm=[0,2,1,3]>(h); q = Reshape(t, m); k = Transpose<perm=[0,2,1]>(q); p = MatMul(q, k); o = MatMul(p, q); z = MatMul(o, w); y = Reshape(z, u)")
            .act("x", &[3, 4])
            .weight("w", &[2, 2])
            .ints("s", &[0, 3, 2, 2])
            .ints("m", &[-1, 3, 2])
            .ints("u", &[-1, 2, 3, 2]),
        case("Conv", "windows merged with samples", "f = Reshape(x, s); c = Conv(f, w, b); y = Reshape(c, u)")
            .act("x", &[2, 1, 4, 4])
            .weight("w", &[2, 1, 3, 3])
            .weight("b", &[2])
            .ints("s", &[-1, 1, 4, 4])
            .ints("u", &[-1, 2, 2, 2, 2])
            .single(NO_F64)
            .polynomial(),
        case("Gather", "the same rows of a table for every sample", "n = Shape<start=0,end=1>(x); d = Concat<axis=0>(n, t); i = Expand(k, d); e = Gather(w, i); y = Mul(x, e)")
            .act("x", &[4, 3])
            .weight("w", &[2, 3])
            .ints("t", &[4])
            .ints("k", &[0, 1, 1, 0]),
        case("LayerNormalization", "tokens first", "s = Transpose<perm=[1,0,2]>(x); y = LayerNormalization(s, g, b)")
            .act("x", &[4, 3])
            .weight_in(POSITIVE, "g", &[3])
            .weight("b", &[3]),
        case("BatchNormalization", "samples last", "s = Transpose<perm=[1,2,0]>(x); y = BatchNormalization(s, g, b, m, v)")
            .act("x", &[4, 3])
            .weight_in(POSITIVE, "g", &[3])
            .weight("b", &[3])
            .constant(Sampler::Uniform(-1.0, 1.0), "m", &[3])
            .constant(POSITIVE, "v", &[3]),
        case("Reshape", "windows of an image", "r = Reshape(x, s); t = Transpose<perm=[0,1,3,2,4,5]>(r); f = Reshape(t, m); h = MatMul(f, w); y = Reshape(h, u)")
            .act("x", &[4, 4, 3])
            .weight("w", &[3, 2])
            .ints("s", &[-1, 2, 2, 2, 2, 3])
            .ints("m", &[-1, 4, 3])
            .ints("u", &[-1, 4, 4, 2]),
        case("Softmax", "over the samples", "p = Softmax<axis=0>(x); y = Mul(p, x)").act("x", &[3]).mixes("over the samples"),
        case("MatMul", "attention across samples", "t = Transpose(x); s = MatMul(x, t); p = Softmax(s); h = MatMul(p, x); y = MatMul(h, w)")
            .act("x", &[4])
            .weight("w", &[4, 2])
            .mixes("every sample sees all others"),
        case("Add", "a weight with as many rows as samples", "t = Add(x, w); y = Tanh(t)")
            .act("x", &[1, 4])
            .weight("w", &[3, 4]),
        case("Mul", "a weight through a function of its own", "g = Tanh(w); y = Mul(x, g)")
            .act("x", &[2, 3])
            .weight("w", &[3]),
    ]
}
