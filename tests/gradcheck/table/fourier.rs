//! Fourier transforms.

use super::*;

const TRACT: &str = "it asks for another form of the operator";

fn dft(what: &str, nodes: &str, x: &[usize]) -> Case {
    case("DFT", what, nodes).act("x", x)
}

fn stft(what: &str, nodes: &str) -> Case {
    case("STFT", what, nodes).act("x", &[12, 1]).ints_shaped("step", &[3], &[]).ints_shaped("length", &[5], &[])
}

pub fn cases() -> Vec<Case> {
    vec![
        dft("real", "y = DFT<axis=1>(x)", &[6, 1]).opsets(&[17, 19]),
        dft("real, one side", "y = DFT<axis=1,onesided=1>(x)", &[7, 1]),
        dft("complex", "y = DFT<axis=2>(x)", &[3, 5, 2]),
        dft("the inverse", "y = DFT<axis=1,inverse=1>(x)", &[5, 2]),
        dft("before the last axes", "y = DFT<axis=1>(x)", &[4, 3, 2]),
        dft("lengthened", "y = DFT<axis=1>(x, n)", &[5, 1]).ints_shaped("n", &[8], &[]).not_in_tract(TRACT),
        dft("shortened", "y = DFT<axis=1,onesided=1>(x, n)", &[6, 1]).ints_shaped("n", &[4], &[]).not_in_tract(TRACT),
        dft("the axis an operand", "y = DFT(x, , axis)", &[4, 3, 2]).ints_shaped("axis", &[1], &[]).opsets(&[20, 21]),
        dft("the last axis but one", "y = DFT<onesided=1>(x)", &[2, 6, 1]).opsets(&[20]).not_in_tract(TRACT),
        stft("a window", "y = STFT(x, step, w, length)").weight("w", &[5]),
        stft("no window, both sides", "y = STFT<onesided=0>(x, step, , length)"),
    ]
}
