//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod images;
mod kill;
mod ks;
mod probe;
mod recipes;
mod run;
mod running;
mod scans;
mod support;
mod weakened;
