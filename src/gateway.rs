//! The way out of a sandbox: what a task's connections say, who answers them, and what is added on the way.

pub mod authority;
pub mod credential;
pub mod hello;
pub mod inspect;
