//! `sluice-bench` measures what bringing a replica up costs: the time it takes, the memory and
//! CPU it costs the primary, the bytes it writes to the disk, and the latency clients see meanwhile
//! ([`sync`]); what persistence costs those who are served ([`persist`]); and what the heavy work of one client costs
//! the others ([`stalls`], with [`heavy`] the works).
//!
//! Everything is measured from outside, on real processes, so that a real Redis can stand in the
//! same table. The rooms: [`cli`] the command line, [`plan`] which cases to run, [`case`] one case
//! from start to row, [`dataset`] and [`traffic`] what is stored and what clients do, [`probe`] and
//! [`writer`] the paced clients, [`account`] memory, CPU and disk bytes, [`process`] and
//! [`scratch`] what must be cleaned up, and [`table`], [`json`] and [`html`] the three reports.

mod account;
mod case;
mod charts;
mod cleanup;
mod cli;
mod closed;
mod dataset;
mod disk;
mod error;
mod heavy;
mod html;
mod json;
mod latency;
mod pace;
mod persist;
mod plan;
mod probe;
mod process;
mod progress;
mod random;
mod report;
mod resp;
mod row;
mod scratch;
mod servers;
mod stall;
mod stalls;
mod sync;
mod sys;
mod table;
mod traffic;
mod watch;
mod writer;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cleanup::on_interrupt();
    let outcome = match cli.command {
        cli::Command::Sync(args) => sync::run(&args),
        cli::Command::Persist(args) => persist::run(&args),
        cli::Command::Stalls(args) => stalls::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("sluice-bench: {error}");
            ExitCode::from(2)
        }
    }
}
