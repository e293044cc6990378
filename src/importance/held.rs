//! Memory that a thread keeps for the next panels.

use crate::kernels::memory::Memory;
use std::cell::RefCell;

/// Elements of memory that is held for the next panels, at most.
const HELD: usize = 1 << 21;

thread_local! {
    /// Memory that panels and their sums lay in and the next ones will: new pages for each would take a good part of the time.
    static USED: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// So many zeros, in memory of [`put_back`] where there is some.
pub(super) fn zeros(count: usize) -> Memory {
    let mut memory = USED.with_borrow_mut(|used| used.pop()).unwrap_or_default();
    let used = memory.len().min(count);
    memory[..used].fill(0.0);
    memory.resize(count);
    memory
}

pub(super) fn put_back(memory: Memory) {
    if memory.capacity() <= HELD {
        USED.with_borrow_mut(|used| used.push(memory));
    }
}
