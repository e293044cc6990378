//! Operators that move elements and change none.

use super::*;

pub fn cases() -> Vec<Case> {
    // Squared, so that the gradient differs from element to element.
    let make = |op: &'static str, what: &str, nodes: &str| {
        case(op, what, format!("{nodes}; y = Mul(t, t)")).act("x", &[2, 3, 4])
    };
    let mut cases = vec![
        make("Reshape", "sizes given", "t = Reshape(x, s)").ints("s", &[-1, 6, 4]).opsets(EVERY),
        make("Reshape", "a zero copies the size", "t = Reshape(x, s)").ints("s", &[0, 0, -1]),
        make(
            "Reshape",
            "the batch from Shape",
            "n = Shape(x); f = Gather(n, zero); l = Concat<axis=0>(f, rest); t = Reshape(x, l)",
        )
        .ints("zero", &[0])
        .ints("rest", &[4, 6]),
        make("Reshape", "samples and tokens merged", "t = Reshape(x, s)").ints("s", &[-1, 4]),
        make("Transpose", "reversed", "t = Transpose(x)"),
        make("Transpose", "samples stay", "t = Transpose<perm=[0,3,1,2]>(x)").opsets(EVERY),
        make("Transpose", "samples in the middle", "t = Transpose<perm=[2,0,3,1]>(x)"),
        make("Squeeze", "axes given", "u = Unsqueeze(x, a); t = Squeeze(u, a)").ints("a", &[1, -1]).opsets(ALL_BANDS),
        make("Squeeze", "no axes", "u = Unsqueeze(x, a); t = Squeeze(u)").ints("a", &[0, 4]),
        make("Unsqueeze", "front and back", "t = Unsqueeze(x, a)").ints("a", &[0, -1]).opsets(ALL_BANDS),
        make("Unsqueeze", "in the middle, twice", "t = Unsqueeze(x, a)").ints("a", &[2, 3]),
        case("Expand", "an activation", "t = Expand(x, s); y = Mul(t, w)")
            .act("x", &[2, 1, 3])
            .ints("s", &[1, 1, 4, 1])
            .weight("w", &[4, 3])
            .opsets(ALL_BANDS),
        case("Expand", "more axes", "r = Reshape(x, k); t = Expand(r, s); y = Mul(t, t)")
            .act("x", &[3])
            .ints("k", &[1, -1, 1, 3])
            .ints("s", &[2, 1, 4, 3]),
        case(
            "Expand",
            "a weight to the batch",
            "n = Shape(x); s = Concat<axis=0>(n, three); t = Expand(w, s); u = Unsqueeze(x, a); y = Mul(t, u)",
        )
        .act("x", &[2])
        .weight("w", &[1, 1, 3])
        .ints("three", &[3])
        .ints("a", &[-1]),
    ];
    for axis in [0, 1, 2, 3, 4, -1, -3] {
        let flat = make("Flatten", &format!("axis {axis}"), &format!("t = Flatten<axis={axis}>(x)"));
        cases.push(if axis == 1 { flat.opsets(ALL_BANDS) } else { flat });
    }
    cases
}
