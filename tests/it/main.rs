//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ar;
mod engines;
mod flood;
mod house;
mod images;
mod input;
mod kill;
mod ks;
mod probe;
mod rb;
mod recipes;
mod run;
mod running;
mod sc;
mod scans;
mod support;
mod weakened;
