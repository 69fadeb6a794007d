//! The Sluice server: a thin binary around the engine, its persistence and its transports.

mod admin;
mod aof;
mod args;
mod check_aof;
mod check_rdb;
mod client;
mod commands;
mod config;
mod crash;
mod cron;
mod dump;
mod expiry;
mod latency;
mod logging;
mod maxmemory;
mod net;
mod os;
mod persist;
mod repl;
mod shutdown;
mod slowlog;
mod snapshot;
mod stand_in;
mod start;
mod state;
mod supervised;

mod memory;
mod migrate;

/// The Redis whose behaviour Sluice follows, as INFO and HELLO report it.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

fn main() -> std::process::ExitCode {
    start::main()
}
