//! Reductions that weigh the elements, with axes as an attribute and as an input.

use super::*;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let ops = [
        ("ReduceL1", Sampler::Off(&[0.0])),
        ("ReduceL2", POSITIVE),
        ("ReduceLogSum", POSITIVE),
        ("ReduceLogSumExp", Sampler::Uniform(-1.0, 1.0)),
        ("ReduceMax", Sampler::Distinct),
        ("ReduceMin", Sampler::Distinct),
        ("ReduceProd", POSITIVE),
        ("ReduceSumSquare", Sampler::Uniform(-1.0, 1.0)),
    ];
    for (op, sampler) in ops {
        for (what, axes, keep) in [("axis 1", &[1][..], 1), ("last axis dropped", &[-1], 0), ("two axes", &[1, -1], 0)]
        {
            let attribute = format!("y = {op}<axes={axes:?},keepdims={keep}>(x)").replace(", ", ",");
            cases.push(
                case(op, format!("{what}, attribute"), attribute).act_in(sampler, "x", &[2, 3, 2]).opsets(&[13, 17]),
            );
            cases.push(
                case(op, format!("{what}, input"), format!("y = {op}<keepdims={keep}>(x, axes)"))
                    .act_in(sampler, "x", &[2, 3, 2])
                    .ints("axes", axes)
                    .opsets(&[18, 21]),
            );
        }
        cases.push(
            case(op, "no axes: all", format!("y = {op}(x)"))
                .act_in(sampler, "x", &[2])
                .opsets(&[13, 18])
                .mixes("the samples are put together"),
        );
    }
    cases.extend([
        case(
            "ReduceProd",
            "one zero and two",
            "m = Mul(x, z); t = ReduceProd<axes=[-1]>(m); s = Add(t, x); y = Mul(s, s)",
        )
        .act_in(POSITIVE, "x", &[3, 4])
        .constant(Sampler::Uniform(1.0, 1.0), "one", &[1])
        .ints_shaped("i", &[1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1], &[3, 4])
        .prepend("z = CastLike(i, one)"),
        case("GlobalMaxPool", "two axes", "y = GlobalMaxPool(x)")
            .act_in(Sampler::Distinct, "x", &[2, 3, 2])
            .opsets(ALL_BANDS)
            .single(NO_F64),
        case("GlobalMaxPool", "one axis", "y = GlobalMaxPool(x)")
            .act_in(Sampler::Distinct, "x", &[2, 3])
            .single(NO_F64),
    ]);
    cases
}
