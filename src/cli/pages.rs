//! Memory in huge pages, where the system has them: a model's weights, their importance and what a batch needs are
//! large and touched once, so that most of a short run would be spent on page faults.

use std::alloc::{GlobalAlloc, Layout, System};

#[global_allocator]
static MEMORY: HugePages = HugePages;

/// The system's allocator, which asks for huge pages under what is large.
struct HugePages;

/// Bytes of a huge page, and the least that an allocation must have to hold one or more.
const PAGE: usize = 2 << 20;

// SAFETY: every call goes to the system's allocator; advice changes no memory.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.realloc(memory, layout, size) }, size)
    }
}

#[cfg(target_os = "linux")]
fn advised(memory: *mut u8, size: usize) -> *mut u8 {
    let start = (memory as usize).next_multiple_of(PAGE);
    let end = (memory as usize + size) / PAGE * PAGE;
    if size >= 2 * PAGE && !memory.is_null() && end > start {
        // SAFETY: the range lies within the allocation. A system without huge pages refuses, which does no harm.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
    memory
}

#[cfg(not(target_os = "linux"))]
fn advised(memory: *mut u8, _size: usize) -> *mut u8 {
    memory
}
