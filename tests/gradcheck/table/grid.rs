//! Sampling at computed places.

use super::*;

const HALVES: [f64; 4] = [-1.5, -0.5, 0.5, 1.5];

/// Images of two places along each axis, so that between whole places there is room for differences.
fn sampled(what: &str, attributes: &str, x: &[usize], grid: &[usize], whole: &'static [f64]) -> Case {
    case("GridSample", what, format!("y = GridSample<{attributes}>(x, g)")).act("x", x).act_in(
        Sampler::Off(whole),
        "g",
        grid,
    )
}

fn affine(what: &str, attributes: &str, theta: &[usize], size: &[i64]) -> Case {
    let nodes = format!(
        "n = Shape(t); b = Slice(n, zero, one); z = Concat<axis=0>(b, s); g = AffineGrid{attributes}(t, z); y = Mul(g, g)"
    );
    case("AffineGrid", what, nodes)
        .act("t", theta)
        .ints("s", size)
        .ints("zero", &[0])
        .ints("one", &[1])
        .opsets(&[20, 21])
        .not_in_tract("it does not know the operator")
}

/// The grid is data: the result is linear in the image.
fn looked_up(what: &str, attributes: &str) -> Case {
    case("GridSample", what, format!("g = Mul(d, wide); y = GridSample<{attributes}>(x, g)"))
        .act("x", &[2, 3, 4])
        .data("d", &[2, 3, 2])
        .number("wide", 1.3)
}

/// Taps moved off the whole places.
fn deformed(what: &str, attributes: &str, x: &[usize], w: &[usize], offset: &[usize]) -> Case {
    case("DeformConv", what, format!("y = DeformConv<{attributes}>(x, w, o)"))
        .act("x", x)
        .weight("w", w)
        .act_in(Sampler::Off(&[-2.0, -1.0, 0.0, 1.0, 2.0]), "o", offset)
        .opsets(&[19, 22])
        .single(NO_F64)
        .not_in_tract("it does not know the operator")
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (mode, newer) in [("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")] {
        for padding in ["zeros", "border", "reflection"] {
            for corners in [0, 1] {
                let attributes = |mode| format!("mode=\"{mode}\",padding_mode=\"{padding}\",align_corners={corners}");
                let whole = if corners == 1 { &[-1.0, 1.0][..] } else { &HALVES };
                let what = format!("{mode}, {padding}, align_corners {corners}");
                let older = looked_up(&what, &attributes(mode)).opsets(&[16, 17]).single(NO_F64).polynomial();
                let what = format!("{what}, newer");
                let newer = match newer {
                    "nearest" => looked_up(&what, &attributes(newer)),
                    _ => sampled(&what, &attributes(newer), &[2, 2, 2], &[2, 3, 2], whole),
                };
                cases.extend([older, newer.opsets(&[20, 22])]);
            }
        }
    }
    cases.extend([
        deformed("taps of one group", "kernel_shape=[2,2]", &[2, 3, 4], &[3, 2, 2, 2], &[8, 2, 3]),
        deformed(
            "strides, pads, dilations",
            "strides=[2,1],pads=[1,0,1,1],dilations=[1,2]",
            &[1, 3, 3],
            &[2, 1, 2, 2],
            &[8, 2, 2],
        ),
        deformed("groups of channels and of offsets", "group=2,offset_group=2", &[4, 3, 2], &[2, 2, 2, 1], &[8, 2, 2]),
        deformed("a bias and a mask", "kernel_shape=[1,2]", &[2, 2, 3], &[2, 2, 1, 2], &[4, 2, 2])
            .replace("(x, w, o)", "(x, w, o, b, m)")
            .weight("b", &[2])
            .act("m", &[2, 2, 2]),
        sampled("three axes", "mode=\"linear\"", &[1, 2, 2, 2], &[2, 1, 2, 3], &HALVES).opsets(&[20]),
        sampled(
            "one row, mirrored",
            "padding_mode=\"reflection\"",
            &[1, 1, 2],
            &[2, 3, 2],
            &[-1.5, -0.5, 0.0, 0.5, 1.5],
        )
        .opsets(&[20]),
        affine("an image", "", &[2, 3], &[2, 3, 4]),
        affine("an image, align_corners", "<align_corners=1>", &[2, 3], &[1, 3, 4]),
        affine("a volume", "", &[3, 4], &[1, 2, 3, 4]),
    ]);
    cases
}
