//! Windows and places of images, sequences, matrices.

use super::*;

const SHRINK: &str = "it computes in float32";

fn border(mode: &str, what: &str, x: &[usize], pads: &[i64]) -> Case {
    case("Pad", format!("{mode}, {what}"), format!("t = Pad<mode=\"{mode}\">(x, p); y = Mul(t, t)"))
        .act("x", x)
        .ints("p", pads)
}

fn columns(what: &str, attributes: &str, x: &[usize], image: &[i64], block: &[i64]) -> Case {
    case("Col2Im", what, format!("y = Col2Im{attributes}(x, image, block)"))
        .act("x", x)
        .ints("image", image)
        .ints("block", block)
        .opsets(&[18, 21])
        .single(NO_F64)
        .polynomial()
        .not_in_tract("it does not know the operator")
}

fn lp(what: &str, attributes: &str, x: &[usize]) -> Case {
    case("LpPool", what, format!("y = LpPool<{attributes}>(x)"))
        .act_in(Sampler::Off(&[0.0]), "x", x)
        .single(NO_F64)
        .not_in_tract("it does not know the operator")
}

fn regions(what: &str, attributes: &str) -> Case {
    case("RoiAlign", what, format!("y = RoiAlign<{attributes}>(x, r, b)"))
        .act("x", &[2, 6, 5])
        .numbers("r", &[0.6, 0.2, 3.9, 4.1, -2.5, 1.3, 2.2, 7.7, 1.1, 2.0, 4.4, 5.3], &[3, 4])
        .ints("b", &[0, 0, 0])
        .mixes("regions are of the first sample")
        .not_in_tract("it does not know the operator")
}

pub fn cases() -> Vec<Case> {
    let max = |what, attributes: &str, x: &[usize]| {
        case("MaxPool", what, format!("y = MaxPool<{attributes},storage_order=1>(x)")).act_in(Sampler::Distinct, "x", x)
    };
    let unpool = |what, nodes: &str| {
        case("MaxUnpool", what, nodes)
            .act_in(Sampler::Distinct, "x", &[2, 4, 4])
            .single(NO_F64)
            .not_in_tract("it does not know the operator")
    };
    let det = |what, x: &[usize]| {
        case("Det", what, "y = Det(x)").act("x", x).single(NO_F64).not_in_tract("it does not know the operator")
    };
    let center = |what, nodes: &str, x: &[usize], shape: &[i64]| {
        case("CenterCropPad", what, nodes)
            .act("x", x)
            .ints("s", shape)
            .opsets(&[18, 21])
            .not_in_tract("it does not know the operator")
    };
    vec![
        border("reflect", "both ends", &[2, 4], &[0, 1, 2, 0, 0, 3]).opsets(ALL_BANDS),
        border("reflect", "an image", &[1, 3, 4], &[0, 0, 2, 1, 0, 0, 1, 3]),
        border("edge", "both ends", &[2, 4], &[0, 1, 2, 0, 2, 3]).opsets(ALL_BANDS),
        border("wrap", "both ends", &[2, 4], &[0, 0, 2, 0, 1, 3])
            .opsets(&[19, 21])
            .not_in_tract("it does not know the mode"),
        case("Pad", "reflect, axes given", "t = Pad<mode=\"reflect\">(x, p, , axes); y = Mul(t, t)")
            .act("x", &[2, 4])
            .ints("p", &[2, 1])
            .ints("axes", &[-1])
            .opsets(&[18, 21]),
        max("two axes, columns first", "kernel_shape=[2,3],strides=[1,2]", &[2, 4, 5]),
        max("three axes, columns first", "kernel_shape=[2,1,2]", &[1, 3, 2, 4]),
        max("one axis, columns first", "kernel_shape=[2]", &[2, 5]),
        lp("rounded up", "kernel_shape=[2,2],strides=[2,2],ceil_mode=1", &[2, 5, 5]).opsets(&[18, 22]),
        lp("rounded up, padded", "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=1", &[1, 6, 6])
            .opsets(&[18]),
        lp("dilated", "kernel_shape=[2,2],dilations=[2,2],p=3", &[1, 5, 5]).opsets(&[18]),
        lp("the end not reached", "kernel_shape=[2],strides=[3]", &[2, 7]),
        unpool(
            "after pooling",
            "p, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x); t = Tanh(p); u = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(t, i); y = Add(u, x)",
        ),
        unpool(
            "its shape given",
            "p, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x); n = Shape(x); u = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(p, i, n); y = Mul(u, x)",
        ),
        columns("side by side", "<strides=[2,2]>", &[8, 4], &[4, 4], &[2, 2]),
        columns("overlapping", "", &[8, 9], &[4, 4], &[2, 2]),
        columns("padded", "<pads=[1,0,1,2]>", &[12, 25], &[4, 5], &[2, 3]),
        columns("dilated", "<dilations=[2,1]>", &[4, 8], &[4, 5], &[2, 2]),
        columns("one axis", "<strides=[2]>", &[6, 3], &[7], &[3]),
        det("of each sample", &[3, 3]),
        det("of several", &[2, 4, 4]),
        det("of two by two", &[2, 2]),
        det("of one number", &[2, 1, 1]),
        case("ReverseSequence", "lengths given", "r = ReverseSequence<time_axis=1,batch_axis=0>(x, n); y = Mul(r, w)")
            .act("x", &[4, 2])
            .weight("w", &[4, 2])
            .prepend("k = Mod(j, four); n = Add(k, one)")
            .indices("j", &[], 4)
            .ints_shaped("four", &[4], &[])
            .ints_shaped("one", &[1], &[])
            .not_in_tract("it does not know the operator"),
        case(
            "ReverseSequence",
            "time first",
            "t = Transpose<perm=[1,0,2]>(x); r = ReverseSequence(t, n); y = Mul(r, r)",
        )
        .act("x", &[4, 2])
        .prepend("k = Mod(j, four); n = Add(k, one)")
        .indices("j", &[], 4)
        .ints_shaped("four", &[4], &[])
        .ints_shaped("one", &[1], &[])
        .not_in_tract("it does not know the operator"),
        case("Shrink", "soft", "y = Shrink<bias=0.5,lambd=0.5>(x)")
            .act_in(Sampler::Off(&[-0.5, 0.5]), "x", &[6])
            .single(SHRINK)
            .opsets(ALL_BANDS),
        case("Shrink", "hard", "y = Shrink<lambd=1.0>(x)").act_in(Sampler::Off(&[-1.0, 1.0]), "x", &[6]).single(SHRINK),
        case("Clip", "computed bounds", "t = Clip(x, low, high); y = Mul(t, t)")
            .act_in(Sampler::Off(&[-1.0, 1.0]), "x", &[6])
            .weight_in(Sampler::Uniform(-1.0, -1.0), "low", &[])
            .weight_in(Sampler::Uniform(1.0, 1.0), "high", &[])
            .opsets(ALL_BANDS),
        center("cut", "t = CenterCropPad<axes=[1,2]>(x, s); y = Mul(t, t)", &[5, 6], &[2, 3]),
        center("filled up", "t = CenterCropPad<axes=[-1,1]>(x, s); y = Mul(t, t)", &[2, 3], &[6, 5]),
        center("cut and filled up", "t = CenterCropPad<axes=[1,2]>(x, s); y = Mul(t, t)", &[5, 2], &[2, 5]),
        regions("two samples a bin", "output_height=2,output_width=3,sampling_ratio=2").opsets(&[16, 21]),
        regions("not shifted by half", "output_height=3,output_width=2,sampling_ratio=1").opsets(&[13]),
        regions(
            "scaled, not shifted by half",
            "output_height=2,output_width=2,sampling_ratio=3,spatial_scale=0.5,coordinate_transformation_mode=\"output_half_pixel\"",
        ),
        regions("samples for each place", "output_height=2,output_width=1"),
        case("Compress", "entries of an axis", "t = Compress<axis=1>(x, c); y = Mul(t, t)")
            .act("x", &[4, 2])
            .truths("c", &[true, false, true, true])
            .not_in_tract("it takes the lengths for unknown")
            .opsets(ALL_BANDS),
        case("Compress", "elements of a weight", "v = Compress(w, c); y = Mul(x, v)")
            .act("x", &[2])
            .weight("w", &[2, 2])
            .truths("c", &[false, true, true]),
        case(
            "MatMul",
            "chosen rows of a weight",
            "h = OneHot<axis=1>(i, depth, values); t = Transpose<perm=[0,2,1]>(h); y = MatMul(t, w)",
        )
        .indices("i", &[2], 4)
        .weight("w", &[4, 3])
        .ints_shaped("depth", &[4], &[])
        .constant(Sampler::Uniform(0.0, 1.0), "values", &[2])
        .single(NO_F64),
    ]
}
