//! Counts what the present thread has allocated, so that a parser cannot be made to take more than it says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator with a count. A program that wants [`at_most`] to count has it as its global allocator.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

fn count(change: isize) {
    // a thread that is ending has no count any more
    let _ = LIVE.try_with(|live| {
        let now = live.get().wrapping_add(change);
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // while it is copied, both are there
        count(size.cast_signed());
        // SAFETY: the caller keeps the rules of `realloc`.
        let moved = unsafe { System.realloc(place, layout, size) };
        count(-layout.size().cast_signed());
        moved
    }
}

/// Runs `work` and panics when it had more than `bytes` allocated at any moment, in addition to what was there before.
pub fn at_most<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let done = work();
    let taken = PEAK.get().wrapping_sub(before);
    assert!(
        taken <= bytes.cast_signed(),
        "{taken} bytes were allocated, {bytes} are permitted"
    );
    done
}
