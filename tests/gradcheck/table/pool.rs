//! Pooling.

use super::*;

fn average(what: &str, attributes: &str, x: &[usize]) -> Case {
    let nodes = format!("y = AveragePool<{attributes}>(x)");
    case("AveragePool", what, nodes).act("x", x).single(NO_F64).polynomial()
}

fn max(what: &str, attributes: &str, x: &[usize]) -> Case {
    case("MaxPool", what, format!("y = MaxPool<{attributes}>(x)")).act_in(Sampler::Distinct, "x", x)
}

/// Windows that both kinds of pooling are checked on.
const WINDOWS: &[(&str, &str, &[usize])] = &[
    ("side by side", "kernel_shape=[2,2],strides=[2,2]", &[2, 4, 4]),
    ("stride left out", "kernel_shape=[2,2]", &[2, 4, 4]),
    ("overlapping", "kernel_shape=[3,3],strides=[2,2]", &[2, 7, 7]),
    ("padded", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]", &[2, 6, 6]),
    ("padded at one end", "kernel_shape=[3,2],strides=[1,1],pads=[0,1,2,0]", &[2, 5, 5]),
    ("rounded up", "kernel_shape=[2,2],strides=[2,2],ceil_mode=1", &[2, 5, 5]),
    ("rounded up, overlapping", "kernel_shape=[3,3],strides=[2,2],ceil_mode=1", &[2, 6, 8]),
    ("rounded up, padded", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=1", &[2, 6, 6]),
    ("the end not reached", "kernel_shape=[2,2],strides=[3,3]", &[2, 7, 7]),
    ("SAME_UPPER", "kernel_shape=[2,2],strides=[1,1],auto_pad=\"SAME_UPPER\"", &[2, 4, 4]),
    ("SAME_LOWER", "kernel_shape=[3,2],strides=[2,2],auto_pad=\"SAME_LOWER\"", &[2, 4, 5]),
    ("VALID", "kernel_shape=[2,2],strides=[2,2],auto_pad=\"VALID\"", &[2, 5, 4]),
    ("one axis", "kernel_shape=[3],strides=[2],pads=[1,1]", &[2, 7]),
    ("three axes", "kernel_shape=[2,2,2],strides=[2,1,2]", &[1, 4, 3, 4]),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = WINDOWS.iter().flat_map(|(what, a, x)| [average(what, a, x), max(what, a, x)]).collect();
    let include = "count_include_pad=1,kernel_shape=[3,3],strides=[2,2]";
    cases.extend([
        average("one window", "kernel_shape=[2,2]", &[2, 2, 2]).opsets(EVERY),
        average("padding counted", &format!("{include},pads=[1,1,1,1]"), &[2, 6, 6]),
        average("padding at one end counted", &format!("{include},pads=[0,1,2,0]"), &[2, 6, 6]),
        average("padding counted, rounded up", &format!("{include},pads=[1,1,1,1],ceil_mode=1"), &[2, 6, 6])
            .opsets(&[17, 20]),
        average("padding counted, SAME_UPPER", &format!("{include},auto_pad=\"SAME_UPPER\""), &[2, 6, 5]),
        average("padding counted, SAME_LOWER", &format!("{include},auto_pad=\"SAME_LOWER\""), &[2, 6, 5]),
        average("dilated", "kernel_shape=[2,2],dilations=[2,2],strides=[1,2]", &[2, 5, 6]).opsets(&[20]),
        average(
            "dilated, padded, counted",
            "kernel_shape=[2,2],dilations=[2,2],pads=[1,1,1,1],count_include_pad=1",
            &[2, 4, 5],
        )
        .opsets(&[20]),
        max("one window", "kernel_shape=[2,2]", &[2, 2, 2]).opsets(&[8, 11, 13, 17, 18, 21, 26]),
        max("dilated", "kernel_shape=[2,2],dilations=[2,2],strides=[1,2]", &[2, 5, 6]),
        max("dilated, padded", "kernel_shape=[2,3],dilations=[2,1],pads=[1,1,1,1]", &[2, 4, 5]),
        case("MaxPool", "two uses of its input", "p = MaxPool<kernel_shape=[3,3],pads=[1,1,1,1]>(x); y = Mul(p, x)")
            .act_in(Sampler::Distinct, "x", &[1, 3, 3]),
        case("MaxPool", "indices asked for and unused", "y, i = MaxPool<kernel_shape=[2,2]>(x)").act_in(
            Sampler::Distinct,
            "x",
            &[2, 3, 3],
        ),
        case("GlobalAveragePool", "two axes", "y = GlobalAveragePool(x)")
            .act("x", &[2, 3, 4])
            .opsets(ALL_BANDS)
            .single(NO_F64)
            .polynomial(),
        case("GlobalAveragePool", "one axis", "y = GlobalAveragePool(x)").act("x", &[2, 3]).single(NO_F64).polynomial(),
        case("GlobalAveragePool", "three axes", "y = GlobalAveragePool(x)")
            .act("x", &[2, 2, 3, 2])
            .single(NO_F64)
            .polynomial(),
    ]);
    cases
}
