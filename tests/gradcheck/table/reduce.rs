//! Reductions, with axes as an attribute and as an input.

use super::*;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, axes) in
        [("axis 1", &[1][..]), ("last axis", &[-1]), ("two axes", &[1, 3]), ("two axes, one from the back", &[2, -1])]
    {
        for keep in [0, 1] {
            let what = format!("{what}, keepdims {keep}");
            let attribute = format!("y = ReduceMean<axes={axes:?},keepdims={keep}>(x)").replace(", ", ",");
            cases.push(
                case("ReduceMean", format!("{what}, attribute"), attribute).act("x", &[2, 3, 4]).opsets(&[13, 17]),
            );
            let input = |op: &str| format!("y = {op}<keepdims={keep}>(x, axes)");
            cases.push(
                case("ReduceMean", format!("{what}, input"), input("ReduceMean"))
                    .act("x", &[2, 3, 4])
                    .ints("axes", axes)
                    .opsets(&[18, 20, 21]),
            );
            cases.push(
                case("ReduceSum", format!("{what}, input"), input("ReduceSum"))
                    .act("x", &[2, 3, 4])
                    .ints("axes", axes)
                    .opsets(ALL_BANDS),
            );
        }
    }
    let sums = |what: &str, nodes: &str| case("ReduceSum", what, nodes).act("x", &[2, 3]).opsets(&[13, 18]);
    let means = |what: &str, nodes: &str| case("ReduceMean", what, nodes).act("x", &[2, 3]).opsets(&[18]);
    let all = "the samples are added up";
    cases.extend([
        sums("no axes: all", "y = ReduceSum(x)").mixes(all),
        sums("no axes: all, keepdims 0", "y = ReduceSum<keepdims=0>(x)").mixes(all),
        sums("no axes: none", "y = ReduceSum<noop_with_empty_axes=1>(x)"),
        sums("empty axes: none", "y = ReduceSum<noop_with_empty_axes=1>(x, axes)").ints("axes", &[]),
        sums("empty axes: all", "y = ReduceSum(x, axes)").ints("axes", &[]).mixes(all),
        means("no axes: all", "y = ReduceMean(x)").mixes(all),
        means("no axes: none", "y = ReduceMean<noop_with_empty_axes=1>(x)"),
        case("ReduceMean", "no axes: all, attribute form", "y = ReduceMean(x)")
            .act("x", &[2, 3])
            .opsets(&[13])
            .mixes(all),
        case("ReduceMean", "the axis of the samples", "m = ReduceMean<axes=[0]>(x); h = Mul(m, x); y = Sub(x, h)")
            .act("x", &[3])
            .mixes(all),
        case("ReduceMean", "global pooling, decomposed", "m = ReduceMean<axes=[2,3],keepdims=0>(x); y = MatMul(m, w)")
            .act("x", &[4, 2, 3])
            .weight("w", &[4, 2]),
    ]);
    cases
}
