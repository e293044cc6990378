//! Normalisations that are rewritten as primitive operators.

use super::*;

const TRACT: &str = "tract does not know the operator";

fn scaled(op: &'static str, what: &str, attributes: &str, x: &[usize], scale: usize) -> Case {
    case(op, what, format!("y = {op}{attributes}(x, s, b)"))
        .act("x", x)
        .weight_in(POSITIVE, "s", &[scale])
        .weight("b", &[scale])
}

fn root(what: &str, attributes: &str, x: &[usize], scale: &[usize]) -> Case {
    case("RMSNormalization", what, format!("y = RMSNormalization{attributes}(x, s)"))
        .act("x", x)
        .weight_in(POSITIVE, "s", scale)
        .opsets(&[23])
}

fn plain(op: &'static str, what: &str, attributes: &str, x: &[usize]) -> Case {
    case(op, what, format!("y = {op}{attributes}(x)")).act_in(Sampler::Off(&[0.0]), "x", x)
}

pub fn cases() -> Vec<Case> {
    let instance =
        |what, attributes, x: &[usize]| scaled("InstanceNormalization", what, attributes, x, x[0]).single(NO_F64);
    let group = |what, groups, x: &[usize], scale| {
        scaled("GroupNormalization", what, groups, x, scale).single("its statistics are float32")
    };
    let response = |what, attributes, x: &[usize]| plain("LRN", what, attributes, x).single(NO_F64);
    let pool = |what, attributes, x: &[usize]| plain("LpPool", what, attributes, x).single(NO_F64).not_in_tract(TRACT);
    let mean = |what, attributes, x: &[usize]| plain("MeanVarianceNormalization", what, attributes, x).single(NO_F64);
    vec![
        instance("images", "", &[3, 4, 4]).opsets(EVERY),
        instance("sequences", "<epsilon=0.1>", &[2, 5]),
        group("two channels in a group", "<num_groups=2>", &[4, 3, 3], 4).opsets(&[21]),
        group("one group", "<num_groups=1,epsilon=0.1>", &[4, 5], 4).opsets(&[21]),
        group("as many groups as channels", "<num_groups=4>", &[4, 3, 3], 4).opsets(&[21]),
        group("a scale for each group", "<num_groups=2>", &[4, 3, 3], 2).opsets(&[18]),
        root("last axis", "", &[3, 5], &[5]),
        root("two axes, large epsilon", "<axis=-2,epsilon=0.5>", &[3, 4], &[3, 4]),
        case(
            "SimplifiedLayerNormalization",
            "last axis",
            "y = SimplifiedLayerNormalization<axis=-1,epsilon=0.001>(x, s)",
        )
        .act("x", &[3, 5])
        .weight_in(POSITIVE, "s", &[5]),
        mean("per channel", "<axes=[2,3]>", &[2, 4, 4]).opsets(&[13, 17]),
        mean("over the samples", "", &[2, 3, 3]).mixes("over the samples"),
        response("three channels", "<size=3>", &[5, 2, 2]).opsets(EVERY),
        response("five channels", "<size=5,alpha=0.5,beta=0.6,bias=2.0>", &[6, 2, 2]),
        plain("LpNormalization", "second norm", "", &[3, 4]).opsets(EVERY),
        plain("LpNormalization", "first norm", "<axis=1,p=1>", &[3, 4]),
        pool("two by two", "<kernel_shape=[2,2],strides=[2,2]>", &[2, 4, 4]).opsets(ALL_BANDS),
        pool("third norm, padded", "<kernel_shape=[3,3],pads=[1,1,1,1],p=3>", &[2, 4, 4]),
        pool("SAME_UPPER, stride 2", "<kernel_shape=[3,3],auto_pad=\"SAME_UPPER\",strides=[2,2]>", &[2, 5, 4]),
        plain("GlobalLpPool", "second norm", "", &[2, 3, 4]).single(NO_F64),
        plain("GlobalLpPool", "third norm", "<p=3>", &[2, 3, 4]).single(NO_F64),
    ]
}
