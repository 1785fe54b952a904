//! sandbox.

pub mod beneath;
pub mod outputs;
pub mod workspace;
