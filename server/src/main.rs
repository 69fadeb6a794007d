//! The Sluice server.

// Wired in as the session loop lands.
#![allow(dead_code, unused_imports)]

mod args;
mod config;
mod logging;
mod os;

/// The Redis whose behaviour Sluice follows, as INFO and HELLO report it.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

fn main() {}
