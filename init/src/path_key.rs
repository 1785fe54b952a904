//! Paths as numbers: a whole tree is told in eight bytes an entry. Whoever does not know the key finds no two paths with
//! one number.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A key that only the two sides know.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathKey(pub [u8; 16]);

impl PathKey {
    /// The number of a path.
    pub fn hash(&self, path: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(path);
        hasher.finish()
    }
}

impl std::fmt::Debug for PathKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PathKey(…)")
    }
}
