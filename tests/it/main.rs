//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod fs;
mod images;
mod kill;
mod ks;
mod pl;
mod probe;
mod recipes;
mod run;
mod scans;
mod support;
mod watched;
mod weakened;
