//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod exec;
mod images;
mod kill;
mod recipes;
mod recommendations;
mod records;
mod run;
mod scans;
mod summary;
mod support;
mod terminal;
mod weakened;
