//! Images with their channels last.

/// The channels of a place of an image of this height and width, zeros outside of it; a place above or left of it wraps
/// around.
#[inline(always)]
pub(crate) fn place<'a>(
    image: &'a [f32],
    [height, width]: [usize; 2],
    [row, column]: [usize; 2],
    zeros: &'a [f32],
) -> &'a [f32] {
    let channels = zeros.len();
    match row < height && column < width {
        true => &image[(row * width + column) * channels..][..channels],
        false => zeros,
    }
}
