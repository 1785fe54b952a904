//! Floor 3: the way out of a sandbox, in a process of its own for each run that has one. What a task's connections say is
//! read here and nowhere else.
//!
//! The way through: `link` starts the process, `process` raises its walls and listens to its owner, `resolver` answers for
//! names, `connection` judges, dials and relays; where requests are read, `inspect` does. Deciding is `policy::network`'s.

pub mod address;
pub mod authority;
pub mod confine;
pub mod connection;
pub mod credential;
pub mod dial;
pub mod hello;
pub mod inspect;
pub mod link;
pub mod lookup;
pub mod names;
pub mod process;
pub mod reading;
pub mod relay;
pub mod resolver;
pub mod roots;
pub mod run;
pub mod sockets;
pub mod wire;
