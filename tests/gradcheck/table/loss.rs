//! Losses of classes.

use super::*;

fn loss(op: &'static str, what: &str, attributes: &str, weight: bool) -> Case {
    let operands = if weight { "x, t, c" } else { "x, t" };
    let case = case(op, what, format!("t = Mod(j, n); y = {op}{attributes}({operands})"))
        .act("x", &[4, 6])
        .indices("j", &[6], 4)
        .ints("n", &[4])
        .not_in_tract("it does not know the operator");
    if weight { case.constant(POSITIVE, "c", &[4]) } else { case }
}

pub fn cases() -> Vec<Case> {
    let mixes = "one number for all samples";
    let mut cases = Vec::new();
    for op in ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"] {
        cases.extend([
            loss(op, "of each place", "<reduction=\"none\">", false).opsets(ALL_BANDS),
            loss(op, "of each place, weighted, one class ignored", "<reduction=\"none\",ignore_index=1>", true),
            loss(op, "sum", "<reduction=\"sum\">", false).mixes(mixes),
            loss(op, "mean, weighted, one class ignored", "<ignore_index=2>", true).mixes(mixes),
        ]);
    }
    cases.push(
        case(
            "SoftmaxCrossEntropyLoss",
            "the logarithm used too",
            "t = Mod(j, n); y, z = SoftmaxCrossEntropyLoss<reduction=\"none\">(x, t)",
        )
        .act("x", &[4])
        .indices("j", &[], 4)
        .ints_shaped("n", &[4], &[])
        .outputs(&["y", "z"])
        .not_in_tract("it does not know the operator"),
    );
    cases
}
