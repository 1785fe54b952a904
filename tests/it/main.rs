//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ar;
mod engines;
mod flood;
mod house;
mod dv;
mod fs;
mod images;
mod init_wall;
mod input;
mod kill;
mod ks;
mod nw;
mod pl;
mod probe;
mod rb;
mod ps;
mod recipes;
mod run;
mod running;
mod sc;
mod scans;
mod support;
mod watched;
mod weakened;
