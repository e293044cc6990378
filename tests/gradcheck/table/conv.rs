//! Convolutions: geometry, groups, padding.

use super::*;

/// A convolution of images of the given shape, with a bias.
fn conv(what: &str, attributes: &str, x: &[usize], w: &[usize]) -> Case {
    case("Conv", what, format!("y = Conv<{attributes}>(x, w, b)"))
        .act("x", x)
        .weight("w", w)
        .weight("b", &w[..1])
        .single(NO_F64)
        .polynomial()
}

pub fn cases() -> Vec<Case> {
    let same = "pads=[1,1,1,1]";
    let mut cases = vec![
        conv("padded", same, &[2, 5, 5], &[3, 2, 3, 3]).opsets(EVERY),
        conv("not padded", "group=1", &[2, 5, 4], &[3, 2, 3, 2]),
        conv("one by one", "group=1", &[3, 4, 4], &[2, 3, 1, 1]),
        conv("one by one, stride 2", "strides=[2,2]", &[3, 5, 4], &[2, 3, 1, 1]),
        conv("stride 2, padded", "strides=[2,2],pads=[1,1,1,1]", &[2, 6, 6], &[3, 2, 3, 3]),
        conv("stride 2, the end not reached", "strides=[2,2]", &[2, 6, 6], &[3, 2, 3, 3]),
        conv("stride 3 beyond the kernel", "strides=[3,3]", &[2, 8, 8], &[3, 2, 2, 2]),
        conv("patches", "strides=[2,2]", &[3, 4, 4], &[5, 3, 2, 2]),
        conv("different strides", "strides=[1,3],pads=[0,1,0,1]", &[2, 5, 7], &[3, 2, 2, 3]),
        conv("dilated", "dilations=[2,2],pads=[2,2,2,2]", &[2, 6, 6], &[3, 2, 3, 3]),
        conv("dilated with stride", "dilations=[2,1],strides=[2,2],pads=[1,1,1,1]", &[2, 7, 6], &[3, 2, 3, 3]),
        conv("asymmetric padding", "pads=[0,1,2,0]", &[2, 5, 5], &[3, 2, 3, 3]),
        conv("asymmetric padding with stride", "strides=[2,2],pads=[0,1,2,0]", &[2, 5, 5], &[3, 2, 3, 3]),
        conv("padding larger than the kernel", "pads=[3,3,3,3]", &[2, 4, 4], &[3, 2, 2, 2]),
        conv(
            "padding larger than the kernel at one end, stride 2",
            "pads=[0,4,3,0],strides=[2,2]",
            &[1, 4, 4],
            &[2, 1, 2, 2],
        ),
        conv("two groups", "group=2,pads=[1,1,1,1]", &[4, 5, 5], &[6, 2, 3, 3]),
        conv("two groups, stride 2", "group=2,strides=[2,2],pads=[1,1,1,1]", &[4, 5, 5], &[6, 2, 3, 3]),
        conv("depthwise", "group=3,pads=[1,1,1,1]", &[3, 5, 5], &[3, 1, 3, 3]),
        conv(
            "depthwise with multiplier, stride 2, dilated",
            "group=3,strides=[2,2],dilations=[2,2],pads=[2,2,2,2]",
            &[3, 6, 6],
            &[6, 1, 3, 3],
        ),
        conv("kernel as large as the image", "group=1", &[2, 4, 3], &[3, 2, 4, 3]),
        conv("one axis", "pads=[1,1],strides=[2]", &[2, 7], &[3, 2, 3]),
        conv("one axis, dilated, grouped", "dilations=[3],group=2", &[4, 9], &[4, 2, 2]),
        conv("three axes", "pads=[1,0,1,0,1,1]", &[2, 3, 4, 3], &[3, 2, 2, 2, 2]),
        conv("three axes, stride 2", "strides=[2,1,2]", &[1, 5, 3, 4], &[2, 1, 2, 2, 2]),
        conv("kernel_shape given", "kernel_shape=[3,3],pads=[1,1,1,1],group=1", &[1, 4, 4], &[2, 1, 3, 3]),
        conv("explicit NOTSET", "auto_pad=\"NOTSET\",pads=[1,1,1,1]", &[1, 4, 4], &[2, 1, 3, 3]),
    ];
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for (stride, kernel) in [(1, 2), (1, 3), (2, 2), (2, 3), (3, 2)] {
            let attributes = format!("auto_pad=\"{mode}\",strides=[{stride},{stride}]");
            cases.push(conv(
                &format!("{mode}, kernel {kernel}, stride {stride}"),
                &attributes,
                &[2, 6, 5],
                &[2, 2, kernel, kernel],
            ));
        }
    }
    let nodes = |text: &str| case("Conv", "", text).single(NO_F64).polynomial();
    let named = |what: &str, case: Case| Case { what: what.into(), ..case };
    cases.extend([
        named("no bias", nodes("y = Conv(x, w)").act("x", &[2, 4, 4]).weight("w", &[3, 2, 2, 2])),
        named(
            "a weight used twice, on two sizes",
            nodes("h = Conv<strides=[2,2]>(x, w); y = Conv(h, w)")
                .act("x", &[2, 6, 6])
                .weight("w", &[2, 2, 2, 2])
                .not_polynomial(),
        ),
        named(
            "weight behind Transpose",
            nodes("v = Transpose<perm=[1,0,3,2]>(w); y = Conv(x, v)").act("x", &[2, 4, 4]).weight("w", &[2, 3, 2, 3]),
        ),
        named(
            "weight behind Reshape",
            nodes("v = Reshape(w, s); y = Conv(x, v)")
                .act("x", &[2, 4, 4])
                .weight("w", &[3, 8])
                .ints("s", &[3, 2, 2, 2]),
        ),
        named(
            "one bias for two convolutions",
            nodes("h = Conv(x, w, b); y = Conv(h, v, b)")
                .act("x", &[2, 4, 4])
                .weight("w", &[2, 2, 2, 2])
                .weight("v", &[2, 2, 2, 2])
                .weight("b", &[2])
                .not_polynomial(),
        ),
        named(
            "a residual block",
            nodes("c = Conv<pads=[1,1,1,1]>(x, w, b); y = Add(c, x)")
                .act("x", &[2, 4, 4])
                .weight("w", &[2, 2, 3, 3])
                .weight("b", &[2]),
        ),
    ]);
    cases
}
