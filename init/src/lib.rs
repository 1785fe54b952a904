//! The words that the host and `aegis-init` share: messages, bounds, framing.
//!
//! Nothing here but `descriptors` does I/O. The bytes come from the other side of a trust boundary, so every bound is
//! checked before anything is decoded.

pub mod descriptors;
pub mod frame;
pub mod path_key;
pub mod wire;
