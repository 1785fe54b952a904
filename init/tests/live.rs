//! The real binary as PID 1 in namespaces of its own, with the test as its host. Needs root; no engine.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "live/host.rs"]
mod host;

#[path = "live/commands.rs"]
mod commands;
#[path = "live/compare.rs"]
mod compare;
#[path = "live/content.rs"]
mod content;
#[path = "live/evidence.rs"]
mod evidence;
#[path = "live/hostility.rs"]
mod hostility;
#[path = "live/loopback.rs"]
mod loopback;
#[path = "live/waiting.rs"]
mod waiting;
