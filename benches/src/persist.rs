//! `sluice-bench persist`: what persistence costs the clients.
//!
//! Three tables: writes a second under each fsync policy; what a BGSAVE and a BGREWRITEAOF cost those who are served meanwhile;
//! and how long a restart takes from the files they left. Servers take turns in each, on the same disk.

use crate::cli::PersistArgs;
use crate::closed;
use crate::dataset::{Dataset, Kind, group_digits};
use crate::disk::Device;
use crate::error::{Error, Result};
use crate::latency::Percentiles;
use crate::probe::Probe;
use crate::process::{Launch, Server};
use crate::progress::Progress;
use crate::resp::Client;
use crate::servers::{self, Program};
use crate::stall::Stalls;
use crate::table::{Columns, P50, P99, P999, Table, WORST, number, optional};
use crate::writer::Writer;
use crate::{report, scratch, watch};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After loading, before memory at rest is read: allocators give back what loading freed.
const REST: Duration = Duration::from_millis(500);
/// Probe and writer run this long before the work begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// Between two looks at whether the work is done.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A row of the first table.
#[derive(Clone, Debug, Serialize)]
struct PolicyRow {
    server: String,
    folder: String,
    policy: String,
    clients: usize,
    writes_a_second: Option<f64>,
    latency: Option<Percentiles>,
    error: Option<String>,
}

/// A row of the second.
#[derive(Clone, Debug, Default, Serialize)]
struct WorkRow {
    server: String,
    folder: String,
    work: &'static str,
    seconds: Option<f64>,
    disk_mb: Option<f64>,
    over_rest_mb: Option<f64>,
    cpu_s: Option<f64>,
    probe: Option<Percentiles>,
    machine_ms: Option<f64>,
    writes: u64,
    writes_due: u64,
    /// Seconds a restart from the file took.
    load_s: Option<f64>,
    error: Option<String>,
}

/// Both.
#[derive(Debug, Default, Serialize)]
struct Report {
    command: String,
    policies: Vec<PolicyRow>,
    work: Vec<WorkRow>,
}

/// What leaves a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Bgsave,
    Rewrite,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Bgsave => "BGSAVE",
            Work::Rewrite => "BGREWRITEAOF",
        }
    }

    /// Whether INFO says that it runs or waits to run.
    fn runs(self, client: &mut Client) -> Result<bool> {
        let info = client.info("persistence")?;
        let fields: &[&str] = match self {
            Work::Bgsave => &["rdb_bgsave_in_progress"],
            Work::Rewrite => &["aof_rewrite_in_progress", "aof_rewrite_scheduled"],
        };
        Ok(fields.iter().any(|field| info.number(field).unwrap_or(0.0) > 0.0))
    }

    /// How it went, by INFO.
    fn check(self, client: &mut Client) -> Result<()> {
        let field = match self {
            Work::Bgsave => "rdb_last_bgsave_status",
            Work::Rewrite => "aof_last_bgrewrite_status",
        };
        match client.info("persistence")?.get(field) {
            Some("ok") => Ok(()),
            other => Err(Error::Reply { command: self.name().into(), reply: format!("{field}: {other:?}") }),
        }
    }
}

struct Bench<'a> {
    args: &'a PersistArgs,
    dataset: Dataset,
    progress: Progress,
}

/// Runs it. `Ok(false)` when a case failed; its row says why.
pub(crate) fn run(args: &PersistArgs) -> Result<bool> {
    let mut programs = vec![Program::sluice(args.bin.as_deref())?];
    for peer in &args.peer {
        programs.push(Program::named(peer, "--peer")?);
    }
    let folders = if args.dir.is_empty() { vec![scratch::on_disk()] } else { args.dir.clone() };
    if let Some(dir) = folders.iter().find(|dir| !dir.is_dir()) {
        return Err(Error::Usage(format!("{} is no folder; make it or name another", dir.display())));
    }
    let works: &[Work] = if args.only_policies { &[] } else { &[Work::Bgsave, Work::Rewrite] };
    let policies: &[String] = if args.only_work { &[] } else { &args.policy };
    let cases = folders.len() * programs.len() * (policies.len() * args.clients.len() + works.len());
    let keys = Some(args.keys);
    let dataset = Dataset::new(Kind::Strings, keys, Some(args.size as usize), None);
    eprintln!("{}; {} overwrites a second during BGSAVE and BGREWRITEAOF", dataset.describe(), args.write_hz);
    let mut bench = Bench { args, dataset, progress: Progress::new(cases) };
    let mut report =
        Report { command: std::env::args().skip(1).collect::<Vec<_>>().join(" "), ..Report::default() };
    for folder in &folders {
        for policy in policies {
            for &clients in &args.clients {
                for program in &programs {
                    report.policies.push(bench.policy(program, folder, policy, clients));
                }
            }
        }
        for &work in works {
            for program in &programs {
                report.work.push(bench.work(program, folder, work));
            }
        }
    }
    bench.progress.finish();
    if !report.policies.is_empty() {
        println!(
            "\nWrites of {} bytes, by fsync policy\n{}",
            args.size,
            policy_table(&report.policies).text()
        );
    }
    if !report.work.is_empty() {
        println!("\n{}, served meanwhile\n{}", bench.dataset.describe(), work_table(&report.work).text());
    }
    let errors: Vec<_> = report
        .policies
        .iter()
        .filter_map(|r| Some(format!("{} {} {}: {}", r.server, r.policy, r.clients, r.error.as_ref()?)))
        .chain(
            report
                .work
                .iter()
                .filter_map(|r| Some(format!("{} {}: {}", r.server, r.work, r.error.as_ref()?))),
        )
        .collect();
    errors.iter().for_each(|error| println!("{error}"));
    report::write_json(args.json.as_deref(), &report)?;
    Ok(errors.is_empty())
}

impl Bench<'_> {
    fn options(&self, aof: &[&str]) -> Vec<String> {
        let mut options = servers::words("rdbcompression no");
        options.extend(servers::words("auto-aof-rewrite-percentage 0"));
        options.extend(aof.iter().flat_map(|option| servers::words(option)));
        options.extend(self.args.server_arg.iter().flat_map(|option| servers::words(option)));
        options
    }

    fn policy(&mut self, program: &Program, folder: &Path, policy: &str, clients: usize) -> PolicyRow {
        let plural = if clients == 1 { "client" } else { "clients" };
        self.progress.begin(format!(
            "{} appendfsync {policy}, {clients} {plural}, {}",
            program.name,
            folder.display()
        ));
        let measured = self.measure_policy(program, folder, policy, clients);
        let (served, error) = match measured {
            Ok(served) => (Some(served), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let writes_a_second = served.as_ref().map(closed::Served::rate);
        self.progress.end(&match (&error, writes_a_second) {
            (Some(error), _) => format!("failed: {error}"),
            (None, rate) => format!("{} writes a second", group_digits(rate.unwrap_or_default() as u64)),
        });
        PolicyRow {
            server: program.name.clone(),
            folder: folder.display().to_string(),
            policy: policy.into(),
            clients,
            writes_a_second,
            latency: served.and_then(|served| served.latency),
            error,
        }
    }

    fn measure_policy(
        &self,
        program: &Program,
        folder: &Path,
        policy: &str,
        clients: usize,
    ) -> Result<closed::Served> {
        let options = self.options(&["appendonly yes", &format!("appendfsync {policy}")]);
        let launch = Launch { program: &program.path, options: &options, parent: folder, rdb: None };
        let server = Server::start(&launch)?;
        let writer = self.dataset.traffic(&mut server.client()?)?.writer;
        closed::run(server.port(), clients, Duration::from_secs(self.args.seconds), writer)
    }

    fn work(&mut self, program: &Program, folder: &Path, work: Work) -> WorkRow {
        self.progress.begin(format!("{} {}, {}", program.name, work.name(), folder.display()));
        let mut row = WorkRow {
            server: program.name.clone(),
            folder: folder.display().to_string(),
            work: work.name(),
            ..WorkRow::default()
        };
        row.error = self.measure_work(program, folder, work, &mut row).err().map(|e| e.to_string());
        self.progress.end(&match &row.error {
            Some(error) => format!("failed: {error}"),
            None => format!(
                "{:.2} s, memory +{:.1} MB, worst {:.1} ms, loaded in {:.2} s",
                row.seconds.unwrap_or_default(),
                row.over_rest_mb.unwrap_or_default(),
                row.probe.map_or(0.0, |p| p.worst_ms),
                row.load_s.unwrap_or_default()
            ),
        });
        row
    }

    fn measure_work(&self, program: &Program, folder: &Path, work: Work, row: &mut WorkRow) -> Result<()> {
        let options = self.options(&["appendfsync everysec"]);
        let launch = Launch { program: &program.path, options: &options, parent: folder, rdb: None };
        let server = Server::start(&launch)?;
        let mut client = server.client()?;
        self.progress.stage("loading");
        self.dataset.load(&mut client)?;
        if work == Work::Rewrite {
            self.progress.stage("turning the append-only file on");
            client.command(&[b"CONFIG", b"SET", b"appendonly", b"yes"])?;
            self.until_done(work, &mut client)?;
        }
        let traffic = self.dataset.traffic(&mut client)?;
        std::thread::sleep(REST);
        let account = server.account();
        let rest = account.memory();
        let probe = Probe::start(server.client()?, traffic.probe, self.args.probe_hz)?;
        let writer = Writer::start(server.client()?, traffic.writer, self.args.write_hz);
        let stalls = Stalls::start(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        std::thread::sleep(WARM_UP);

        self.progress.stage(work.name());
        let device = Device::of(folder).ok().map(|device| (device.written(), device));
        let writes = account.writes();
        let (served, cpu) = (writer.served(), account.cpu_seconds());
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let (outcome, peak) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch::peak(account, writes, &stop));
            let outcome =
                client.command(&[work.name().as_bytes()]).and_then(|_| self.until_done(work, &mut client));
            stop.store(true, Ordering::Relaxed);
            (outcome, watching.join())
        });
        let end = Instant::now();
        row.cpu_s = Some(account.cpu_seconds() - cpu);
        row.writes = writer.served() - served;
        row.writes_due = ((end - begun).as_secs_f64() * self.args.write_hz as f64) as u64;
        let probed = probe.finish(end)?;
        let stalled = stalls.finish();
        writer.finish()?;
        outcome?;
        row.seconds = Some((end - begun).as_secs_f64());
        row.probe = probed.between(begun, end);
        row.machine_ms = stalled.map(|stalled| stalled.worst_between(begun, end));
        if let Ok(peak) = peak {
            row.over_rest_mb = Some(megabytes(peak.memory.saturating_sub(rest)));
            row.disk_mb = Some(match device {
                Some((before, device)) => megabytes(device.written().saturating_sub(before)),
                None => megabytes(peak.disk),
            });
        }
        self.progress.stage("restarting");
        let keys = client.info("keyspace")?.keyspace();
        let appendonly = if work == Work::Rewrite { "appendonly yes" } else { "appendonly no" };
        let options = self.options(&[appendonly]);
        let launch = Launch { options: &options, ..launch };
        let (server, took) = server.restart(&launch)?;
        if server.client()?.info("keyspace")?.keyspace() != keys {
            return Err(Error::Reply { command: "restart".into(), reply: "another number of keys".into() });
        }
        row.load_s = Some(took.as_secs_f64());
        Ok(())
    }

    fn until_done(&self, work: Work, client: &mut Client) -> Result<()> {
        let begun = Instant::now();
        while work.runs(client)? {
            if begun.elapsed() > Duration::from_secs(self.args.timeout) {
                let reply = format!("not done after {} s (--timeout)", self.args.timeout);
                return Err(Error::Reply { command: work.name().into(), reply });
            }
            std::thread::sleep(ASK_EVERY);
        }
        work.check(client)
    }
}

fn policy_table(rows: &[PolicyRow]) -> Table {
    Columns::new()
        .left("server", |row: &PolicyRow| row.server.clone())
        .left("folder", |row| row.folder.clone())
        .left("appendfsync", |row| row.policy.clone())
        .right("clients", |row| row.clients.to_string())
        .right("writes/s", |row| {
            row.writes_a_second.map_or_else(|| "failed".into(), |rate| group_digits(rate as u64))
        })
        .latency(&[P50, P99, WORST], |row| row.latency.as_ref())
        .table(rows, |row| (row.folder.clone(), row.policy.clone(), row.clients))
}

fn work_table(rows: &[WorkRow]) -> Table {
    Columns::new()
        .left("server", |row: &WorkRow| row.server.clone())
        .left("folder", |row| row.folder.clone())
        .left("work", |row| row.work.into())
        .right("s", |row| row.seconds.map_or_else(|| "failed".into(), |s| number(s, 2)))
        .right("disk MB", |row| optional(row.disk_mb, 1))
        .right("mem +MB", |row| optional(row.over_rest_mb, 1))
        .right("cpu s", |row| optional(row.cpu_s, 2))
        .latency(&[P50, P99, P999, WORST], |row| row.probe.as_ref())
        .right("machine ms", |row| optional(row.machine_ms, 2))
        .right("writes", |row| group_digits(row.writes))
        .right("of due", |row| group_digits(row.writes_due))
        .right("load s", |row| optional(row.load_s, 2))
        .table(rows, |row| (row.folder.clone(), row.work))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
