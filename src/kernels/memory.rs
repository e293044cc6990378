//! Memory of vectors.

use aligned_vec::{AVec, ConstAlign};
use std::ops::{Deref, DerefMut};

/// Numbers that begin where a line of the cache does, so that no vector of them lies in two lines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory(AVec<f32, ConstAlign<64>>);

impl Memory {
    pub fn zeros(count: usize) -> Memory {
        let mut memory = Memory::default();
        memory.resize(count);
        memory
    }

    /// Makes it so long, by zeros where it was shorter.
    pub fn resize(&mut self, count: usize) {
        self.0.resize(count, 0.0);
    }

    /// Numbers that there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory(AVec::new(0))
    }
}

impl Deref for Memory {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
