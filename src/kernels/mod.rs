//! Inner loops for whatever vectors the processor has.

pub(crate) mod convolution;
pub(crate) mod depthwise;
pub(crate) mod gelu;
pub(crate) mod images;
pub(crate) mod implicit;
pub(crate) mod memory;
pub(crate) mod moved;
pub(crate) mod normal;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod registers;
pub(crate) mod relu;
pub(crate) mod sums;
pub(crate) mod winograd;

/// Every kind of vectors that this processor has.
#[cfg(test)]
pub(crate) fn all() -> Vec<pulp::Arch> {
    let mut found = vec![pulp::Arch::Scalar, pulp::Arch::new()];
    #[cfg(target_arch = "x86_64")]
    found.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
    found
}

/// Numbers from -1 to 1, the same ones every time.
#[cfg(test)]
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
