//! A replica that is killed in the middle of its full syncs, over and over, while its primary is written to.
//!
//! Started alone it must show its primary's data as of one moment, and never an earlier one than it showed before; at
//! the end it must catch up and hold exactly what the primary holds.

use super::ballast;
use super::check::{After, check};
use super::cycle::{below, keep, last_lines};
use super::mode::Mode;
use super::report::Tally;
use super::work::Work;
use super::writer::{History, Writers};
use super::{Announce, Plan};
use crate::data::{Random, bulk};
use crate::program::Program;
use crate::server::{Start, free_port};
use std::time::{Duration, Instant};

/// A replica lives at most so long: from before its handshake until it streams.
const LIFE: Duration = Duration::from_millis(300);
/// One time in four longer: save points and rewrites of an AOF come.
const LONG_LIFE: Duration = Duration::from_millis(2000);
/// More data, so that full syncs last.
const BULK: usize = 5000;
const BULK_BYTES: usize = 3000;
/// Writers rest between pipelines, so that the histories stay short.
const REST: Duration = Duration::from_millis(1);

/// Runs `mode` for `plan.kills` kills.
pub(crate) fn run(mode: &Mode, plan: &Plan) -> Tally {
    let _announce = Announce(format!("mode {}, seed {}", mode.name, plan.seed));
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut random = Random(plan.seed);
    let port = |offset: u16| plan.port.map_or_else(free_port, |port| port + offset);
    let transport = if mode.options.contains("disabled") { "disk" } else { "socket" };
    let primary = Start::new(
        Program::Sluice,
        "--io-threads 2 --repl-backlog-size 256kb --repl-sync-max-bandwidth 80mb --repl-transport",
    )
    .and(transport)
    .port(port(0))
    .up();
    ballast::write(&mut primary.client());
    bulk(&mut primary.client(), BULK, BULK_BYTES);
    let alone = Start::new(Program::Sluice, "--io-threads 2").and(mode.options).port(port(1));
    let following = alone.clone().and(&format!("--replicaof 127.0.0.1 {}", primary.port));
    let mut histories: Vec<_> =
        (0..plan.writers).map(|writer| History::new(Work { seed: plan.seed, writer })).collect();
    let mut floors = vec![0; plan.writers];
    let mut seen = false;
    while tally.kills < plan.kills && tally.failures.is_empty() {
        let writers = Writers::start(primary.port, histories, REST, &mut random);
        loop {
            let mut replica = following.clone();
            if mode.power > 0 {
                let (at, seed) = (1 + random.below(mode.power), random.below(1 << 40));
                replica =
                    replica.and(&format!("--storage-power-cut-at {at} --storage-power-cut-seed {seed}"));
            }
            let replica = replica.spawn();
            let life = if random.below(4) == 0 { LONG_LIFE } else { LIFE };
            std::thread::sleep(below(&mut random, life));
            let syncing = replica.connect().and_then(|mut c| c.try_run(&["INFO", "replication"]).ok());
            let syncing = syncing
                .is_some_and(|info| info.is_error() || info.text().contains("master_sync_in_progress:1"));
            replica.kill();
            tally.kills += 1;
            tally.kills_busy += u32::from(syncing);
            if tally.kills >= plan.kills || random.below(2) == 0 {
                break;
            }
        }
        let (stopped, errors) = writers.stop();
        histories = stopped;
        tally.failures.extend(errors);
        let replica = match alone.clone().try_up() {
            Ok(replica) => replica,
            Err((status, log)) => {
                tally.failures.push(format!("it does not start again, {status}: {}", last_lines(&log)));
                break;
            }
        };
        let mut client = replica.client();
        let found = check(&mut client, &mut histories, &floors, After::Look, &mut tally);
        match ballast::whole(&mut client) {
            Err(text) => tally.failures.push(text),
            Ok(false) if seen => tally.failures.push("data that was there before is gone".into()),
            Ok(there) => seen = there,
        }
        if let Some(found) = found {
            floors = found;
        }
        replica.kill();
    }
    (tally.sent, tally.acknowledged) = histories
        .iter()
        .fold((0, 0), |(sent, acknowledged), h| (sent + h.end(), acknowledged + h.acknowledged_end()));
    if tally.failures.is_empty() {
        let replica = following.clone().up();
        replica.link_up();
        replica.same_as(&primary);
        let all: Vec<_> = histories.iter().map(History::acknowledged_end).collect();
        check(&mut replica.client(), &mut histories, &all, After::Look, &mut tally);
    }
    if !tally.failures.is_empty() {
        tally.kept.push(keep(alone.folder()));
    }
    tally.elapsed = began.elapsed();
    tally
}
