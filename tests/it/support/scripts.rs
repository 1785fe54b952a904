//! Scripts for the shell of the base image whose end depends on nothing but the sandbox.

/// Starts `count` children that wait for ever, and ends with status 3 when the kernel refused some of the forks, or
/// with 0. A shell would try a fork again after a while, and end otherwise if one of its
/// children ended then.
pub fn children(count: u32) -> String {
    format!(
        "exec python3 -c '
import os, signal
refused = 0
for _ in range({count}):
    try:
        if os.fork() == 0:
            signal.pause()
    except BlockingIOError:
        refused += 1
os._exit(3 if refused else 0)'"
    )
}
