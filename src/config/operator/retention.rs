//! What the operator says about how long things are kept.

pub mod document;
