//! Normalisation and softmax.

use super::*;

fn batch(what: &str, attributes: &str, x: &[usize]) -> Case {
    case("BatchNormalization", what, format!("y = BatchNormalization{attributes}(x, s, b, m, v)"))
        .act("x", x)
        .weight_in(POSITIVE, "s", &x[..1])
        .weight("b", &x[..1])
        .constant(Sampler::Uniform(-1.0, 1.0), "m", &x[..1])
        .constant(POSITIVE, "v", &x[..1])
}

fn layer(what: &str, attributes: &str, x: &[usize], scale: &[usize]) -> Case {
    case("LayerNormalization", what, format!("y = LayerNormalization{attributes}(x, s, b)"))
        .act("x", x)
        .weight_in(POSITIVE, "s", scale)
        .weight("b", scale)
        .opsets(&[17, 20])
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        batch("images", "", &[3, 4, 4]).opsets(ALL_BANDS),
        batch("rows", "", &[4]),
        batch("sequences", "<epsilon=0.1>", &[3, 5]),
        case("BatchNormalization", "statistics that depend on parameters", "y = BatchNormalization(x, s, b, m, v)")
            .act("x", &[3, 4])
            .weight_in(POSITIVE, "s", &[3])
            .weight("b", &[3])
            .weight("m", &[3])
            .weight_in(POSITIVE, "v", &[3]),
        case(
            "BatchNormalization",
            "a standardised weight",
            "t, e, f = BatchNormalization<training_mode=1>(w, s, b, m, v); u = Reshape(t, r); y = MatMul(x, u)",
        )
        .act("x", &[5])
        .weight("w", &[1, 3, 5])
        .weight_in(POSITIVE, "s", &[3])
        .weight("b", &[3])
        .constant(POSITIVE, "m", &[3])
        .constant(POSITIVE, "v", &[3])
        .ints("r", &[5, 3])
        .not_in_tract("it knows no training mode"),
        batch("volumes", "<momentum=0.5,epsilon=0.01>", &[2, 2, 3, 2]),
        layer("last axis", "", &[3, 5], &[5]),
        layer("last axis, named from the front", "<axis=2>", &[3, 5], &[5]),
        layer("last two axes", "<axis=-2>", &[3, 5], &[3, 5]),
        layer("all axes but the samples", "<axis=1>", &[2, 3, 2], &[2, 3, 2]),
        layer("large epsilon", "<axis=-1,epsilon=0.5>", &[2, 4], &[4]),
        layer("scale of more axes", "", &[3, 5], &[1, 1, 5]),
        case("LayerNormalization", "mean and deviation too", "y, m, r = LayerNormalization<axis=1>(x, s)")
            .act("x", &[2, 3])
            .weight_in(POSITIVE, "s", &[2, 3])
            .outputs(&["y", "m", "r"])
            .single("the runtime gives mean and deviation in float32"),
        case("LayerNormalization", "deviation alone", "n, , r = LayerNormalization(x, s); y = Mul(r, x)")
            .act_in(Sampler::Distinct, "x", &[4, 3])
            .constant(POSITIVE, "s", &[3])
            .single("the runtime gives mean and deviation in float32"),
        case("LayerNormalization", "no bias", "y = LayerNormalization(x, s)")
            .act("x", &[3, 5])
            .weight_in(POSITIVE, "s", &[5]),
        case("LayerNormalization", "pre-norm block", "n = LayerNormalization(x, s, b); h = MatMul(n, w); y = Add(x, h)")
            .act("x", &[3, 4])
            .weight_in(POSITIVE, "s", &[4])
            .weight("b", &[4])
            .weight("w", &[4, 4]),
        case("LayerNormalization", "decomposed", "m = ReduceMean<axes=[-1]>(x); d = Sub(x, m); q = Pow(d, two); v = ReduceMean<axes=[-1]>(q); e = Add(v, eps); r = Sqrt(e); n = Div(d, r); g = Mul(n, s); y = Add(g, b)")
            .act("x", &[3, 5])
            .weight_in(POSITIVE, "s", &[5])
            .weight("b", &[5])
            .number("two", 2.0)
            .number("eps", 1e-5),
    ];
    for op in ["Softmax", "LogSoftmax"] {
        for axis in [1, 2, -1, -2, 3] {
            let one = case(op, format!("axis {axis}"), format!("y = {op}<axis={axis}>(x)")).act("x", &[3, 2, 4]);
            cases.push(if axis == 1 { one.opsets(ALL_BANDS) } else { one });
        }
        cases.push(case(op, "axis left out", format!("y = {op}(x)")).act("x", &[3, 4]));
    }
    cases.push(
        case("Softmax", "attention", "q = MatMul(x, wq); k = MatMul(x, wk); t = Transpose<perm=[0,2,1]>(k); s = MatMul(q, t); p = Softmax(s); v = MatMul(x, wv); y = MatMul(p, v)")
            .act("x", &[4, 3])
            .weight("wq", &[3, 3])
            .weight("wk", &[3, 3])
            .weight("wv", &[3, 3]),
    );
    cases
}
