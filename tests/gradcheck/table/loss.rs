//! Losses over classes.

use super::*;

fn likelihood(what: &str, attributes: &str, x: &[usize], target: &[usize]) -> Case {
    case("NegativeLogLikelihoodLoss", what, format!("c = Mod(i, n); y = NegativeLogLikelihoodLoss{attributes}(x, c)"))
        .act("x", x)
        .indices("i", target, x[0])
        .ints_shaped("n", &[x[0] as i64], &[])
        .not_in_tract(NOT_IN_TRACT)
}

const NOT_IN_TRACT: &str = "tract has no such operator";

pub fn cases() -> Vec<Case> {
    let mixes = "the loss is one number for the batch";
    vec![
        likelihood("a loss for each sample", "<reduction=\"none\">", &[4], &[]),
        likelihood("a loss for each place", "<reduction=\"none\">", &[4, 3, 2], &[3, 2]),
        likelihood("the mean", "", &[4], &[]).mixes(mixes),
        likelihood("the sum, a class ignored", "<reduction=\"sum\",ignore_index=1>", &[3, 5], &[5]).mixes(mixes),
        case(
            "NegativeLogLikelihoodLoss",
            "weights",
            "c = Mod(i, n); y = NegativeLogLikelihoodLoss<reduction=\"none\">(x, c, w)",
        )
        .act("x", &[4, 3])
        .indices("i", &[3], 4)
        .ints_shaped("n", &[4], &[])
        .weight("w", &[4])
        .not_in_tract(NOT_IN_TRACT),
        case(
            "SoftmaxCrossEntropyLoss",
            "a loss for each sample",
            "c = Mod(i, n); y = SoftmaxCrossEntropyLoss<reduction=\"none\">(x, c)",
        )
        .act("x", &[4])
        .indices("i", &[], 4)
        .ints_shaped("n", &[4], &[])
        .not_in_tract(NOT_IN_TRACT),
        case(
            "SoftmaxCrossEntropyLoss",
            "the logarithm too",
            "c = Mod(i, n); y, z = SoftmaxCrossEntropyLoss<reduction=\"none\",ignore_index=0>(x, c)",
        )
        .act("x", &[4, 2])
        .indices("i", &[2], 4)
        .ints_shaped("n", &[4], &[])
        .outputs(&["y", "z"])
        .not_in_tract(NOT_IN_TRACT),
    ]
}
