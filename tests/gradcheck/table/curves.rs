//! Curved and broken activation functions, trigonometry, operators of many operands.

use super::*;

const ZERO: Sampler = Sampler::Off(&[0.0]);
const BANDS: &[i64] = &[13, 17, 21, 24];

pub fn cases() -> Vec<Case> {
    let inner = Sampler::Uniform(-0.6, 0.6);
    let wide = Sampler::Uniform(-1.2, 1.2);
    let single = |op, sampler| {
        case(op, "of an activation", format!("y = {op}(x)")).act_in(sampler, "x", &[2, 5]).opsets(BANDS).single(NO_F64)
    };
    let with = |op, attributes: &str, sampler| {
        case(op, attributes, format!("y = {op}<{attributes}>(x)")).act_in(sampler, "x", &[2, 5]).single(NO_F64)
    };
    let mut cases: Vec<Case> = ["Elu", "Selu", "Celu", "Softsign"].into_iter().map(|op| single(op, ZERO)).collect();
    cases.extend(["Tan", "Atan", "Sinh", "Cosh", "Asinh", "Softplus"].into_iter().map(|op| single(op, wide)));
    cases.extend(["Asin", "Acos", "Atanh"].into_iter().map(|op| single(op, inner)));
    cases.push(single("Acosh", Sampler::Uniform(1.5, 2.5)));
    for op in ["Sin", "Cos"] {
        cases.push(case(op, "of an activation", format!("y = {op}(x)")).act_in(wide, "x", &[2, 5]).opsets(BANDS));
    }
    let prelu = |what: &str| case("PRelu", what, "y = PRelu(x, s)").act_in(ZERO, "x", &[4, 3]);
    cases.extend([
        with("Elu", "alpha=0.5", ZERO),
        with("Celu", "alpha=2.0", ZERO).not_in_tract("it gives other values where alpha is not 1"),
        with("Selu", "alpha=1.2,gamma=0.7", ZERO),
        single("ThresholdedRelu", Sampler::Off(&[1.0])),
        with("ThresholdedRelu", "alpha=0.5", Sampler::Off(&[0.5])),
        with("HardSigmoid", "alpha=0.5,beta=0.5", Sampler::Off(&[-1.0, 1.0])).opsets(BANDS),
        case("HardSigmoid", "default slope", "y = HardSigmoid(x)").act_in(wide, "x", &[5]).single(NO_F64),
        case("HardSwish", "of an activation", "t = Mul(x, two); y = HardSwish(t)")
            .act_in(Sampler::Off(&[-1.5, 1.5]), "x", &[2, 5])
            .number("two", 2.0)
            .opsets(&[17, 21, 24])
            .single(NO_F64),
        case("Mish", "of an activation", "y = Mish(x)").act_in(wide, "x", &[2, 5]).opsets(&[21, 24]).single(NO_F64),
        case("Swish", "of an activation", "y = Swish(x)").act_in(wide, "x", &[2, 5]).opsets(&[24]),
        case("Swish", "alpha=1.5", "y = Swish<alpha=1.5>(x)")
            .act_in(wide, "x", &[2, 5])
            .opsets(&[24])
            .not_in_tract("it gives other values where alpha is not 1"),
        prelu("a slope for all").weight("s", &[1]),
        prelu("a slope for each channel").weight("s", &[4, 1]),
        prelu("a slope for each element").weight("s", &[4, 3]),
        prelu("a computed slope").act("s", &[1, 3]),
        prelu("other opsets").weight("s", &[4, 1]).opsets(&[13, 21]).single(NO_F64),
        case("Mod", "of floats", "t = Mod<fmod=1>(a, b); y = Mul(t, a)")
            .act_in(Sampler::Uniform(2.2, 2.8), "a", &[2, 3])
            .weight_in(Sampler::Uniform(0.95, 1.05), "b", &[3])
            .opsets(BANDS),
        case("Mod", "of negative floats", "t = Mod<fmod=1>(a, b); y = Mul(t, a)")
            .act_in(Sampler::Uniform(-2.8, -2.2), "a", &[2, 3])
            .weight_in(Sampler::Uniform(0.95, 1.05), "b", &[3]),
    ]);
    for op in ["Max", "Min"] {
        let make = |what: &str, nodes: &str| case(op, what, nodes.replace("Op", op));
        cases.extend([
            make("two, far apart", "s = Sign(d); b = Sub(a, s); y = Op(a, b)")
                .act("a", &[2, 3])
                .data("d", &[2, 3])
                .opsets(BANDS),
            make("three, broadcast", "y = Op(a, w, v)")
                .act_in(Sampler::Off(&[0.5]), "a", &[2, 3])
                .weight_in(Sampler::Uniform(0.5, 0.5), "w", &[1])
                .number("v", if op == "Max" { -5.0 } else { 5.0 })
                .opsets(&[17]),
            make("one", "t = Op(a); y = Mul(t, t)").act("a", &[3]),
        ]);
    }
    for (op, f64) in [("Sum", true), ("Mean", false)] {
        let make = |what: &str, nodes: &str| {
            let case = case(op, what, nodes.replace("Op", op)).polynomial();
            if f64 { case } else { case.single(NO_F64) }
        };
        cases.extend([
            make("three, broadcast", "y = Op(a, w, b)")
                .act("a", &[2, 3])
                .weight("w", &[3])
                .act("b", &[2, 1])
                .opsets(BANDS),
            make("one of them twice", "y = Op(a, b, a)").act("a", &[2, 3]).act("b", &[1, 3]),
            make("one", "y = Op(a)").act("a", &[3]),
        ]);
    }
    cases
}
