//! Operators that put values together, cut them or pick from them.

use super::*;

fn slice(what: &str, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Case {
    case("Slice", what, "t = Slice(x, starts, ends, axes, steps); y = Mul(t, t)")
        .act("x", &[5, 7])
        .ints("starts", starts)
        .ints("ends", ends)
        .ints("axes", axes)
        .ints("steps", steps)
}

/// Rows picked by number from those of all samples: `p` in its own sample, whose rows begin at its number times `step`.
fn numbered(what: &str, place: &str, step: i64) -> Case {
    let nodes = format!(
        "s = Shape(x); b = Gather(s, zero); r = Range(zero, b, one); o = Mul(r, step); {place}; i = Add(p, o); \
         f = Reshape(x, flat); e = Gather(f, i); y = Mul(e, e)"
    );
    case("Gather", what, nodes)
        .act("x", &[4, 3])
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints_shaped("step", &[step], &[])
        .ints("flat", &[-1, 3])
}

pub fn cases() -> Vec<Case> {
    let (low, high) = (i64::MIN, i64::MAX);
    vec![
        case("Concat", "two activations", "y = Concat<axis=1>(a, b)").act("a", &[2, 3]).act("b", &[1, 3]).opsets(EVERY),
        case("Concat", "last axis, one of them twice", "t = Concat<axis=-1>(a, b, a); y = Mul(t, t)").act("a", &[2]).act("b", &[3]),
        case("Concat", "a class token", "n = Shape(x); f = Gather(n, zero); s = Concat<axis=0>(f, rest); c = Expand(w, s); y = Concat<axis=1>(c, x)")
            .act("x", &[4, 3])
            .weight("w", &[1, 1, 3])
            .ints("zero", &[0])
            .ints("rest", &[1, 3]),
        case("Concat", "one operand", "y = Concat<axis=1>(x)").act("x", &[3]),
        case("Concat", "samples one after another", "t = Concat<axis=0>(x, x); y = Tanh(t)").act("x", &[3]).mixes("the axis of the samples grows"),
        case("Split", "equal parts", "a, b = Split<axis=1>(x); y = Mul(a, b)").act("x", &[4, 3]).opsets(&[13, 17]),
        case("Split", "uneven parts", "a, b = Split<axis=-1>(x, s); y = MatMul(b, w); z = Mul(a, a)")
            .act("x", &[2, 5])
            .weight("w", &[3, 2])
            .ints("s", &[2, 3])
            .outputs(&["y", "z"])
            .opsets(ALL_BANDS),
        case("Split", "number of parts given", "a, b = Split<axis=2,num_outputs=2>(x); y = Mul(a, b)").act("x", &[2, 6]).opsets(&[18, 21]),
        case("Split", "number of parts given, the last one smaller", "a, b, c = Split<axis=1,num_outputs=3>(x); s = Mul(a, b); y = Concat<axis=1>(s, c)")
            .act("x", &[5])
            .opsets(&[18, 21]),
        case("Split", "an unused part", "a, b, c = Split<axis=1>(x); y = Mul(a, c)").act("x", &[6]),
        slice("two axes", &[1, 2], &[4, 6], &[1, 2], &[1, 1]).opsets(ALL_BANDS),
        slice("negative axis, start and end", &[-4], &[-1], &[-1], &[1]),
        slice("step 2", &[0], &[7], &[2], &[2]),
        slice("step 2 from 1", &[1], &[7], &[2], &[2]),
        slice("step 3, the end not reached", &[1], &[6], &[2], &[3]),
        slice("step larger than the axis", &[2], &[7], &[2], &[9]),
        slice("ends beyond the axis", &[-100, 0], &[100, high], &[1, 2], &[1, 2]),
        slice("reversed", &[-1], &[low], &[2], &[-1]),
        case("Slice", "of nothing, reversed", "n = Slice(x, zero, zero, one); r = Slice(n, back, low, one, back); y = Concat<axis=1>(x, r)")
            .act("x", &[3])
            .ints("zero", &[0])
            .ints("one", &[1])
            .ints("back", &[-1])
            .ints("low", &[low])
            .not_in_tract("tract cuts nothing from an empty axis backwards"),
        slice("reversed from beyond the end", &[100], &[low], &[2], &[-1]),
        slice("backwards, step 2", &[5], &[0], &[2], &[-2]),
        slice("backwards, step 3, to the front", &[6], &[-100], &[2], &[-3]),
        slice("forwards and backwards", &[3, 1], &[0, 6], &[1, 2], &[-1, 2]),
        case("Slice", "no axes", "t = Slice(x, starts, ends); y = Mul(t, t)")
            .data("d", &[1])
            .act("x", &[5])
            .ints("starts", &[0, 1])
            .ints("ends", &[high, 4]),
        case("Gather", "a table by samples' indices", "y = Gather(w, i)").weight("w", &[4, 3]).indices("i", &[6], 4).opsets(EVERY),
        case("Gather", "a table by one index a sample", "y = Gather(w, i)").weight("w", &[4, 3]).indices("i", &[], 4),
        case("Gather", "a table by two axes of indices", "e = Gather(w, i); y = Tanh(e)").weight("w", &[3, 2, 2]).indices("i", &[2, 3], 3),
        case("Gather", "a table read twice", "e = Gather(w, i); f = Gather(w, j); y = Mul(e, f)")
            .weight("w", &[4, 3])
            .indices("i", &[5], 4)
            .indices("j", &[5], 4),
        case("Gather", "columns of a table", "e = Gather<axis=1>(w, i); t = Transpose<perm=[1,0,2]>(e); y = Mul(t, t)")
            .weight("w", &[3, 4])
            .indices("i", &[2], 4)
            .mixes("columns of a table are added up over all samples"),
        case("Gather", "constant columns of a table", "e = Gather<axis=-1>(w, i); y = MatMul(x, e)")
            .act("x", &[2, 3])
            .weight("w", &[3, 4])
            .ints("i", &[3, 0, -2, 3]),
        case("Gather", "one row of a table", "e = Gather(w, i); y = Mul(x, e)")
            .act("x", &[3])
            .weight("w", &[4, 3])
            .ints_shaped("i", &[1], &[]),
        case("Split", "pieces of a weight", "a, b = Split<axis=1>(w); c = MatMul(x, a); d = MatMul(x, b); y = Mul(c, d)")
            .act("x", &[2, 3])
            .weight("w", &[3, 4])
            .opsets(&[13, 17]),
        case("Slice", "pieces of a weight", "a = Slice(w, s, e, ax, st); t = Transpose(a); c = MatMul(x, t); y = Mul(c, c)")
            .act("x", &[2, 3])
            .weight("w", &[4, 5])
            .ints("s", &[-1, 0])
            .ints("e", &[0, 5])
            .ints("ax", &[0, 1])
            .ints("st", &[-2, 2]),
        case("Gather", "positions of a table", "e = Gather(w, i); y = Mul(x, e)")
            .act("x", &[3, 2])
            .weight("w", &[4, 2])
            .ints("i", &[0, 2, 2]),
        numbered("an entry of each sample by its number in all", "p = ArgMax<axis=1,keepdims=0>(m)", 4).data("m", &[4]),
        numbered("two entries of each sample by their numbers in all", "q = ArgMax<axis=2>(m); p = Squeeze(q, last)", 4)
            .replace("o = Mul(r, step)", "k = Mul(r, step); o = Unsqueeze(k, beside)")
            .data("m", &[2, 4])
            .ints("last", &[2])
            .ints("beside", &[1]),
        numbered("entries of other samples", "p = ArgMax<axis=1,keepdims=0>(m)", 3)
            .data("m", &[4])
            .mixes("the last entry counted on from the third is the next sample's first"),
        case("Gather", "one place of an activation", "y = Gather<axis=1>(x, i)").act("x", &[4, 3]).ints_shaped("i", &[0], &[]).opsets(EVERY),
        case("Gather", "places of an activation, repeated and negative", "t = Gather<axis=1>(x, i); y = Mul(t, t)")
            .act("x", &[4, 3])
            .ints("i", &[-1, 0, 0, 2]),
        case("Gather", "two axes of indices, last axis", "t = Gather<axis=-1>(x, i); y = Mul(t, t)")
            .act("x", &[2, 4])
            .ints_shaped("i", &[3, -4, 1, 1, 0, 2], &[2, 3]),
        case("Gather", "before the samples' axis", "p = Transpose<perm=[1,0,2]>(x); t = Gather(p, i); y = Mul(t, t)")
            .act("x", &[4, 3])
            .ints_shaped("i", &[1, 1, -1, 0], &[2, 2]),
        case("Gather", "one place before the samples' axis", "p = Transpose<perm=[1,0,2]>(x); y = Gather(p, i)")
            .act("x", &[4, 3])
            .ints_shaped("i", &[2], &[]),
        case(
            "Gather",
            "places of a mask whose samples lie one behind another",
            "shape = Shape(mask); n = Gather(shape, at0); n0 = Squeeze(n); starts = Range(zero, n0, one); \
             first = Mul(starts, length); column = Unsqueeze(first, at1); places = Add(column, offsets); \
             flat = Reshape(mask, open); kept = Gather(flat, places); y = Where(kept, x, none)",
        )
        .choices("mask", &[4])
        .act("x", &[3])
        .ints("at0", &[0])
        .ints("at1", &[1])
        .ints_shaped("zero", &[0], &[])
        .ints_shaped("one", &[1], &[])
        .ints_shaped("length", &[4], &[])
        .ints("offsets", &[2, 0, 3])
        .ints("open", &[-1])
        .number("none", 0.0),
        case("Pad", "zeros around", "t = Pad(x, p); y = Mul(t, t)").act("x", &[2, 3]).ints("p", &[0, 1, 2, 0, 0, 1]).opsets(ALL_BANDS),
        case("Pad", "a value around", "t = Pad<mode=\"constant\">(x, p, v); y = Mul(t, x2)")
            .act("x", &[2])
            .act("x2", &[5])
            .ints("p", &[0, 1, 0, 2])
            .number("v", 0.5),
        case("Pad", "a value that depends on parameters", "t = Pad(x, p, v, axes); y = Mul(t, t)")
            .act("x", &[2, 3])
            .ints("p", &[1, 2])
            .weight("v", &[])
            .ints("axes", &[-1])
            .opsets(&[18]),
        case("Pad", "axes given", "t = Pad(x, p, , axes); y = Mul(t, t)")
            .act("x", &[2, 3])
            .ints("p", &[1, 2, 0, 1])
            .ints("axes", &[-1, 1])
            .opsets(&[18, 21]),
        case("Pad", "of nothing", "t = Pad<mode=\"reflect\">(x, p); y = Mul(t, t)").act("x", &[2, 3]).ints("p", &[0; 6]),
        case("Pad", "cut off at an end", "t = Pad(x, p); y = Mul(t, t)").act("x", &[3, 4]).ints("p", &[0, 0, -1, 0, 1, -1]).not_in_tract("a negative border panics"),
        case("Where", "two activations", "y = Where(c, a, b)").choices("c", &[2, 3]).act("a", &[2, 3]).act("b", &[2, 3]).opsets(ALL_BANDS),
        case("Where", "everything broadcast", "y = Where(c, a, b)").choices("c", &[2, 1, 3]).act("a", &[1, 4, 1]).act("b", &[2, 1, 1]),
        case("Where", "weights", "y = Where(c, w, v)").choices("c", &[2, 3]).weight("w", &[3]).weight("v", &[2, 1]),
        case("Where", "condition computed", "c = Less(x, zero); n = Neg(x); y = Where(c, n, x)")
            .act_in(Sampler::Off(&[0.0]), "x", &[5])
            .number("zero", 0.0),
    ]
}
