//! intake.

pub mod project;
