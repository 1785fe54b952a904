//! What the tests share: the real engine and a real registry.

pub mod engine;
pub mod registry;
