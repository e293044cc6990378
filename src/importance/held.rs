//! Memory that a thread keeps for the next panels.

use std::cell::RefCell;

/// Elements of memory that is held for the next panels, at most.
const HELD: usize = 1 << 21;

thread_local! {
    /// Memory that panels and their sums lay in and the next ones will: new pages for each would take a good part of the time.
    static USED: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// So many zeros, in memory of [`put_back`] where there is some.
pub(super) fn zeros(count: usize) -> Vec<f32> {
    let mut memory = USED.with_borrow_mut(|used| used.pop()).unwrap_or_default();
    memory.clear();
    memory.resize(count, 0.0);
    memory
}

pub(super) fn put_back(memory: Vec<f32>) {
    if memory.capacity() <= HELD {
        USED.with_borrow_mut(|used| used.push(memory));
    }
}
