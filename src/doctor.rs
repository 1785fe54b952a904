//! Whether this host and its engine hold what Aegis promises: facts are gathered by `app`, judged here, purely, and told
//! as text or JSON. What is unknown is said to be unknown; nothing here changes the host.

pub mod attack;
pub mod facts;
pub mod finding;
pub mod flaws;
pub mod json;
pub mod judge;
pub mod text;
pub mod version;

pub use facts::Facts;
pub use finding::{Area, Finding, Risk, Verdict};
pub use judge::judge;
