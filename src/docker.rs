//! Floor 4: the engine, through bollard. The only module that names it.
//!
//! No exec, attach, archive or log call stands here: what happens inside a sandbox goes through `aegis-init`.

pub mod address;
pub mod create;
pub mod credentials;
pub mod describe;
pub mod engine;
pub mod failure;
mod greeting;
pub mod image_facts;
pub mod images;
pub mod recipe;
mod reference;

pub use engine::DockerEngine;
