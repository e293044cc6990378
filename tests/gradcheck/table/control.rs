//! Branches and loops, replaced by what they run.

use super::*;

/// `h ← tanh(h + w x_t)` for each of four steps.
fn recurrent(op: &'static str, what: &str, nodes: &str) -> Case {
    case(op, what, nodes).act("x", &[4, 3]).weight("w", &[3, 2]).weight("r", &[2, 2])
}

pub fn cases() -> Vec<Case> {
    let branch =
        |what: &str, nodes: &str| case("If", what, nodes).act("x", &[3]).weight("w", &[3, 2]).weight("b", &[2]);
    let branches = "If<then_branch={-> h = MatMul(x, w); k = Add(h, b); u = Tanh(k) -> u},else_branch={-> e = MatMul(x, w); v = Mul(e, b) -> v}>";
    let looped =
        |what: &str, nodes: &str| case("Loop", what, nodes).act("x", &[3]).weight("w", &[3, 3]).weight("b", &[3]);
    let times = |case: Case, trips: i64| case.ints_shaped("m", &[trips], &[]);
    let step = "h = MatMul(s, w); t = Add(h, b); u = Tanh(t)";
    vec![
        branch("taken", &format!("y = {branches}(c)")).truth("c", true),
        branch("not taken", &format!("y = {branches}(c)")).truth("c", false),
        branch("told by a shape", &format!("n = Shape(x); l = Gather(n, one); c = Equal(l, three); y = {branches}(c)"))
            .ints("one", &[1])
            .ints("three", &[3]),
        branch("told by data", &format!("s = ReduceSum<keepdims=0>(z); c = Greater(s, zero); y = {branches}(c)"))
            .data("z", &[2])
            .number("zero", 0.0)
            .mixes("one condition for all samples"),
        branch(
            "within a branch, told by its shape",
            "y = If<then_branch={-> h = MatMul(x, w); n = Shape(h); l = Gather(n, one); d = Equal(l, two); \
                k = If<then_branch={-> p = Add(h, b) -> p},else_branch={-> q = Identity(h) -> q}>(d); u = Tanh(k) -> u},\
                else_branch={-> v = MatMul(x, w) -> v}>(c)",
        )
        .truth("c", true)
        .ints("one", &[1])
        .ints("two", &[2]),
        times(
            looped("three times", &format!("y = Loop<body={{#i, ?c, s -> d = Identity(c); {step} -> d, u}}>(m, on, x)")).truth("on", true),
            3,
        ),
        times(
            looped(
                "outputs of all iterations, its number used",
                "z, y = Loop<body={#i, ?c, s -> d = Identity(c); h = MatMul(s, w); n = CastLike(i, one); g = Add(n, one); t = Mul(h, g); u = Add(t, b); a = Tanh(u) -> d, u, a}>(m, , x)",
            )
            .number("one", 1.0),
            2,
        ),
        times(looped("no iteration", &format!("z = Loop<body={{#i, ?c, s -> d = Identity(c); {step} -> d, u}}>(m, off, x); e = MatMul(z, w); y = Add(e, b)")).truth("off", false), 3),
        looped(
            "as often as a shape tells",
            &format!("n = Shape(x); m = Gather(n, last); y = Loop<body={{#i, ?c, s -> d = Identity(c); {step} -> d, u}}>(m, on, x)"),
        )
        .truth("on", true)
        .ints_shaped("last", &[1], &[]),
        times(
            looped(
                "a weight carried along, ended by a condition",
                "y, v = Loop<body={#i, ?c, s, k -> d = Less(i, last); h = MatMul(s, k); t = Add(h, b); u = Tanh(t); l = Identity(k) -> d, u, l}>(m, on, x, w)",
            )
            .truth("on", true)
            .ints_shaped("last", &[1], &[])
            .not_in_tract("Loop, run to count its iterations"),
            9,
        ),
        times(
            case("Loop", "data read within, no weights", "l = Loop<body={#i, ?c, s -> d = Identity(c); u = Add(s, x) -> d, u}>(m, on, zero); y = MatMul(l, w)")
                .data("x", &[3])
                .weight("w", &[3, 2])
                .number("zero", 0.0)
                .truth("on", true),
            2,
        )
        .mixes("a loop without weights is run as it is")
        .not_in_tract("Loop"),
        times(
            looped(
                "within a loop",
                &format!("y = Loop<body={{#i, ?c, o -> e = Identity(c); f = Loop<body={{#j, ?g, s -> d = Identity(g); {step} -> d, u}}>(m, on, o); k = Mul(f, b) -> e, k}}>(m, on, x)"),
            )
            .truth("on", true),
            2,
        ),
        recurrent(
            "Scan",
            "a recurrent layer",
            "f, s = Scan<num_scan_inputs=1,scan_input_axes=[1],scan_output_axes=[1],body={h, t -> a = MatMul(t, w); c = MatMul(h, r); e = Add(a, c); n = Tanh(e); o = Identity(n) -> n, o}>(h0, x); y = Mul(s, two)",
        )
        .act("h0", &[2])
        .number("two", 2.0),
        recurrent(
            "Scan",
            "backwards, from the last axis",
            "k = Transpose<perm=[0,2,1]>(x); f, y = Scan<num_scan_inputs=1,scan_input_axes=[-1],scan_output_axes=[-1],scan_input_directions=[1],scan_output_directions=[1],body={h, t -> a = MatMul(t, w); c = MatMul(h, r); e = Add(a, c); n = Tanh(e); o = Identity(n) -> n, o}>(h0, k)",
        )
        .act("h0", &[2]),
    ]
}
