//! Values made from indices, numbers or types, and what surrounds them: sequences, operators of `ai.onnx.ml`.

use super::*;

fn hot(what: &str, attributes: &str, shape: &[usize]) -> Case {
    case("OneHot", what, format!("t = OneHot{attributes}(i, d, v); y = Tanh(t)"))
        .indices("i", shape, 4)
        .ints("d", &[4])
        .weight("v", &[2])
        .single("no float64 kernel in ONNX Runtime")
}

fn ml(op: &'static str, attributes: &str) -> Case {
    case(op, attributes, format!("y = ai.onnx.ml.{op}<{attributes}>(x)")).act_in(POSITIVE, "x", &[4])
}

pub fn cases() -> Vec<Case> {
    vec![
        hot("last axis", "", &[3]).opsets(&[9, 11, 17]),
        hot("first axis after the samples", "<axis=1>", &[3]),
        hot("before the samples", "<axis=0>", &[3]),
        hot("a negative axis", "<axis=-2>", &[2, 3]),
        case("Range", "computed bounds", "a = Tanh(w); r = Range(a, l, e); t = Mul(x, r); y = Tanh(t)")
            .act("x", &[4])
            .weight_in(Sampler::Uniform(0.2, 0.3), "w", &[])
            .number("l", 4.0)
            .number("e", 1.0),
        case("Range", "computed step", "a = Tanh(w); r = Range(b, l, a); t = Mul(x, r); y = Tanh(t)")
            .act("x", &[4])
            .weight_in(Sampler::Uniform(1.0, 1.1), "w", &[])
            .number("b", 0.0)
            .number("l", 2.9)
            .not_in_tract("tract divides by zero while it reads the graph"),
        case("CastLike", "to the type of another value", "c = Cast<to=1>(x); t = CastLike(c, x); y = Mul(t, t)")
            .act("x", &[3])
            .opsets(&[17, 21])
            .single("through float32"),
        case("EyeLike", "of a weight", "e = EyeLike<k=1>(w); t = MatMul(x, e); y = MatMul(t, w)")
            .act("x", &[3])
            .weight("w", &[3, 3]),
        case("BitwiseNot", "of indices", "c = Cast<to=7>(x); n = BitwiseNot(c); f = CastLike(n, x); y = Mul(f, x)")
            .act_in(Sampler::Off(&[-1.0, 0.0, 1.0]), "x", &[4])
            .opsets(&[18, 26])
            .not_in_tract("tract has no such operator on sizes of 64 bits"),
        case(
            "ConcatFromSequence",
            "of activations",
            "s = SequenceConstruct(a, b); y = ConcatFromSequence<axis=1,new_axis=1>(s)",
        )
        .act("a", &[3])
        .act("b", &[3])
        .opsets(&[11, 17]),
        case(
            "SequenceAt",
            "pieces of an activation",
            "s = SplitToSequence<axis=1>(a, z); f = SequenceAt(s, i); g = SequenceAt(s, j); y = Mul(f, g)",
        )
        .act("a", &[4])
        .ints_shaped("z", &[2], &[])
        .ints_shaped("i", &[0], &[])
        .ints_shaped("j", &[1], &[])
        .opsets(&[11, 18]),
        ml("Scaler", "offset=[0.5,1.0,0.0,-1.0],scale=[2.0,0.5,1.0,3.0]").single("it gives float32"),
        case("ArrayFeatureExtractor", "columns", "t = ai.onnx.ml.ArrayFeatureExtractor(x, i); y = Mul(t, t)")
            .act("x", &[4])
            .ints_shaped("i", &[3, 1], &[1, 2]),
        ml("Imputer", "imputed_value_floats=[0.5]").single("it takes float32"),
        ml("Normalizer", "norm=\"L1\"").single("it gives float32"),
        ml("Normalizer", "norm=\"L2\"").single("it gives float32").opsets(&[9, 17, 21]),
    ]
}
