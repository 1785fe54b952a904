//! Floor 4: the one process of a server that holds the engine's socket. It makes containers of the one shape and does the
//! few verbs that a server needs, for the containers of one instance; whoever has taken the server has that and no more.
//!
//! The way through: `client` is the engine as the server sees it, `link` starts or reaches the process, `wire` is what the
//! two say, `server` answers, after `rules` and `places` have looked at what is asked. `shape` is what a request leaves out.

pub mod client;
pub mod confine;
pub mod frame;
pub mod link;
pub mod places;
pub mod process;
pub mod rules;
pub mod server;
pub mod shape;
pub mod wire;

pub use client::BrokeredEngine;
