//! Reading and writing at indices: GatherND, ScatterND, ScatterElements.

use super::*;

const NEGATIVE: &str = "indices counted from the back are out of its bounds";

/// Updates with distinct places along axis 1.
fn scatter(what: &str, reduction: &str) -> Case {
    let nodes = format!(
        "v, i = TopK<axis=1>(u, k); s = Tanh(v); t = ScatterElements<axis=1{reduction}>(x, i, s); y = Mul(t, t)"
    );
    case("ScatterElements", what, nodes).act("x", &[5, 2]).act_in(Sampler::Distinct, "u", &[5, 2]).ints("k", &[3])
}

/// Updates of which several may go to the same place.
fn combine(what: &str, reduction: &str) -> Case {
    let nodes = format!("t = ScatterElements<axis=-1,reduction=\"{reduction}\">(x, i, u); y = Mul(t, t)");
    case("ScatterElements", what, nodes).act("x", &[2, 3]).act("u", &[2, 5]).indices("i", &[2, 5], 3).opsets(&[18])
}

/// Rows written before the samples' axis.
fn rows(what: &str, attributes: &str, first: i64) -> Case {
    let nodes = format!(
        "p = Transpose<perm=[1,0,2]>(x); q = Transpose<perm=[1,0,2]>(u); t = ScatterND{attributes}(p, i, q); y = Mul(t, t)"
    );
    case("ScatterND", what, nodes).act("x", &[4, 2]).act("u", &[2, 2]).ints_shaped("i", &[first, 1], &[2, 1])
}

/// Entries written into a cache of five, from a place of each sample's own on.
fn cached(what: &str, attributes: &str, below: usize) -> Case {
    case("TensorScatter", what, format!("i = Mod(j, n); t = TensorScatter{attributes}(x, u, i); y = Mul(t, t)"))
        .act("x", &[2, 5, 3])
        .act("u", &[2, 2, 3])
        .indices("j", &[], below)
        .ints("n", &[below as i64])
        .opsets(&[24])
        .not_in_tract("it does not know the operator")
}

pub fn cases() -> Vec<Case> {
    let picked = |what, shape: &[usize], indices: &[usize]| {
        case("GatherND", what, "i = Mod(j, n); e = GatherND(w, i); y = Mul(e, e)")
            .weight("w", shape)
            .indices("j", indices, shape[0])
            .ints("n", &[shape[0] as i64])
    };
    let grouped = |what, axes: usize, shape: &[usize], indices: &[usize], below: usize| {
        case("GatherND", what, format!("i = Mod(j, n); e = GatherND<batch_dims={axes}>(x, i); y = Mul(e, e)"))
            .act("x", shape)
            .indices("j", indices, below)
            .ints("n", &[below as i64])
    };
    vec![
        case(
            "GatherND",
            "places of a mask for every sample",
            "shape = Shape(mask); n = Gather(shape, at0); n0 = Squeeze(n); starts = Range(zero, n0, one); \
             rows = Reshape(starts, column); one_each = Expand(rows, wide); \
             all = Sub(one_each, one_each); beside = Add(all, offsets); r = Unsqueeze(one_each, last); \
             c = Unsqueeze(beside, last); places = Concat<axis=-1>(r, c); kept = GatherND(mask, places); y = Where(kept, x, none)",
        )
        .choices("mask", &[4])
        .act("x", &[3])
        .ints("at0", &[0])
        .ints("last", &[-1])
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints("column", &[-1, 1])
        .ints("wide", &[1, 3])
        .ints("offsets", &[2, 0, 3])
        .number("none", 0.0),
        picked("rows of a table", &[4, 3], &[5, 1]).opsets(ALL_BANDS),
        picked("rows of a table of tables", &[4, 5, 2], &[3, 2]),
        picked("numbers of a table", &[3, 4], &[2, 5, 2]),
        picked("one number of a table", &[4, 5], &[2]),
        grouped("one batch axis", 1, &[4, 3], &[2, 1], 4),
        grouped("one batch axis, two coordinates", 1, &[4, 5, 2], &[3, 2], 4),
        grouped("two batch axes", 2, &[2, 5, 3], &[2, 4, 1], 5),
        grouped("one number of each sample", 1, &[6], &[1], 6),
        case("GatherND", "before the samples' axis", "p = Transpose<perm=[1,0,2]>(x); e = GatherND(p, i); y = Mul(e, e)")
            .act("x", &[4, 3])
            .ints_shaped("i", &[1, 3, 1], &[3, 1]),
        case("GatherND", "counted from the back", "e = GatherND<batch_dims=1>(x, i); y = Mul(e, e)")
            .act("x", &[4, 3])
            .indices("i", &[2, 2], 3)
            .not_in_tract(NEGATIVE),
        case(
            "GatherND",
            "the sample as a coordinate",
            "s = Shape(x); b = Gather(s, zero); r = Range(zero, b, one); c = Unsqueeze(r, last); m = Mul(c, none); d = Add(m, two); i = Concat<axis=1>(c, d); e = GatherND(x, i); y = Mul(e, e)",
        )
        .act("x", &[4, 3])
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints("last", &[1])
        .ints("none", &[0])
        .ints("two", &[2])
        .mixes("coordinates may lead to other samples"),
        case(
            "GatherND",
            "a place for each sample",
            "s = Shape(x); b = Gather(s, zero); r = Range(zero, b, one); c = Unsqueeze(r, last); i = Concat<axis=-1>(c, j); e = GatherND(x, i); y = Mul(e, e)",
        )
        .act("x", &[4, 3])
        .indices("j", &[1], 4)
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints("last", &[1])
        .not_in_tract(NEGATIVE),
        case(
            "GatherND",
            "an element for each sample",
            "s = Shape(x); b = Gather(s, zero); r = Range(zero, b, one); c = Unsqueeze(r, last); i = Concat<axis=1>(c, j, k); e = GatherND(x, i); y = Mul(e, e)",
        )
        .act("x", &[4, 3])
        .indices("j", &[1], 4)
        .indices("k", &[1], 3)
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints("last", &[1])
        .not_in_tract(NEGATIVE),
        cached("from each sample's place on", "", 4),
        cached("around the end", "<mode=\"circular\">", 5),
        cached("along another axis", "<axis=-1>", 2).replace("(x, u, i)", "(p, q, i)").prepend("p = Transpose<perm=[0,1,3,2]>(x); q = Transpose<perm=[0,1,3,2]>(u)"),
        cached("from the first place on", "", 1).replace("(x, u, i)", "(x, u)"),
        scatter("places overwritten", "").opsets(ALL_BANDS),
        scatter("places overwritten, said so", ",reduction=\"none\"").opsets(&[16, 18]),
        combine("added", "add").opsets(&[16, 18]),
        combine("multiplied", "mul").opsets(&[16, 18]),
        combine("the larger taken", "max"),
        combine("the smaller taken", "min"),
        case("ScatterElements", "multiplied by zeros", "t = ScatterElements<axis=1,reduction=\"mul\">(x, i, u); y = Add(t, x)")
            .act("x", &[3])
            .act_in(Sampler::Uniform(0.0, 0.0), "u", &[4])
            .indices("i", &[4], 3)
            .opsets(&[18]),
        rows("counted from the back", "", -1).not_in_tract(NEGATIVE),
        rows("rows overwritten", "", 3).opsets(ALL_BANDS),
        rows("rows added", "<reduction=\"add\">", 3).opsets(&[16, 18]),
        rows("rows multiplied", "<reduction=\"mul\">", 0).opsets(&[16, 18]),
        rows("the larger of rows", "<reduction=\"max\">", 3).opsets(&[18]),
        case("ScatterND", "numbers added", "p = Transpose(x); q = Transpose(u); t = ScatterND<reduction=\"add\">(p, i, q); y = Mul(t, t)")
            .act("x", &[4])
            .act("u", &[3])
            .ints_shaped("i", &[2, 0, 2], &[3, 1])
            .opsets(&[18]),
        case("ScatterND", "across samples", "t = ScatterND<reduction=\"add\">(x, i, w); y = Mul(t, t)")
            .act("x", &[4])
            .weight("w", &[2])
            .ints_shaped("i", &[0, 1, 0, 3], &[2, 2])
            .opsets(&[18])
            .mixes("numbers are written into the first sample"),
    ]
}
