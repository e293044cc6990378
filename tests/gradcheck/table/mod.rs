//! The cases, a family of operators to a file.

mod arithmetic;
mod attention;
mod bert;
mod control;
mod conv;
mod curves;
mod einsum;
mod elementwise;
mod fourier;
mod fused;
mod grid;
mod image;
mod layouts;
mod linear;
mod loss;
mod made;
mod moves;
mod normal;
mod norms;
mod older;
mod part;
mod places;
mod pool;
mod quantise;
mod rearrange;
mod recurrent;
mod reduce;
mod resize;
mod rewritten;
mod select;
mod transposed;

use crate::case::{Case, NO_F64, case};
use crate::numbers::Sampler;

pub fn cases() -> Vec<Case> {
    [
        arithmetic::cases(),
        attention::cases(),
        bert::cases(),
        control::cases(),
        conv::cases(),
        curves::cases(),
        einsum::cases(),
        elementwise::cases(),
        fourier::cases(),
        fused::cases(),
        grid::cases(),
        image::cases(),
        layouts::cases(),
        linear::cases(),
        loss::cases(),
        made::cases(),
        moves::cases(),
        normal::cases(),
        norms::cases(),
        older::cases(),
        part::cases(),
        places::cases(),
        pool::cases(),
        quantise::cases(),
        rearrange::cases(),
        recurrent::cases(),
        reduce::cases(),
        resize::cases(),
        rewritten::cases(),
        select::cases(),
        transposed::cases(),
    ]
    .concat()
}

const POSITIVE: Sampler = Sampler::Uniform(0.5, 2.0);
/// Opsets from the first to the last, one at least between any two changes of most operators.
const EVERY: &[i64] = &[7, 9, 11, 13, 17, 18, 21, 24, 26];
/// The same for operators, or forms of them, that are as they are since opset 13.
const ALL_BANDS: &[i64] = &[13, 17, 18, 20, 21, 24, 26];
