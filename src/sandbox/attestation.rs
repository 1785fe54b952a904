//! The proof of a sandbox: what the kernel shows is compared with what was asked for. Pure, but for `outside`, which
//! reads the host's `/proc`.

mod difference;

pub use difference::Difference;
