//! The images of an operand, packed into panels wherever their channels lie in memory.

use super::panels::{of_places, of_planes};
use ndarray::ArrayViewD;

/// `[images, channels, …]`
pub(super) struct Pixels<'a> {
    elements: &'a [f32],
    channels: usize,
    /// Elements of a channel.
    places: usize,
    /// Whether the channels of a place lie side by side.
    last: bool,
}

impl<'a> Pixels<'a> {
    /// None where channels are neither before the spatial axes nor after them.
    pub fn new(mut array: ArrayViewD<'a, f32>) -> Option<Self> {
        let channels = array.shape()[1];
        let places = array.shape()[2..].iter().product();
        let last = !array.is_standard_layout();
        if last {
            (1..array.ndim() - 1).for_each(|axis| array.swap_axes(axis, axis + 1));
        }
        array.to_slice().map(|elements| Pixels { elements, channels, places, last })
    }

    /// Puts channels of an image side by side, `out[place][column]`. Lines of `length` go to where `starts` says.
    pub fn pack(
        &self,
        image: usize,
        channels: &[usize],
        length: usize,
        starts: &[usize],
        width: usize,
        out: &mut [f32],
    ) {
        let size = self.channels * self.places;
        let image = &self.elements[image * size..][..size];
        if self.last {
            return of_places(image, self.channels, channels, length, starts, width, out);
        }
        let planes: Vec<&[f32]> =
            channels.iter().map(|channel| &image[channel * self.places..][..self.places]).collect();
        of_planes(&planes, length, starts, width, out);
    }
}
