//! Transposed convolutions, and convolutions whose weight is computed.

use super::*;

fn transposed(what: &str, attributes: &str, x: &[usize], w: &[usize], groups: usize) -> Case {
    case("ConvTranspose", what, format!("y = ConvTranspose<group={groups},{attributes}>(x, w, b)"))
        .act("x", x)
        .weight("w", w)
        .weight("b", &[w[1] * groups])
        .single(NO_F64)
        .polynomial()
}

fn computed(op: &'static str, what: &str, nodes: &str, x: &[usize], w: &[usize]) -> Case {
    case(op, what, nodes).act("x", x).weight("w", w).single(NO_F64)
}

pub fn cases() -> Vec<Case> {
    vec![
        transposed("plain", "strides=[1,1]", &[2, 3, 3], &[2, 3, 2, 2], 1).opsets(EVERY),
        transposed("stride 2", "strides=[2,2]", &[2, 3, 3], &[2, 3, 2, 2], 1),
        transposed("padded, stride 2", "strides=[2,2],pads=[1,1,1,1]", &[2, 3, 3], &[2, 3, 3, 3], 1),
        transposed("output padding", "strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]", &[2, 3, 3], &[2, 3, 3, 3], 1),
        transposed("stride beyond the kernel", "strides=[3,3],output_padding=[1,0]", &[2, 3, 2], &[2, 1, 2, 2], 1),
        transposed("dilated", "dilations=[2,2],pads=[1,0,0,1]", &[2, 3, 3], &[2, 3, 2, 2], 1),
        transposed("two groups", "strides=[2,2]", &[4, 3, 3], &[4, 3, 2, 2], 2),
        transposed("depthwise", "strides=[2,2],pads=[1,1,1,1]", &[3, 3, 3], &[3, 1, 4, 4], 3),
        transposed("one axis", "strides=[2],pads=[1,0]", &[2, 4], &[2, 3, 3], 1),
        transposed("three axes", "strides=[1,2,1]", &[2, 2, 2, 3], &[2, 1, 2, 2, 2], 1),
        transposed("SAME_UPPER", "strides=[2,2],auto_pad=\"SAME_UPPER\"", &[2, 3, 3], &[2, 2, 3, 3], 1),
        transposed("SAME_LOWER", "strides=[2,2],auto_pad=\"SAME_LOWER\"", &[2, 3, 3], &[2, 2, 3, 3], 1),
        transposed("VALID", "strides=[2,2],auto_pad=\"VALID\"", &[2, 3, 3], &[2, 2, 3, 3], 1),
        computed(
            "Conv",
            "weight through a function",
            "v = Tanh(w); y = Conv<pads=[1,1,1,1]>(x, v)",
            &[2, 4, 4],
            &[3, 2, 3, 3],
        ),
        computed(
            "Conv",
            "computed weight, stride 2, dilated, grouped",
            "v = Tanh(w); y = Conv<group=2,strides=[2,2],dilations=[2,1],pads=[1,0,1,1]>(x, v)",
            &[4, 6, 5],
            &[6, 2, 2, 3],
        ),
        computed(
            "Conv",
            "computed weight, the end not reached",
            "v = Tanh(w); y = Conv<strides=[2,2]>(x, v)",
            &[2, 6, 6],
            &[3, 2, 3, 3],
        ),
        computed(
            "Conv",
            "normalised weight",
            "q = Mul(w, w); s = ReduceSum(q, axes); r = Sqrt(s); v = Div(w, r); y = Conv(x, v)",
            &[2, 4, 4],
            &[3, 2, 2, 2],
        )
        .ints("axes", &[1, 2, 3]),
        computed(
            "ConvTranspose",
            "computed weight",
            "v = Tanh(w); y = ConvTranspose<strides=[2,2],pads=[1,0,0,1]>(x, v)",
            &[2, 3, 3],
            &[2, 3, 3, 3],
        ),
        case("Gather", "rows of a computed table", "v = Tanh(w); y = Gather(v, i)").weight("w", &[5, 3]).indices(
            "i",
            &[2],
            5,
        ),
        case("Gather", "rows of a table behind Identity", "v = Identity(w); y = Gather(v, i)")
            .weight("w", &[5, 3])
            .indices("i", &[2], 5),
        case("MatMul", "a part of a weight", "v = Slice(w, start, end, axes); y = MatMul(x, v)")
            .act("x", &[3, 4])
            .weight("w", &[4, 6])
            .ints("start", &[2])
            .ints("end", &[5])
            .ints("axes", &[1]),
        case("Add", "a part of a bias", "v = Slice(w, start, end, axes); a = Add(x, v); y = Tanh(a)")
            .act("x", &[3, 4])
            .weight("w", &[9])
            .ints("start", &[-6])
            .ints("end", &[-2])
            .ints("axes", &[0]),
    ]
}
