//! What the benches share. Each is a plain program that measures pairs in one run: A, B, A, B; only ratios are judged,
//! because two numbers of one machine at one time can be compared and two of different times cannot.

pub mod by_hand;
pub mod instance;
pub mod load;
pub mod pairs;
pub mod server;
pub mod table;
