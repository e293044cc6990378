//! Operators that repeat, accumulate, mask or regroup elements, or pick them by indices.

use super::*;

/// A running product.
fn running(what: &str, attributes: &str, shape: &[usize], axis: i64) -> Case {
    case("CumProd", what, format!("c = CumProd{attributes}(x, a); y = Mul(c, c)"))
        .act("x", shape)
        .ints_shaped("a", &[axis], &[])
        .opsets(&[26])
        .not_in_tract("it does not know the operator")
}

pub fn cases() -> Vec<Case> {
    let square = |op: &'static str, what: &str, nodes: &str, x: &[usize]| {
        case(op, what, format!("t = {nodes}; y = Mul(t, t)")).act("x", x)
    };
    let mut cases = vec![
        square("CumSum", "last axis", "CumSum(x, a)", &[2, 4]).ints_shaped("a", &[-1], &[]).opsets(ALL_BANDS),
        square("CumSum", "exclusive", "CumSum<exclusive=1>(x, a)", &[2, 4])
            .ints("a", &[2])
            .not_in_tract("it takes the axis as a scalar alone"),
        square("CumSum", "reversed", "CumSum<reverse=1>(x, a)", &[3, 2])
            .ints("a", &[1])
            .not_in_tract("it takes the axis as a scalar alone"),
        square("CumSum", "exclusive, reversed", "CumSum<exclusive=1,reverse=1>(x, a)", &[4]).ints_shaped(
            "a",
            &[1],
            &[],
        ),
        square("CumSum", "over the samples", "CumSum(x, a)", &[4])
            .ints("a", &[0])
            .not_in_tract("it takes the axis as a scalar alone")
            .mixes("over the samples"),
        running("last axis", "", &[2, 4], -1),
        running("exclusive", "<exclusive=1>", &[3, 2], 1),
        running("of a zero", "", &[3], 1)
            .prepend("z = Mul(x, d)")
            .replace("CumProd(x, a)", "CumProd(z, a)")
            .numbers("d", &[1.5, 0.0, 2.0], &[3]),
        running("reversed", "<reverse=1>", &[3, 2], 1),
        running("exclusive, reversed", "<exclusive=1,reverse=1>", &[4], 1),
        running("over the samples", "", &[3], 0).mixes("over the samples"),
        square("Tile", "two axes", "Tile(x, r)", &[2, 3]).ints("r", &[1, 2, 3]).opsets(EVERY),
        square("Tile", "an axis of length 1", "Tile(x, r)", &[1, 3]).ints("r", &[1, 4, 1]),
        case("Tile", "a weight for each sample", "n = Shape(x); f = Gather(n, zero); r = Concat<axis=0>(f, ones); t = Tile(w, r); p = Reshape(x, s); h = Mul(p, t); y = Tanh(h)")
            .act("x", &[2, 3])
            .weight("w", &[2, 3])
            .ints("zero", &[0])
            .ints("ones", &[1])
            .ints("s", &[-1, 3]),
        square("Tile", "the samples repeated", "Tile(x, r)", &[3])
            .ints("r", &[2, 1])
            .mixes("the axis of the samples grows"),
        square("Trilu", "upper", "Trilu(x)", &[3, 4]).opsets(&[17, 21]),
        square("Trilu", "lower, shifted", "Trilu<upper=0>(x, k)", &[2, 4, 3]).ints_shaped("k", &[1], &[]),
        square("Trilu", "upper, shifted down", "Trilu(x, k)", &[3, 3]).ints_shaped("k", &[-1], &[]),
        square("DepthToSpace", "DCR", "DepthToSpace<blocksize=2>(x)", &[8, 2, 3]).opsets(ALL_BANDS),
        square("DepthToSpace", "CRD", "DepthToSpace<blocksize=2,mode=\"CRD\">(x)", &[8, 2, 3]),
        square("SpaceToDepth", "blocks of 2", "SpaceToDepth<blocksize=2>(x)", &[2, 4, 6]).opsets(EVERY),
        case("GatherElements", "samples' indices", "t = GatherElements<axis=-1>(x, i); y = Mul(t, t)")
            .act("x", &[2, 4])
            .indices("i", &[2, 5], 4)
            .opsets(ALL_BANDS),
    ];
    let top = |what: &str, attributes: &str| {
        case("TopK", what, format!("v, i = TopK<{attributes}>(x, k); y = Mul(v, v)"))
            .act_in(Sampler::Distinct, "x", &[2, 4])
            .ints("k", &[2])
    };
    cases.extend([
        top("largest", "axis=-1").opsets(ALL_BANDS),
        top("smallest", "axis=2,largest=0"),
        top("another axis", "axis=1,sorted=1"),
    ]);
    cases
}
