//! `sluice-bench stalls`: what the heavy work of one client costs the others.
//!
//! One client does it (see [`crate::heavy`]) while a paced probe of another reads one small key. Each case has a server of its
//! own, and servers take turns.

use crate::cli::StallsArgs;
use crate::error::{Error, Result};
use crate::heavy::{Scale, WORKS, Work};
use crate::latency::Percentiles;
use crate::probe::Probe;
use crate::process::{Launch, Server};
use crate::progress::Progress;
use crate::servers::{self, Program};
use crate::stall::Stalls;
use crate::table::{Columns, P50, P99, Table, WORST, number, optional};
use crate::{report, resp, scratch};
use serde::Serialize;
use std::time::Duration;

/// The probe runs this long before the work begins, and behind it: what is done in the background costs others as well.
const AROUND: Duration = Duration::from_millis(300);

/// A row of the table.
#[derive(Clone, Debug, Default, Serialize)]
struct StallRow {
    work: &'static str,
    about: &'static str,
    server: String,
    seconds: Option<f64>,
    probe: Option<Percentiles>,
    machine_ms: Option<f64>,
    error: Option<String>,
}

/// Runs it. `Ok(false)` when a case failed; its row says why.
pub(crate) fn run(args: &StallsArgs) -> Result<bool> {
    let mut programs = vec![Program::sluice(args.bin.as_deref())?];
    for peer in &args.peer {
        programs.push(Program::named(peer, "--peer")?);
    }
    let works: Vec<&Work> = match args.work.as_slice() {
        [] => WORKS.iter().collect(),
        names => names
            .iter()
            .map(|name| {
                Work::named(name).ok_or_else(|| {
                    let known: Vec<_> = WORKS.iter().map(|work| work.name).collect();
                    Error::Usage(format!("there is no work '{name}'; --work takes {}", known.join(", ")))
                })
            })
            .collect::<Result<_>>()?,
    };
    let rounds = usize::from(args.rounds);
    let mut progress = Progress::new(works.len() * programs.len() * rounds);
    let mut rows: Vec<StallRow> = Vec::new();
    for work in works {
        let mut runs: Vec<Vec<StallRow>> = vec![Vec::new(); programs.len()];
        for _ in 0..rounds {
            for (program, runs) in programs.iter().zip(&mut runs) {
                runs.push(case(args, program, work, &mut progress));
            }
        }
        rows.extend(runs.into_iter().filter_map(median));
    }
    progress.finish();
    println!(
        "\nA GET of another client, {} a second, while one client works\n{}",
        args.probe_hz,
        table(&rows).text()
    );
    let mut fine = true;
    for row in &rows {
        if let Some(error) = &row.error {
            println!("{} {}: {error}", row.server, row.work);
            fine = false;
        }
    }
    report::write_json(args.json.as_deref(), &rows)?;
    Ok(fine)
}

/// The run of the median worst latency; one that failed where there is one.
fn median(mut runs: Vec<StallRow>) -> Option<StallRow> {
    if let Some(failed) = runs.iter().position(|row| row.error.is_some()) {
        return Some(runs.swap_remove(failed));
    }
    let worst = |row: &StallRow| row.probe.map_or(0.0, |probe| probe.worst_ms);
    runs.sort_by(|a, b| worst(a).total_cmp(&worst(b)));
    let middle = runs.len().checked_sub(1)? / 2;
    Some(runs.swap_remove(middle))
}

fn case(args: &StallsArgs, program: &Program, work: &Work, progress: &mut Progress) -> StallRow {
    progress.begin(format!("{} {}", program.name, work.about));
    let mut row =
        StallRow { work: work.name, about: work.about, server: program.name.clone(), ..StallRow::default() };
    row.error = measure(args, program, work, progress, &mut row).err().map(|e| e.to_string());
    progress.end(&match &row.error {
        Some(error) => format!("failed: {error}"),
        None => format!(
            "{:.3} s, worst GET {:.1} ms",
            row.seconds.unwrap_or_default(),
            row.probe.map_or(0.0, |p| p.worst_ms)
        ),
    });
    row
}

fn measure(
    args: &StallsArgs,
    program: &Program,
    work: &Work,
    progress: &Progress,
    row: &mut StallRow,
) -> Result<()> {
    let mut options = servers::words("enable-debug-command yes");
    options.extend(args.server_arg.iter().flat_map(|option| servers::words(option)));
    let folder = scratch::on_disk();
    let server =
        Server::start(&Launch { program: &program.path, options: &options, parent: &folder, rdb: None })?;
    let mut client = server.client()?;
    client.command(&[b"SET", b"probed", b"x"])?;
    progress.stage("preparing");
    let scale = Scale::new(args.scale);
    work.prepare(&mut client, &scale)?;
    let get = Box::new(|out: &mut Vec<u8>| resp::push(out, &[b"GET", b"probed"]));
    let probe = Probe::start(server.client()?, get, args.probe_hz)?;
    let stalls = Stalls::start(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    std::thread::sleep(AROUND);
    progress.stage("working");
    let ran = work.run(&mut client, &scale);
    std::thread::sleep(AROUND);
    let end = std::time::Instant::now();
    let probed = probe.finish(end)?;
    let stalled = stalls.finish();
    let (from, to) = ran?;
    row.seconds = Some((to - from).as_secs_f64());
    row.probe = probed.between(from, end);
    row.machine_ms = stalled.map(|stalled| stalled.worst_between(from, end));
    Ok(())
}

fn table(rows: &[StallRow]) -> Table {
    Columns::new()
        .left("work", |row: &StallRow| row.about.into())
        .left("server", |row| row.server.clone())
        .right("work s", |row| row.seconds.map_or_else(|| "failed".into(), |s| number(s, 4)))
        .latency(&[P50, P99, WORST], |row| row.probe.as_ref())
        .right("machine ms", |row| optional(row.machine_ms, 2))
        .table(rows, |row| row.work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(worst_ms: f64) -> StallRow {
        StallRow { probe: Some(Percentiles { worst_ms, ..Percentiles::default() }), ..StallRow::default() }
    }

    #[test]
    fn the_run_in_the_middle_is_shown_and_a_failure_is_not_hidden_by_it() {
        let middle = median(vec![row(9.0), row(1.0), row(4.0)]).unwrap();
        assert_eq!(middle.probe.unwrap().worst_ms, 4.0);
        let failed = StallRow { error: Some("gone".into()), ..row(0.0) };
        assert!(median(vec![row(1.0), failed, row(2.0)]).unwrap().error.is_some());
        assert!(median(vec![]).is_none());
    }

    #[test]
    fn works_have_names_of_their_own() {
        for work in WORKS {
            assert!(std::ptr::eq(Work::named(work.name).unwrap(), work), "{} stands twice", work.name);
        }
    }
}
