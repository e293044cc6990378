//! Which taps of a convolution see what, and its kernel by them.

use crate::kernels::memory::Memory;
use crate::kernels::product::panels;
use pulp::Arch;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub channels: usize,
    pub outputs: usize,
    /// Height and width.
    pub input: [usize; 2],
    pub output: [usize; 2],
}

/// The taps of a convolution, or of a transposed one, down and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Taps {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Above and left.
    pub pads: [isize; 2],
}

/// Results that see images through the same taps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    /// Row and column of the first result, and from one to the next.
    pub first: [usize; 2],
    pub apart: [usize; 2],
    /// Places of an image from one result to the next.
    pub step: [usize; 2],
    /// Where the taps of the first result lie; outside of the image there are zeros.
    pub taps: Vec<[isize; 2]>,
    /// `[taps, channels]` by outputs, in [`panels`].
    pub kernel: Memory,
}

/// A convolution: all results see images through all taps. Weights are told for `[output, channel, tap]`.
pub(crate) fn convolution(arch: Arch, shape: &Shape, taps: &Taps, weight: impl Fn([usize; 3]) -> f32) -> Vec<Phase> {
    let along = |axis: usize| {
        (0..taps.kernel[axis]).map(move |tap| (tap, (tap * taps.dilations[axis]) as isize - taps.pads[axis]))
    };
    let seen = [along(0).collect(), along(1).collect()];
    vec![phase(arch, shape, taps, &seen, weight, ([0; 2], [1; 2], taps.strides))]
}

/// A transposed convolution: where the taps of results fall between places of images, they see nothing. Weights are told
/// for `[output, channel, tap]`.
pub(crate) fn transposed(arch: Arch, shape: &Shape, taps: &Taps, weight: impl Fn([usize; 3]) -> f32) -> Vec<Phase> {
    // The result at r sees the place p through the tap t where r = p · stride + t · dilation - pad.
    let along = |axis: usize, first: usize| {
        let stride = taps.strides[axis] as isize;
        let reached = move |tap: usize| first as isize + taps.pads[axis] - (tap * taps.dilations[axis]) as isize;
        let taps = (0..taps.kernel[axis]).map(move |tap| (tap, reached(tap)));
        taps.filter(|(_, place)| place % stride == 0).map(|(tap, place)| (tap, place / stride)).collect()
    };
    let [down, across] = taps.strides;
    let firsts = (0..down).flat_map(|row| (0..across).map(move |column| [row, column]));
    let phase = |first: [usize; 2]| {
        phase(arch, shape, taps, &[along(0, first[0]), along(1, first[1])], &weight, (first, taps.strides, [1; 2]))
    };
    firsts.map(phase).collect()
}

/// Results that see places through some taps along both axes.
fn phase(
    arch: Arch,
    shape: &Shape,
    taps: &Taps,
    seen: &[Vec<(usize, isize)>; 2],
    weight: impl Fn([usize; 3]) -> f32,
    (first, apart, step): ([usize; 2], [usize; 2], [usize; 2]),
) -> Phase {
    let all = || seen[0].iter().flat_map(|down| seen[1].iter().map(move |across| (down, across)));
    let own: Vec<usize> = all().map(|(down, across)| down.0 * taps.kernel[1] + across.0).collect();
    let channels = shape.channels;
    let row = |row: usize| {
        let (channel, tap, weight) = (row % channels, own[row / channels], &weight);
        move |output| weight([output, channel, tap])
    };
    let kernel = panels(arch, own.len() * channels, shape.outputs, row);
    Phase { first, apart, step, taps: all().map(|(down, across)| [down.1, across.1]).collect(), kernel }
}
