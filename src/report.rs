//! Floor 3: text and JSON about runs.

pub mod amount;
pub mod changed;
pub mod diff;
pub mod egress;
pub mod json;
pub mod policy;
pub mod result;
pub mod suggest;
pub mod summary;
mod table;
pub mod told;
pub mod why;
pub mod workspace;
