//! What the tests share: the real engine and a real registry.

pub mod aegis;
pub mod broker;
pub mod cluster;
pub mod engine;
pub mod hosts;
pub mod live;
pub mod netns;
pub mod packages;
pub mod processes;
pub mod random;
pub mod registry;
pub mod rewriter;
pub mod scripts;
pub mod second_engine;
pub mod server;
pub mod serving;
pub mod terminal;
