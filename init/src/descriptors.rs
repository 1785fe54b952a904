//! Descriptors that a process was left with by whoever started it.

use std::ffi::{c_int, c_uint};

unsafe extern "C" {
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int;
}

/// Closes every descriptor from this number on. For the first moments of a process that has opened none of them itself.
pub fn close_from(first: u32) {
    // SAFETY: the call takes three numbers and touches no memory; the caller has opened no descriptor that it would miss.
    // A kernel without the call leaves them open, as they would be without this.
    let _ = unsafe { close_range(first, c_uint::MAX, 0) };
}
