//! Aegis runs work that nobody should have to trust.
//!
//! A task walks one way: intake, policy, sandbox, outcome, record. The modules stand in that order, lower floors
//! first; a module names lower floors only (`tests/it/house.rs` holds this). `ARCHITECTURE.md` has the map.

// Floor 0: words.
pub mod task;

// Floor 1: judgement, pure.
pub mod intake;
pub mod policy;

// Floor 2: ports.
pub mod access;
pub mod container;
pub mod queue;
pub mod record;

// Floor 3: machinery.
pub mod confine;
pub mod doctor;
pub mod executor;
pub mod fault;
pub mod gateway;
pub mod redact;
pub mod report;
pub mod sandbox;

// Floor 4: adapters.
pub mod api;
pub mod broker;
pub mod docker;
pub mod store;

// Floor 5: settings.
pub mod config;

// Floor 6: wiring.
pub mod app;

// Floor 7: commands.
pub mod cli;
