//! Einsum.

use super::*;

const DOTS: &str = "it misreads ...";

/// An activation `x` and a weight `w`.
fn weighted(what: &str, equation: &str, x: &[usize], w: &[usize]) -> Case {
    case("Einsum", what, format!("y = Einsum<equation=\"{equation}\">(x, w)")).act("x", x).weight("w", w)
}

fn two(what: &str, equation: &str, a: &[usize], b: &[usize]) -> Case {
    case("Einsum", what, format!("y = Einsum<equation=\"{equation}\">(a, b)")).act("a", a).act("b", b)
}

fn one(what: &str, equation: &str, x: &[usize]) -> Case {
    case("Einsum", what, format!("t = Einsum<equation=\"{equation}\">(x); y = Mul(t, t)")).act("x", x)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        weighted("tokens and a matrix", "abc,cd->abd", &[5, 4], &[4, 3]).opsets(ALL_BANDS),
        weighted("spaces, axes moved", " a b c , c d -> d a b ", &[5, 4], &[4, 3]),
        weighted("tokens and a matrix for each head", "btd,dhk->bthk", &[5, 4], &[4, 2, 3]),
        weighted("heads put together", "bthk,hkd->btd", &[5, 2, 3], &[2, 3, 4]),
        weighted("a stack of matrices, one for each head", "bthd,hdk->bthk", &[5, 2, 3], &[2, 3, 4]),
        weighted("a stack of matrices and rows", "bhd,hdk->bhk", &[2, 3], &[2, 3, 4]),
        weighted("a vector", "btd,d->bt", &[5, 4], &[4]),
        weighted("element by element", "btd,td->btd", &[5, 4], &[5, 4]),
        weighted("an outer product", "bt,d->btd", &[5], &[4]),
        weighted("any leading axes", "...c,cd->...d", &[2, 5, 4], &[4, 3]).not_in_tract(DOTS),
        weighted("no output written", "bt,td", &[5], &[5, 2]),
        weighted("no output written, letters sorted", "zt,ta->za", &[5], &[5, 2]),
        weighted("a diagonal of the weight", "bi,ii->bi", &[4], &[4, 4]),
        weighted("a letter of the activation alone", "bsd,dk->bk", &[5, 4], &[4, 3]),
        case("Einsum", "weight first", "y = Einsum<equation=\"kd,btd->bkt\">(w, x)")
            .act("x", &[5, 4])
            .weight("w", &[3, 4]),
        case("Einsum", "weight behind Transpose", "v = Transpose(w); y = Einsum<equation=\"bd,dk->bk\">(x, v)")
            .act("x", &[4])
            .weight("w", &[3, 4]),
        two("scores of heads", "bqhd,bkhd->bhqk", &[5, 2, 3], &[4, 2, 3]),
        two("heads of values", "bhqk,bkhd->bqhd", &[2, 5, 4], &[4, 2, 3]),
        two("any leading axes of both, broadcast", "...ij,...jk->...ik", &[1, 5, 4], &[2, 4, 3]).not_in_tract(DOTS),
        two("a number for each sample", "bi,bi->b", &[4], &[4]),
        two("axes of length 1", "bij,bjk->bik", &[1, 4], &[4, 1]),
        two("letters of one operand alone", "bis,btj->bij", &[2, 3], &[2, 4]),
        case("Einsum", "three operands", "y = Einsum<equation=\"bi,ij,bj->b\">(a, w, b)")
            .act("a", &[3])
            .act("b", &[4])
            .weight("w", &[3, 4]),
        one("axes moved", "bij->jbi", &[3, 4]),
        one("axes summed", "bij->bj", &[3, 4]),
        one("the diagonal", "bii->bi", &[4, 4]),
        one("the trace, leading axes kept", "...ii->...", &[2, 4, 4]),
        one("no output written, leading axes", "...ij", &[3, 4]),
    ];
    cases.push(
        case("Einsum", "over the samples", "y = Einsum<equation=\"bi,bj->ij\">(a, c)")
            .act("a", &[3])
            .act("c", &[4])
            .mixes("over the samples"),
    );
    cases
}
