//! Functions of one operand, element by element.

use super::*;

const ZERO: Sampler = Sampler::Off(&[0.0]);
const BOUNDS: Sampler = Sampler::Off(&[-0.5, 0.75]);

pub fn cases() -> Vec<Case> {
    let plain = ["Exp", "Identity", "Neg", "Sigmoid", "Tanh"];
    let positive = ["Log", "Reciprocal", "Sqrt"];
    let unary = |op, sampler| {
        [
            case(op, "of an activation", format!("y = {op}(x)")).act_in(sampler, "x", &[2, 5]).opsets(ALL_BANDS),
            case(op, "of a value used again", format!("t = {op}(x); s = Mul(x, x); y = Add(t, s)")).act_in(
                sampler,
                "x",
                &[7],
            ),
        ]
    };
    let mut cases: Vec<Case> = plain.into_iter().flat_map(|op| unary(op, Sampler::Uniform(-2.0, 2.0))).collect();
    cases.extend(positive.into_iter().flat_map(|op| unary(op, POSITIVE)));
    cases.extend(["Abs", "Relu"].into_iter().flat_map(|op| unary(op, ZERO)));
    cases.extend(unary("Erf", Sampler::Uniform(-2.0, 2.0)).map(|c| c.single(NO_F64)));
    let in_parts = |what: &str, nodes: &str| {
        let case = case("Erf", what, nodes).act("x", &[6]).number("one", 1.0).number("half", 0.5);
        case.number("r", std::f64::consts::SQRT_2).number("by", std::f64::consts::FRAC_1_SQRT_2).single(NO_F64)
    };
    cases.extend([
        case("LeakyRelu", "default slope", "y = LeakyRelu(x)").act_in(ZERO, "x", &[9]).opsets(&[17]),
        case("LeakyRelu", "other opsets", "y = LeakyRelu(x)")
            .act_in(ZERO, "x", &[9])
            .opsets(&[13, 20, 21])
            .single(NO_F64),
        case("LeakyRelu", "slope 0.3", "y = LeakyRelu<alpha=0.3>(x)").act_in(ZERO, "x", &[9]),
        case("Gelu", "exact", "y = Gelu(x)")
            .act_in(Sampler::Uniform(-3.0, 3.0), "x", &[9])
            .opsets(&[20, 21])
            .single(NO_F64),
        case("Gelu", "tanh form", "y = Gelu<approximate=\"tanh\">(x)")
            .act_in(Sampler::Uniform(-3.0, 3.0), "x", &[9])
            .opsets(&[20, 21]),
        case("Clip", "both bounds", "y = Clip(x, lo, hi)")
            .act_in(BOUNDS, "x", &[12])
            .number("lo", -0.5)
            .number("hi", 0.75)
            .opsets(ALL_BANDS),
        case("Clip", "bounds that depend on parameters", "y = Clip(x, lo, hi)")
            .act_in(BOUNDS, "x", &[12])
            .weight_in(Sampler::Uniform(-0.6, -0.4), "lo", &[])
            .weight_in(Sampler::Uniform(0.7, 0.8), "hi", &[]),
        case("Clip", "the lower bound above the upper one", "t = Clip(x, lo, hi); y = Mul(t, x)")
            .act("x", &[6])
            .number("lo", 0.5)
            .weight_in(Sampler::Uniform(-0.6, -0.5), "hi", &[]),
        case("Clip", "lower bound alone", "y = Clip(x, lo)").act_in(BOUNDS, "x", &[12]).number("lo", -0.5),
        case("Clip", "upper bound alone", "y = Clip(x, , hi)").act_in(BOUNDS, "x", &[12]).number("hi", 0.75),
        case("Clip", "no bound", "y = Clip(x)").act("x", &[5]),
        case("Dropout", "in inference", "y = Dropout(x)").act("x", &[5]).opsets(ALL_BANDS),
        case("Dropout", "ratio given, mask not asked for", "y = Dropout(x, r)").act("x", &[5]).number("r", 0.5),
        case("Dropout", "training mode off, mask unused", "y, mask = Dropout(x, r, t)")
            .act("x", &[5])
            .number("r", 0.5)
            .truth("t", false),
        case("Cast", "to double and back", "d = Cast<to=11>(x); s = Mul(d, d); y = Cast<to=1>(s)")
            .act("x", &[5])
            .opsets(ALL_BANDS)
            .single("it is about the type"),
        case("Cast", "a weight behind it", "d = Cast<to=11>(w); e = Cast<to=11>(x); y = Mul(e, d)")
            .act("x", &[2, 3])
            .weight("w", &[3])
            .single("it is about the type"),
        case(
            "Cast",
            "a weight in two types",
            "d = Cast<to=11>(w); e = Cast<to=11>(x); p = Mul(e, d); q = Cast<to=1>(p); y = Mul(q, w)",
        )
        .act("x", &[2, 3])
        .weight("w", &[3])
        .single("it is about the type"),
        case("Identity", "a weight behind it and itself", "v = Identity(w); t = Mul(x, v); y = Add(t, w)")
            .act("x", &[2, 3])
            .weight("w", &[3]),
        case("Sigmoid", "swish, decomposed", "s = Sigmoid(x); y = Mul(x, s)").act("x", &[6]),
        in_parts("gelu, decomposed", "d = Div(x, r); e = Erf(d); a = Add(e, one); m = Mul(x, a); y = Mul(m, half)"),
        in_parts(
            "gelu, in another order",
            "d = Mul(by, x); e = Erf(d); a = Add(one, e); m = Mul(a, half); y = Mul(m, x)",
        ),
        in_parts(
            "gelu, its parts read by others",
            "d = Div(x, r); e = Erf(d); a = Add(e, one); m = Mul(x, half); g = Mul(m, a); t = Mul(a, e); y = Add(t, g)",
        ),
        in_parts(
            "gelu of a scaled value",
            "z = Mul(x, half); d = Div(z, r); e = Erf(d); a = Add(e, one); m = Mul(z, half); y = Mul(m, a)",
        ),
        case(
            "Erf",
            "gelu whose numbers are weights",
            "d = Mul(x, by); e = Erf(d); a = Add(e, one); m = Mul(x, a); y = Mul(m, half)",
        )
        .act("x", &[6])
        .weight_in(Sampler::Uniform(0.7, 0.71), "by", &[1])
        .weight_in(Sampler::Uniform(1.0, 1.0), "one", &[1])
        .weight_in(Sampler::Uniform(0.5, 0.5), "half", &[1])
        .single(NO_F64),
    ]);
    cases
}
