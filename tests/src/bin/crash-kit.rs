//! Kills servers at random moments under load, and checks what they recover. See [`sluice_tests::crash`].

use clap::Parser;
use sluice_tests::crash::{MODES, Mode, Plan, mode, run, table};
use std::process::ExitCode;

/// Kills servers at random moments under load (kill -9) and checks that nothing promised is lost and nothing is
/// half-applied. Prints a table; ends with status 1 on any failure.
#[derive(Parser)]
struct Options {
    /// Kills in all, spread over the modes.
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Source of units and schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The modes to run, by name or the beginning of a name; all if none is given.
    #[arg(long)]
    mode: Vec<String>,
    /// Connections that write.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// The first of two ports to use; free ones if not given.
    #[arg(long)]
    port: Option<u16>,
    /// Prints the modes and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for mode in MODES {
            println!("{:<20} {:<20} {}", mode.name, mode.promise.name(), mode.options);
        }
        return ExitCode::SUCCESS;
    }
    let mut modes: Vec<&Mode> = Vec::new();
    for name in &options.mode {
        let exact = mode::find(name).into_iter();
        let found: Vec<_> = match exact.len() {
            0 => MODES.iter().filter(|mode| mode.name.starts_with(name.as_str())).collect(),
            _ => exact.collect(),
        };
        if found.is_empty() {
            eprintln!("no mode is named {name}; --list shows them");
            return ExitCode::FAILURE;
        }
        modes.extend(found);
    }
    if options.mode.is_empty() {
        modes.extend(MODES);
    }
    let mut rows = Vec::new();
    let mut left = options.kills;
    for (n, mode) in modes.iter().enumerate() {
        let kills = left.div_ceil((modes.len() - n) as u32);
        left -= kills;
        let plan = Plan { kills, seed: options.seed, writers: options.writers, port: options.port };
        let tally = run(mode, &plan);
        eprintln!("{}: {} kills in {:.1} s", mode.name, tally.kills, tally.elapsed.as_secs_f64());
        rows.push((*mode, tally));
    }
    println!("seed {}, {} writers", options.seed, options.writers);
    print!("{}", table(&rows));
    let mut failed = false;
    for (mode, tally) in &rows {
        for failure in &tally.failures {
            failed = true;
            println!("{} (--seed {} --mode {}): {failure}", mode.name, options.seed, mode.name);
        }
        for folder in &tally.kept {
            println!("{}: what was left is in {}", mode.name, folder.display());
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
