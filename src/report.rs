//! Floor 3: text and JSON about runs.

pub mod policy;
