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
mod ground;
mod latency;
mod logging;
mod maxmemory;
mod net;
mod os;
mod persist;
mod repl;
mod server;
mod shutdown;
mod slowlog;
mod snapshot;
mod stand_in;
mod start;
mod supervised;
mod version;

mod memory;
mod migrate;

fn main() -> std::process::ExitCode {
    start::main()
}
