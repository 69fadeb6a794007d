//! One server: started, written to, disturbed, killed; started again and checked.

use super::ballast::Ballast;
use super::check::{After, check};
use super::mode::{Disturbance, Mode, Promise, Shape};
use super::report::Tally;
use super::work::Work;
use super::writer::{History, Shared, Writers};
use super::{Announce, Plan};
use crate::client::{Client, Reply};
use crate::data::Random;
use crate::program::Program;
use crate::server::{Server, Start, free_port};
use crate::wait::until;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kills after which a new folder is begun, so that first starts are met too and logs stay short.
const KILLS_PER_FOLDER: u32 = 8;
/// A server is killed at most so long after its writers began...
const LIFE: Duration = Duration::from_millis(350);
/// ... after a disturbance was seen to begin ...
const BUSY_LIFE: Duration = Duration::from_millis(60);
/// ... or after it was started, to meet its loading.
const LOADING_LIFE: Duration = Duration::from_millis(60);
/// A save point of one second is waited for, and the sync of `everysec`.
const SLOW_LIFE: Duration = Duration::from_millis(2500);
/// A power cut that has not come by then is replaced by a kill.
const POWERED: Duration = Duration::from_secs(4);
/// No disturbance is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What must be there after the next kill: raised by the threads that see something confirmed.
pub(crate) type Floors = Arc<Mutex<Vec<u64>>>;

fn raise(floors: &Floors, to: Vec<u64>) {
    let mut floors = floors.lock().expect("nobody panics holding it");
    for (floor, to) in floors.iter_mut().zip(to) {
        *floor = to.max(*floor);
    }
}

/// Runs `mode` for `plan.kills` kills.
pub(crate) fn run(mode: &Mode, plan: &Plan) -> Tally {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut random = Random(plan.seed);
    let mut folder = 0;
    while tally.kills < plan.kills && tally.failures.is_empty() {
        folder += 1;
        let left = (plan.kills - tally.kills).min(KILLS_PER_FOLDER);
        run_in_folder(mode, plan, plan.seed << 8 | folder, left, &mut random, &mut tally);
    }
    tally.elapsed = began.elapsed();
    tally
}

fn run_in_folder(mode: &Mode, plan: &Plan, seed: u64, kills: u32, random: &mut Random, tally: &mut Tally) {
    let _announce = Announce(format!("mode {}, seed {}, folder seed {seed}", mode.name, plan.seed));
    let port = plan.port.unwrap_or_else(free_port);
    let start =
        Start::new(Program::Sluice, "--io-threads 2 --repl-backlog-size 256kb").and(mode.options).port(port);
    let mut histories: Vec<_> = (0..plan.writers).map(|writer| History::new(Work { seed, writer })).collect();
    let mut floors = vec![0; plan.writers];
    let mut ballast = Ballast::Missing;
    let replica = (mode.shape == Shape::Primary).then(|| {
        let port = plan.port.map_or_else(free_port, |port| port + 1);
        Start::new(Program::Sluice, "--repl-diskless-load swapdb").port(port).up()
    });
    let end = tally.kills + kills;
    loop {
        while tally.kills < end && mode.kill_loading > 0 && random.below(mode.kill_loading) == 0 {
            let server = start.clone().spawn();
            std::thread::sleep(below(random, LOADING_LIFE));
            server.kill();
            tally.kills += 1;
            tally.kills_loading += 1;
        }
        let mut server = match start.clone().try_up() {
            Ok(server) => server,
            Err((status, log)) => {
                tally.failures.push(format!("it does not start again, {status}: {}", last_lines(&log)));
                tally.kept.push(keep(start.folder()));
                return;
            }
        };
        let mut client = server.client();
        let good = check(&mut client, &mut histories, &floors, After::Restart, tally).is_some();
        if !good || !ballast.settle(&mut client, mode, tally) {
            server.kill();
            tally.kept.push(keep(start.folder()));
            return;
        }
        if tally.kills >= end {
            return;
        }
        if mode.power > 0 {
            // A cut of the checked server's power might come before the check: it is started anew.
            server.kill();
            let (at, seed) = (1 + random.below(mode.power), random.below(1 << 40));
            let doomed =
                start.clone().and(&format!("--storage-power-cut-at {at} --storage-power-cut-seed {seed}"));
            match doomed.try_up() {
                Ok(up) => server = up,
                Err(_) => {
                    tally.kills += 1;
                    tally.kills_loading += 1;
                    floors = histories.iter().map(|h| h.from).collect();
                    continue;
                }
            }
        }
        // What was recovered came from files that are still there.
        let promised: Floors = Arc::new(Mutex::new(histories.iter().map(|h| h.from).collect()));
        let writers = Writers::start(server.port, histories, Duration::ZERO, random);
        let watch = Watch::start(mode, &server, &writers.shared, &promised);
        let busy = wait_for_the_moment(mode, &watch, replica.as_ref(), &mut server, random);
        server.kill();
        tally.kills += 1;
        tally.kills_busy += u32::from(busy);
        let (stopped, errors) = writers.stop();
        watch.end();
        histories = stopped;
        tally.failures.extend(errors);
        tally.count(&histories);
        floors = match mode.promise {
            Promise::Acknowledged => histories.iter().map(History::acknowledged_end).collect(),
            _ => promised.lock().expect("nobody panics holding it").clone(),
        };
    }
}

/// Lives on until it is time to die; whether something was under way then.
fn wait_for_the_moment(
    mode: &Mode,
    watch: &Watch,
    replica: Option<&Server>,
    server: &mut Server,
    random: &mut Random,
) -> bool {
    if mode.power > 0 {
        let deadline = Instant::now() + POWERED;
        while server.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        return watch.busy();
    }
    if let Some(replica) = replica {
        let mut client = replica.client();
        // Refused while it loads what it got of the last sync.
        until("the replica leaves", || (!client.ask("REPLICAOF NO ONE").is_error()).then_some(()));
        client.say(&format!("REPLICAOF 127.0.0.1 {}", server.port));
        std::thread::sleep(below(random, LIFE));
        let syncing = client.say("INFO replication").text().contains("master_sync_in_progress:1");
        return syncing;
    }
    if mode.disturbance == Disturbance::None {
        let slow = mode.options.contains("--save 1") || mode.promise == Promise::Synced;
        let life = if slow { SLOW_LIFE } else { LIFE };
        std::thread::sleep(below(random, life));
        return watch.busy();
    }
    // One time in four at any moment, else soon after a disturbance began.
    if random.below(4) == 0 {
        std::thread::sleep(below(random, if mode.promise == Promise::Synced { SLOW_LIFE } else { LIFE }));
        return watch.busy();
    }
    let rounds = random.below(3);
    let deadline = Instant::now() + PATIENCE;
    while watch.rounds() <= rounds && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
    let slower = if mode.options.contains("throttle") { 5 } else { 1 };
    std::thread::sleep(below(random, BUSY_LIFE * slower));
    watch.busy()
}

pub(crate) fn below(random: &mut Random, limit: Duration) -> Duration {
    Duration::from_micros(random.below(limit.as_micros() as u64))
}

/// The end of a log, for a message.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Keeps what a failure left, beside the folder that will go.
pub(crate) fn keep(folder: &Path) -> PathBuf {
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let kept = folder.with_file_name(format!("kept-{name}"));
    let copied = Command::new("cp").arg("-a").arg(folder).arg(&kept).status();
    if copied.is_ok_and(|s| s.success()) { kept } else { folder.to_owned() }
}

/// The thread that disturbs, and sees what is confirmed.
struct Watch {
    state: Arc<WatchState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct WatchState {
    stop: AtomicBool,
    busy: AtomicBool,
    rounds: AtomicU64,
}

impl Watch {
    fn start(mode: &Mode, server: &Server, shared: &Arc<Shared>, floors: &Floors) -> Watch {
        let state = Arc::new(WatchState::default());
        let port = server.port;
        let (mode, shared, floors, seen) = (*mode, shared.clone(), floors.clone(), state.clone());
        let thread = std::thread::spawn(move || {
            let Ok(mut client) = Client::connect(port) else { return };
            // It ends with the connection, or when told.
            let _ = watch(&mode, &mut client, &shared, &floors, &seen);
        });
        Watch { state, thread: Some(thread) }
    }

    fn busy(&self) -> bool {
        self.state.busy.load(Ordering::SeqCst)
    }

    fn rounds(&self) -> u64 {
        self.state.rounds.load(Ordering::SeqCst)
    }

    fn end(mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the watch does not panic");
        }
    }
}

/// Disturbs until the connection ends. `None` is the end of the connection.
fn watch(
    mode: &Mode,
    client: &mut Client,
    shared: &Shared,
    floors: &Floors,
    seen: &WatchState,
) -> Option<()> {
    let mut points = SavePoints::default();
    let mut round = 0u64;
    while !seen.stop.load(Ordering::SeqCst) && !shared.stopped() {
        if mode.disturbance != Disturbance::None {
            disturb(mode, round, client, shared, floors, seen)?;
            round += 1;
        }
        match mode.promise {
            Promise::Saved if mode.disturbance == Disturbance::None => {
                points.look(client, shared, floors, seen)?
            }
            Promise::Synced => {
                let before = shared.acknowledged();
                client.try_run(&["INCR", "watch"]).ok()?;
                let reply = client.try_run(&["WAITAOF", "1", "0", "5000"]).ok()?;
                if matches!(&reply, Reply::Array(counts) if counts.first() == Some(&Reply::Int(1))) {
                    raise(floors, before);
                }
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(())
}

fn disturb(
    mode: &Mode,
    round: u64,
    client: &mut Client,
    shared: &Shared,
    floors: &Floors,
    seen: &WatchState,
) -> Option<()> {
    let command = match mode.disturbance {
        Disturbance::None => return Some(()),
        Disturbance::Save => "SAVE",
        Disturbance::Bgsave => "BGSAVE",
        Disturbance::Rewrite => "BGREWRITEAOF",
        Disturbance::Both => ["BGSAVE", "BGREWRITEAOF"][round as usize % 2],
        Disturbance::Toggle => ["CONFIG SET appendonly no", "CONFIG SET appendonly yes"][round as usize % 2],
    };
    let saves = number(client, "rdb_saves")?;
    let before = shared.acknowledged();
    seen.busy.store(command == "SAVE", Ordering::SeqCst);
    seen.rounds.fetch_add(u64::from(command == "SAVE"), Ordering::SeqCst);
    let args: Vec<&str> = command.split(' ').collect();
    let reply = client.try_run(&args).ok()?;
    // A file that grows fast is rewritten by itself: that is as good.
    let by_itself = command == "BGREWRITEAOF" && reply.text().contains("already in progress");
    assert!(!reply.is_error() || by_itself, "{command}: {reply:?}");
    if command != "SAVE" {
        seen.busy.store(true, Ordering::SeqCst);
        seen.rounds.fetch_add(1, Ordering::SeqCst);
        while number(client, "rdb_bgsave_in_progress")? + number(client, "aof_rewrite_in_progress")? != 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    seen.busy.store(false, Ordering::SeqCst);
    // This connection is the only one that saves: a save more is the one asked for after `before`.
    if command.ends_with("SAVE") && mode.promise == Promise::Saved && number(client, "rdb_saves")? > saves {
        raise(floors, before);
    }
    Some(())
}

/// Sees saves that the server begins by itself.
#[derive(Default)]
struct SavePoints {
    /// The saves at the last look, and what was acknowledged before it, if no save ran then.
    last: Option<(i64, Vec<u64>)>,
    /// The same, confirmed by a look that saw no further save: one that ends later began after that.
    settled: Option<(i64, Vec<u64>)>,
}

impl SavePoints {
    fn look(
        &mut self,
        client: &mut Client,
        shared: &Shared,
        floors: &Floors,
        seen: &WatchState,
    ) -> Option<()> {
        let before = shared.acknowledged();
        let info = client.try_run(&["INFO", "persistence"]).ok()?.text();
        let field = |name| field(&info, name);
        let (saves, running) = (field("rdb_saves")?, field("rdb_bgsave_in_progress")?);
        seen.busy.store(running == 1, Ordering::SeqCst);
        if let Some((at, acknowledged)) = &self.settled
            && saves > *at
        {
            raise(floors, acknowledged.clone());
            self.settled = None;
        }
        let idle = (running == 0).then_some((saves, before));
        if let (Some(now), Some(last)) = (&idle, &self.last)
            && now.0 == last.0
        {
            self.settled = self.last.take();
        }
        self.last = idle;
        Some(())
    }
}

fn number(client: &mut Client, name: &str) -> Option<i64> {
    field(&client.try_run(&["INFO", "persistence"]).ok()?.text(), name)
}

fn field(info: &str, name: &str) -> Option<i64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}
