//! Real clients and servers on both sides of an inspected connection, each in this process.

mod credentials;
mod harness;
mod hostile;
mod requests;
mod upgrades;
