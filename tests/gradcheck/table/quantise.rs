//! Quantisation. Levels are so close that differences over many of them show the straight-through gradient.

use super::*;

const LEVEL: f64 = 1.0 / 32768.0;
const INSIDE: Sampler = Sampler::Uniform(-0.8, 0.8);
const TRACT: &str = "it does not know 16-bit levels";

/// Levels from -1 to 1.
fn through(op: &'static str, what: &str, nodes: &str) -> Case {
    case(op, what, nodes).number("s", LEVEL).opsets(&[21]).single(NO_F64).not_in_tract(TRACT)
}

pub fn cases() -> Vec<Case> {
    let scales = Sampler::Uniform(LEVEL, 2.0 * LEVEL);
    vec![
        through("QuantizeLinear", "an activation", "q = QuantizeLinear<output_dtype=5>(x, s); y = DequantizeLinear(q, s)")
            .act_in(INSIDE, "x", &[2, 3]),
        through(
            "QuantizeLinear",
            "saturated",
            "q = QuantizeLinear<output_dtype=5>(x, s); y = DequantizeLinear(q, s)",
        )
        .act_in(Sampler::Off(&[-1.0, 1.0]), "x", &[12]),
        through(
            "QuantizeLinear",
            "a zero point",
            "z = Cast<to=5>(k); q = QuantizeLinear(x, s, z); d = DequantizeLinear(q, s, z); y = Mul(d, x)",
        )
        .act_in(INSIDE, "x", &[2, 3])
        .ints_shaped("k", &[4000], &[]),
        through(
            "DequantizeLinear",
            "moved between",
            "q = QuantizeLinear<output_dtype=5>(x, s); t = Transpose<perm=[0,2,1]>(q); f = Reshape(t, r); i = Identity(f); y = DequantizeLinear(i, s)",
        )
        .act_in(INSIDE, "x", &[2, 3])
        .ints("r", &[0, -1]),
        through(
            "DequantizeLinear",
            "a weight",
            "q = QuantizeLinear<output_dtype=5>(w, s); d = DequantizeLinear(q, s); y = MatMul(x, d)",
        )
        .act("x", &[4])
        .weight_in(INSIDE, "w", &[4, 3]),
        through(
            "DequantizeLinear",
            "a weight behind Transpose",
            "t = Transpose(w); q = QuantizeLinear<output_dtype=5>(t, s); d = DequantizeLinear(q, s); y = MatMul(x, d)",
        )
        .act("x", &[4])
        .weight_in(INSIDE, "w", &[3, 4]),
        through(
            "DequantizeLinear",
            "a saturated weight",
            "q = QuantizeLinear<output_dtype=5>(w, s); d = DequantizeLinear(q, s); y = MatMul(x, d)",
        )
        .act("x", &[4])
        .weight_in(Sampler::Off(&[-1.0, 1.0]), "w", &[4, 3]),
        case(
            "DequantizeLinear",
            "a scale for each channel",
            "q = QuantizeLinear<output_dtype=5>(x, s); d = DequantizeLinear(q, s); y = Mul(d, d)",
        )
        .act_in(INSIDE, "x", &[3, 2])
        .constant(scales, "s", &[3])
        .opsets(&[21])
        .single(NO_F64)
        .not_in_tract(TRACT),
        case(
            "DequantizeLinear",
            "a weight with a scale for each column",
            "q = QuantizeLinear<axis=-1,output_dtype=5>(w, s); d = DequantizeLinear<axis=-1>(q, s); y = MatMul(x, d)",
        )
        .act("x", &[4])
        .weight_in(INSIDE, "w", &[4, 3])
        .constant(scales, "s", &[3])
        .opsets(&[21])
        .single(NO_F64)
        .not_in_tract(TRACT),
        case(
            "DequantizeLinear",
            "a scale for each block",
            "q = QuantizeLinear<axis=1,block_size=2,output_dtype=5>(x, s); d = DequantizeLinear<axis=1,block_size=2>(q, s); y = Mul(d, d)",
        )
        .act_in(INSIDE, "x", &[4])
        .prepend("o = Shape(x); n = Gather(o, zero); m = Concat<axis=0>(n, two); s = Expand(c, m)")
        .ints("zero", &[0])
        .ints("two", &[2])
        .constant(scales, "c", &[1, 2])
        .opsets(&[21])
        .single(NO_F64)
        .not_in_tract(TRACT),
    ]
}
