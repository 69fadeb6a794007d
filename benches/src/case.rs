//! One case, from an empty machine to a row: start, load, rest, attach, wait, count.

use crate::dataset::Dataset;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::plan::Case;
use crate::probe::Probe;
use crate::process::{Launch, Server};
use crate::progress::Progress;
use crate::resp::Client;
use crate::row::Row;
use crate::servers::{Family, replica_options};
use crate::stall::Stalls;
use crate::watch::{self, InSync};
use crate::writer::Writer;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// After loading, before memory at rest is read: allocators give back what loading freed.
const REST: Duration = Duration::from_millis(500);
/// Probe and writer run this long before the sync; it is also the probe's time at rest.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is the same for all cases.
pub(crate) struct Bench {
    pub(crate) dataset: Dataset,
    pub(crate) probe_hz: u64,
    pub(crate) write_hz: u64,
    pub(crate) timeout: Duration,
    pub(crate) server_args: Vec<String>,
    pub(crate) replica_args: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) replica_dir: PathBuf,
}

impl Bench {
    /// Runs a case; what goes wrong is told in the row.
    pub(crate) fn run(&self, case: &Case, progress: &Progress) -> Row {
        let mut row = Row {
            place: case.place,
            round: case.round,
            server: case.primary.name.clone(),
            transport: case.mode.name.into(),
            disk: case.disk.label(),
            replicas: case.replicas,
            replica: case.replica.name.clone(),
            ..Row::default()
        };
        if let Err(error) = self.measure(case, progress, &mut row) {
            row.error = Some(error.to_string());
        }
        row
    }

    fn measure(&self, case: &Case, progress: &Progress, row: &mut Row) -> Result<()> {
        progress.stage("starting and loading");
        let primary = self.start_primary(case)?;
        let mut client = primary.client()?;
        self.dataset.load(&mut client)?;
        let traffic = self.dataset.traffic(&mut client)?;
        std::thread::sleep(REST);
        let account = primary.account();
        let rest = account.memory();
        row.rest_mb = megabytes(rest);

        progress.stage("warming up");
        let replicas = self.start_replicas(case)?;
        let full_syncs_before = client.info("stats")?.number("sync_full");
        let probe = Probe::start(primary.client()?, traffic.probe, self.probe_hz)?;
        let writer = match self.write_hz {
            0 => None,
            rate => Some(Writer::start(primary.client()?, traffic.writer, rate)),
        };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let stalls = Stalls::start(processors);
        let warm = Instant::now();
        std::thread::sleep(WARM_UP);
        let device = match &case.disk {
            Disk::Real(device) => Some((device, device.written())),
            Disk::Scratch(_) => None,
        };

        progress.stage("in sync");
        let stop = AtomicBool::new(false);
        let writes = account.writes();
        let served = || writer.as_ref().map_or(0, Writer::served);
        let (served_before, cpu_before) = (served(), account.cpu_seconds());
        let wall = SystemTime::now();
        let begun = Instant::now();
        let (synced, peak) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch::peak(account, writes, &stop));
            let synced = attach_and_wait(&primary, &replicas, begun + self.timeout);
            row.cpu_s = Some(account.cpu_seconds() - cpu_before);
            row.writes = served() - served_before;
            stop.store(true, Ordering::Relaxed);
            (synced, watching.join())
        });
        let probed = probe.finish(Instant::now());
        let written = writer.map_or(Ok(()), Writer::finish);
        let stalled = stalls.finish();

        let synced = synced?;
        let end = synced.iter().map(|s| s.at).max().unwrap_or(begun);
        row.sync_s = Some((end - begun).as_secs_f64());
        row.writes_due = ((end - begun).as_secs_f64() * self.write_hz as f64) as u64;
        if let Ok(peak) = peak {
            row.over_rest_mb = Some(megabytes(peak.memory.saturating_sub(rest)));
            row.disk_mb = Some(match device {
                Some((device, before)) => megabytes(device.written().saturating_sub(before)),
                None => megabytes(peak.disk),
            });
        }
        let probed = probed?;
        row.probe = probed.between(begun, end);
        row.probe_at_rest = probed.between(warm, begun);
        row.probe_realtime = probed.realtime;
        row.machine_ms = stalled.map(|stalled| stalled.worst_between(begun, end));
        if self.dataset.probe_writes() {
            let served = row.probe.map_or(0, |probe| probe.samples as u64);
            row.writes += served;
            row.writes_due += ((end - begun).as_secs_f64() * self.probe_hz as f64) as u64;
        }
        written?;

        let stats = client.info("stats")?;
        row.full_syncs =
            stats.number("sync_full").map(|n| (n - full_syncs_before.unwrap_or(0.0)).max(0.0) as u64);
        row.first_byte_ms = match case.primary.family {
            Family::Sluice => sync_info(&mut client, row)?,
            Family::Redis => None,
        };
        if row.first_byte_ms.is_none() {
            row.first_byte_ms =
                replicas.iter().filter_map(|r| first_byte_logged(&r.log(), wall)).min_by(f64::total_cmp);
        }
        if synced.iter().any(|s| !s.same_keys) {
            row.error = Some("a replica in sync has another number of keys than its primary".into());
        }
        Ok(())
    }

    fn start_primary(&self, case: &Case) -> Result<Server> {
        let mut options = case.mode.options.clone();
        options.extend(case.primary.throttle(&case.disk));
        options.extend(self.server_args.iter().cloned());
        let parent = match &case.disk {
            Disk::Real(device) => &device.dir,
            Disk::Scratch(_) => &self.dir,
        };
        let rdb = self.dataset.rdb.as_deref();
        Server::start(&Launch { program: &case.primary.path, options: &options, parent, rdb })
    }

    fn start_replicas(&self, case: &Case) -> Result<Vec<Server>> {
        let mut options = replica_options();
        options.extend(self.replica_args.iter().cloned());
        let parent = &self.replica_dir;
        (0..case.replicas)
            .map(|_| {
                Server::start(&Launch { program: &case.replica.path, options: &options, parent, rdb: None })
            })
            .collect()
    }
}

/// Attaches all replicas at once and waits for each.
fn attach_and_wait(primary: &Server, replicas: &[Server], deadline: Instant) -> Result<Vec<InSync>> {
    let begun = Instant::now();
    let port = primary.port().to_string();
    for replica in replicas {
        replica.client()?.command(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()])?;
    }
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let waits: Vec<_> = replicas
            .iter()
            .map(|replica| scope.spawn(|| watch::in_sync(primary, replica, deadline)))
            .collect();
        waits.into_iter().filter_map(|wait| wait.join().ok()).collect::<Result<Vec<_>>>()
    })?;
    let synced: Vec<_> = outcomes.into_iter().flatten().collect();
    if synced.len() < replicas.len() {
        let seconds = deadline.saturating_duration_since(begun).as_secs_f64().round() as u64;
        return Err(Error::Timeout {
            waiting: replicas.len() - synced.len(),
            replicas: replicas.len(),
            seconds,
        });
    }
    Ok(synced)
}

/// Keeps the primary's INFO sync in the row; returns its time to the first byte in ms.
fn sync_info(client: &mut Client, row: &mut Row) -> Result<Option<f64>> {
    let info = client.info("sync")?;
    let fields: std::collections::BTreeMap<_, _> =
        info.fields().map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect();
    let first = fields.iter().find(|(name, _)| name.contains("first_byte")).and_then(|(name, value)| {
        let value: f64 = value.parse().ok()?;
        Some(if name.ends_with("_us") { value / 1000.0 } else { value })
    });
    row.sync_info = (!fields.is_empty()).then_some(fields);
    Ok(first)
}

/// Milliseconds from `since` until a replica logged that data begins to arrive. Servers of the
/// Redis family say "MASTER <-> REPLICA sync: receiving ..." then, stamped with UTC time here.
fn first_byte_logged(log: &str, since: SystemTime) -> Option<f64> {
    const DAY_MS: f64 = 86_400_000.0;
    let line = log.lines().find(|line| line.contains("sync: receiving"))?;
    let logged = line.split_whitespace().find_map(time_of_day_ms)?;
    let since = since.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() * 1000.0;
    let elapsed = (logged - since % DAY_MS).rem_euclid(DAY_MS);
    // The stamp is cut to whole milliseconds, so it may seem to be just before.
    Some(if elapsed > DAY_MS / 2.0 { 0.0 } else { elapsed })
}

/// "19:04:29.123" as milliseconds since midnight.
fn time_of_day_ms(word: &str) -> Option<f64> {
    let mut parts = word.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds: f64 = seconds.parse().ok()?;
    Some(f64::from(hours * 60 + minutes) * 60_000.0 + seconds * 1000.0)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_read_from_a_replicas_log() {
        let log = "12:S 20 Nov 2026 00:00:00.001 * Connecting to MASTER 127.0.0.1:1\n\
                   12:S 20 Nov 2026 00:00:01.250 * MASTER <-> REPLICA sync: receiving streamed RDB from master\n";
        // 2026-11-20 00:00:01.000 UTC
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(20_777 * 86_400 + 1);
        let ms = first_byte_logged(log, since).unwrap();
        assert!((ms - 250.0).abs() < 0.01, "{ms}");
        assert_eq!(first_byte_logged("nothing here", since), None);
    }

    #[test]
    fn a_sync_over_midnight_is_not_a_day_long() {
        let log =
            "1:S 20 Nov 2026 00:00:00.010 * MASTER <-> REPLICA sync: receiving 5 bytes from master to disk\n";
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(20_777 * 86_400_000 - 40);
        assert!((first_byte_logged(log, since).unwrap() - 50.0).abs() < 0.01);
    }
}
