//! Floor 1: what a task may do. Policies are data; two of them meet in the stricter one; nothing is made without
//! [`Admitted`], which only [`admit`] gives.

pub mod rules;

pub use rules::{
    Egress, Filesystem, Images, Network, Outputs, Policy, Process, Pull, Resources, WorkspaceMedium,
};
