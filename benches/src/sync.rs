//! `sluice-bench sync`: plans the cases, runs them, reports.

use crate::account::Account;
use crate::case::Bench;
use crate::cli::SyncArgs;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::json::{Report, Setting};
use crate::plan;
use crate::progress::Progress;
use crate::row::{self, Row};
use crate::{html, report, scratch, servers, table};
use std::path::Path;
use std::time::{Duration, Instant};

const PROBE_HZ: u64 = 1_000;
const PROBE_HZ_WRITING: u64 = 2_000;
const WRITE_HZ: u64 = 10_000;

/// Runs it. `Ok(false)` when a case failed; its row says why.
pub(crate) fn run(args: &SyncArgs) -> Result<bool> {
    let plan = plan::plan(args)?;
    let bench = bench(args)?;
    check_folders(args, &bench)?;
    let setting = setting(&bench, plan.notes);
    eprintln!("{}", setting.heading());

    let mut progress = Progress::new(plan.cases.len());
    let begun = Instant::now();
    let mut rows = Vec::new();
    for case in &plan.cases {
        progress.begin(case.describe());
        let row = bench.run(case, &progress);
        progress.end(&row.summary());
        rows.push(row);
    }
    progress.finish();

    let shown = row::medians(&rows);
    println!("{}", table::table(&shown).text());
    remarks(&setting, &shown).iter().for_each(|remark| println!("{remark}"));
    println!("{} cases in {:.0} s", plan.cases.len(), begun.elapsed().as_secs_f64());
    let report = Report { setting, shown, rows };
    report::write_json(args.json.as_deref(), &report)?;
    if let Some(path) = &args.html {
        report::write(path, &html::page(&report))?;
    }
    Ok(report.rows.iter().all(|row| row.error.is_none()))
}

fn bench(args: &SyncArgs) -> Result<Bench> {
    let rdb = match &args.rdb {
        Some(path) if !path.is_file() => {
            return Err(Error::Usage(format!("--rdb: {} is no file", path.display())));
        }
        rdb => rdb.clone(),
    };
    let dataset = Dataset::new(args.dataset, args.keys, args.size.map(|n| n as usize), rdb);
    let (probe_hz, write_hz) =
        if dataset.probe_writes() { (PROBE_HZ_WRITING, 0) } else { (PROBE_HZ, WRITE_HZ) };
    Ok(Bench {
        dataset,
        probe_hz: args.probe_hz.unwrap_or(probe_hz),
        write_hz: args.write_hz.unwrap_or(write_hz),
        timeout: Duration::from_secs(args.timeout),
        server_args: args.server_arg.iter().flat_map(|option| servers::words(option)).collect(),
        replica_args: args.replica_arg.iter().flat_map(|option| servers::words(option)).collect(),
        dir: args.dir.clone().unwrap_or_else(scratch::on_disk),
        replica_dir: args.replica_dir.clone().unwrap_or_else(scratch::in_ram),
    })
}

/// Told now, not after the first case has been loaded.
fn check_folders(args: &SyncArgs, bench: &Bench) -> Result<()> {
    for dir in [&bench.dir, &bench.replica_dir] {
        if !dir.is_dir() {
            return Err(Error::Usage(format!("{} is no folder; make it or name another", dir.display())));
        }
    }
    for path in [&args.json, &args.html].into_iter().flatten() {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            let text = format!("{}: there is no folder {}", path.display(), parent.display());
            return Err(Error::Usage(text));
        }
    }
    Ok(())
}

fn setting(bench: &Bench, mut notes: Vec<String>) -> Setting {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    if scratch::in_memory(&mounts, &bench.dir) {
        notes.push(format!(
            "{} is in memory: disk MB stays 0 whatever is written; --dir names a folder on a disk",
            bench.dir.display()
        ));
    }
    Setting {
        version: env!("CARGO_PKG_VERSION"),
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        dataset: bench.dataset.describe(),
        probe: if bench.dataset.probe_writes() { "HSET" } else { "GET" },
        probe_hz: bench.probe_hz,
        write_hz: bench.write_hz,
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        memory_method: Account::open().memory_method(),
        notes,
    }
}

/// What a reader of the table should know.
fn remarks(setting: &Setting, rows: &[Row]) -> Vec<String> {
    let mut remarks = setting.notes.clone();
    remarks.extend(row::failures(rows));
    for row in rows {
        if let Some(syncs) = row.full_syncs.filter(|&n| n > u64::from(row.replicas)) {
            remarks.push(format!("{}: {syncs} full syncs were begun, so some began again", row.name()));
        }
    }
    if rows.iter().any(|row| row.probe.is_some() && !row.probe_realtime) {
        remarks.push(
            "the probe had no real-time priority (needs root or CAP_SYS_NICE): latencies include its own waits for a processor"
                .into(),
        );
    }
    remarks
}
