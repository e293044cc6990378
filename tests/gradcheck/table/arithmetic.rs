//! Arithmetic of two operands, broadcast in every way.

use super::*;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in ["Add", "Sub", "Mul", "Div"] {
        let make = |what: &str, nodes: &str| case(op, what, nodes.replace("Op", op));
        cases.extend([
            make("two activations", "y = Op(a, b)").act("a", &[2, 3]).act_in(POSITIVE, "b", &[2, 3]).opsets(EVERY),
            make("the same value twice", "y = Op(a, a); y2 = Op(a, y)").act_in(POSITIVE, "a", &[4]).outputs(&["y2"]),
            make("weight on the right, fewer axes", "y = Op(a, w)").act("a", &[2, 3]).weight_in(POSITIVE, "w", &[3]),
            make("weight on the left, axes of length 1", "y = Op(w, a)").act_in(POSITIVE, "a", &[2, 3]).weight_in(
                POSITIVE,
                "w",
                &[1, 2, 1],
            ),
            make("weight with more axes than the activation", "y = Op(r, w)")
                .act_in(POSITIVE, "a", &[2, 3])
                .weight_in(POSITIVE, "w", &[2, 1, 1, 3])
                .ints("s", &[1, -1, 2, 3])
                .prepend("r = Reshape(a, s)"),
            make("a weight of one element", "y = Op(a, w)").act("a", &[2, 3]).weight_in(POSITIVE, "w", &[]),
            make("both operands broadcast", "y = Op(a, b)").act("a", &[2, 1, 3]).act_in(POSITIVE, "b", &[1, 4, 1]),
            make("activation with an axis of length 1", "y = Op(a, w)").act("a", &[1, 3]).weight_in(
                POSITIVE,
                "w",
                &[4, 3],
            ),
            make("a weight used twice", "t = Op(a, w); y = Op(t, w)").act("a", &[2, 3]).weight_in(POSITIVE, "w", &[3]),
        ]);
    }
    cases.extend([
        case("Pow", "constant exponent 2", "y = Pow(a, e)").act("a", &[2, 3]).number("e", 2.0).opsets(ALL_BANDS),
        case("Pow", "constant exponent 3", "y = Pow(a, e)").act("a", &[2, 3]).number("e", 3.0),
        case("Pow", "constant exponent one half", "y = Pow(a, e)").act_in(POSITIVE, "a", &[2, 3]).number("e", 0.5),
        case("Pow", "integer exponent", "y = Pow(a, e)").act("a", &[2, 3]).ints_shaped("e", &[3], &[]),
        case("Pow", "both activations, broadcast", "y = Pow(a, b)").act_in(POSITIVE, "a", &[2, 1]).act("b", &[1, 3]),
        case("Pow", "weight as the exponent", "y = Pow(a, w)").act_in(POSITIVE, "a", &[2, 3]).weight("w", &[3]),
        case("Pow", "weight as the base", "y = Pow(w, a)").act("a", &[2, 3]).weight_in(POSITIVE, "w", &[2, 1]),
    ]);
    cases
}
