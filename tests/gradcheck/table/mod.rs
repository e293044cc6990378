//! The cases, a family of operators to a file.

mod arithmetic;
mod conv;
mod curves;
mod einsum;
mod elementwise;
mod fused;
mod grid;
mod image;
mod layouts;
mod linear;
mod loss;
mod moves;
mod normal;
mod norms;
mod places;
mod pool;
mod quantise;
mod rearrange;
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
        einsum::cases(),
        elementwise::cases(),
        linear::cases(),
        conv::cases(),
        curves::cases(),
        places::cases(),
        pool::cases(),
        quantise::cases(),
        rearrange::cases(),
        normal::cases(),
        norms::cases(),
        reduce::cases(),
        moves::cases(),
        select::cases(),
        layouts::cases(),
        image::cases(),
        grid::cases(),
        loss::cases(),
        resize::cases(),
        rewritten::cases(),
        fused::cases(),
        transposed::cases(),
    ]
    .concat()
}

const POSITIVE: Sampler = Sampler::Uniform(0.5, 2.0);
const ALL_BANDS: &[i64] = &[13, 17, 18, 20, 21];
