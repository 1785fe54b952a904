//! What the tests share: the real engine and a real registry.

pub mod aegis;
pub mod engine;
pub mod registry;
pub mod rewriter;
