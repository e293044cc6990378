//! The cases, a family of operators to a file.

mod arithmetic;
mod attention;
mod bert;
mod control;
mod conv;
mod curves;
mod elementwise;
mod fused;
mod layouts;
mod linear;
mod moves;
mod normal;
mod norms;
mod pool;
mod rearrange;
mod recurrent;
mod reduce;
mod rewritten;
mod select;
mod transposed;

use crate::case::{Case, NO_F64, case};
use crate::numbers::Sampler;

pub fn cases() -> Vec<Case> {
    [
        arithmetic::cases(),
        attention::cases(),
        elementwise::cases(),
        linear::cases(),
        bert::cases(),
        control::cases(),
        conv::cases(),
        curves::cases(),
        pool::cases(),
        rearrange::cases(),
        normal::cases(),
        norms::cases(),
        recurrent::cases(),
        reduce::cases(),
        moves::cases(),
        select::cases(),
        layouts::cases(),
        rewritten::cases(),
        fused::cases(),
        transposed::cases(),
    ]
    .concat()
}

const POSITIVE: Sampler = Sampler::Uniform(0.5, 2.0);
const ALL_BANDS: &[i64] = &[13, 17, 18, 20, 21];
