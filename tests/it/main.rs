//! The tests that need the real things: one program, one module per subject.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod ap;
mod ar;
mod book;
mod changes;
mod cr;
mod demo;
mod disk;
mod doctor;
mod dv;
mod engines;
mod exec;
mod flood;
mod fs;
mod fuzz;
mod gc;
mod house;
mod images;
mod init_wall;
mod input;
mod kill;
mod ks;
mod nw;
mod pl;
mod po;
mod probe;
mod project;
mod ps;
mod rb;
mod readme;
mod recipes;
mod recommendations;
mod records;
mod reference;
mod rules;
mod run;
mod sc;
mod scans;
mod summary;
mod support;
mod terminal;
mod watched;
mod weakened;
mod withheld;
mod workspace;
