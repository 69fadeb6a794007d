//! The promise everything stands on: a cut at offset X, and the log from X, are the state.
//!
//! Several threads run random commands of every family while cuts are taken with slices from one byte to a
//! megabyte. Each cut is compared with a mirror that replays the log from the beginning up to the cut's offset (so
//! an error that later writes would paint over is seen), and loaded into a fresh engine that replays the log from
//! there to the end, which must be the live state. Schedules differ from run to run; the choices follow from a
//! seed, which every failure prints. `SLUICE_TEST_SEED` sets it, `SLUICE_TEST_ROUNDS` asks for more rounds.

mod applied;
mod carried;
mod chained;
mod client;
mod interleaved;
mod moved;
mod random;
mod rebuild;
mod replay;
mod state;
mod workload;

use client::Client;
use random::Random;
use rebuild::Image;
use replay::Replay;
use sluice_engine::{Engine, Step};
use state::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use workload::Workload;

/// Databases of the engines under test: few, so that they meet.
const DATABASES: u32 = 3;
/// Images kept at most: each takes the memory of a whole keyspace.
const MAX_IMAGES: usize = 12;

/// The first seed and the number of rounds.
fn seeds(rounds: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let first = number("SLUICE_TEST_SEED").unwrap_or(1);
    first..first + number("SLUICE_TEST_ROUNDS").unwrap_or(rounds)
}

fn engine(shards: usize) -> Engine {
    Engine::builder().shards(shards).databases(DATABASES).build()
}

/// An engine under load from several threads.
struct Load {
    engine: Engine,
    clock: Arc<AtomicI64>,
    running: Arc<AtomicUsize>,
    stalls: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(
        engine: &Engine,
        seed: u64,
        threads: u64,
        commands: usize,
        workload: fn(Random) -> Workload,
    ) -> Load {
        let clock = Arc::new(AtomicI64::new(sluice_engine::internals::now_ms()));
        let running = Arc::new(AtomicUsize::new(threads as usize));
        let stalls = Arc::new(AtomicU64::new(0));
        let threads = (0..threads)
            .map(|n| {
                let random = Random::new(seed ^ (n + 1) << 32);
                let mut client = Client::new(engine, clock.clone(), stalls.clone());
                let running = running.clone();
                std::thread::spawn(move || {
                    let mut workload = workload(random);
                    for _ in 0..commands {
                        workload.step(&mut client);
                    }
                    running.fetch_sub(1, Ordering::Release);
                })
            })
            .collect();
        Load { engine: engine.clone(), clock, running, stalls, threads }
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) > 0
    }

    /// Waits until the writers have logged so many bytes more, or ended.
    fn let_write(&self, bytes: u64) {
        let until = self.engine.log().end() + bytes;
        while self.is_running() && self.engine.log().end() < until {
            std::thread::yield_now();
        }
    }

    /// Waits for the writers; the live state then, with every expired key gone and logged as such.
    fn join(self) -> State {
        for t in self.threads {
            t.join().expect("a writer panicked");
        }
        let mut client = Client::new(&self.engine, self.clock, self.stalls);
        for key in workload::all_keys() {
            for db in 0..DATABASES {
                client.select(db);
                // A read that finds a key expired removes it.
                client.call(&[b"STRLEN", key.as_bytes()]);
            }
        }
        State::of(&mut client)
    }
}

/// Cuts without end while writers run; some cuts are abandoned half-way, as by a consumer that fails.
fn cut_while_running(load: &Load, random: &mut Random) -> Vec<Image> {
    let mut images = Vec::new();
    loop {
        let last = !load.is_running();
        let mut cut = load.engine.begin_cut().expect("one cut at a time");
        let slice = [1, 100, 5_000, 60_000, 1 << 20][random.below(5)];
        let abandon_after = if !last && random.one_in(2) { random.below(1_000) } else { usize::MAX };
        let pace = [1, 30, 300][random.below(3)];
        let mut image = Image::new(&cut);
        let mut steps = 0;
        while steps < abandon_after && cut.step(&mut image, slice) == Step::More {
            image.take_pending();
            steps += 1;
            load.let_write(random.below(pace) as u64);
        }
        if steps < abandon_after {
            image.check_complete();
            assert!(cut.step(&mut image, slice) == Step::Done, "a finished cut stays finished");
            if images.len() == MAX_IMAGES {
                images.swap_remove(random.below(MAX_IMAGES));
                images.sort_by_key(Image::offset);
            }
            images.push(image);
        }
        drop(cut);
        if last {
            return images;
        }
        load.engine.expire_cycle(std::time::Duration::from_micros(200));
    }
}

#[test]
fn every_cut_with_the_log_after_it_is_the_live_state() {
    check_cuts(Workload::of_every_type, 6_000);
}

#[test]
fn huge_values_that_change_while_they_are_walked_are_delivered_as_of_the_cut() {
    check_cuts(Workload::of_huge_values, 1_200);
}

#[test]
fn huge_values_that_move_while_they_are_walked_are_delivered_as_of_the_cut() {
    check_cuts(Workload::of_moving_values, 300);
}

fn check_cuts(workload: fn(Random) -> Workload, commands: usize) {
    for seed in seeds(3) {
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let engine = engine([1, 4, 16][random.below(3)]);
        engine.log().activate();
        let mut from_start = engine.log().reader(0).unwrap();
        let tail_of_images = engine.log().reader(0).unwrap();
        let load = Load::start(&engine, seed, 3, commands, workload);
        let images = cut_while_running(&load, &mut random);
        let live = load.join();

        let mut mirror = Replay::new(Engine::builder().databases(DATABASES).build());
        let mut checked = 0;
        for image in &images {
            mirror.read_to(&mut from_start, image.offset());
            let loaded = image.load();
            mirror
                .state()
                .assert_equal(&loaded.clone().state(), &format!("seed {seed}: a cut and the log before it"));
            if checked % 4 == 0 || image.offset() == images[images.len() - 1].offset() {
                let mut loaded = loaded;
                let mut reader = engine.log().reader(image.offset()).unwrap();
                loaded.read_to(&mut reader, engine.log().end());
                live.assert_equal(
                    &loaded.state(),
                    &format!("seed {seed}: the live state and a cut with its log"),
                );
            }
            checked += 1;
        }
        mirror.read_to(&mut from_start, engine.log().end());
        live.assert_equal(&mirror.state(), &format!("seed {seed}: the live state and the whole log"));
        drop(tail_of_images);
        eprintln!("seed {seed}: {checked} cuts checked, {} keys, log {}", live.len(), engine.log().end());
        assert!(checked >= 1);
    }
}

#[test]
fn a_slow_consumer_makes_writers_wait_and_loses_nothing() {
    const LIMIT: usize = 4_000;
    for seed in seeds(2) {
        let mut random = Random::new(seed);
        let engine = engine(4);
        engine.log().activate();
        engine.set_preimage_limit(LIMIT);
        let from_start = engine.log().reader(0).unwrap();
        let mut client = Client::alone(&engine);
        for key in 0..400 {
            client.call(&[b"SET", format!("string:{key}").as_bytes(), &[b'x'; 500]]);
        }
        let load = Load::start(&engine, seed, 3, 20_000, Workload::of_strings);
        let (mut images, mut peak) = (Vec::new(), 0);
        let counter = load.stalls.clone();
        let stalls = || counter.load(Ordering::Relaxed);
        while load.is_running() {
            let mut cut = engine.begin_cut().unwrap();
            let mut image = Image::new(&cut);
            while cut.step(&mut image, 600) == Step::More {
                image.take_pending();
                // Slow by what happens meanwhile, not by a clock: until a writer had to wait, or some have written.
                let (before, until) = (stalls(), engine.log().end() + random.below(20_000) as u64);
                while load.is_running() && stalls() < before + 3 && engine.log().end() < until {
                    std::thread::yield_now();
                }
            }
            peak = peak.max(cut.preimage_peak());
            image.check_complete();
            images.push(image);
        }
        let stalls = stalls();
        let live = load.join();
        for image in images.iter().take(MAX_IMAGES) {
            let mut loaded = image.load();
            loaded.read_to(&mut engine.log().reader(image.offset()).unwrap(), engine.log().end());
            live.assert_equal(&loaded.state(), &format!("seed {seed}"));
        }
        drop(from_start);
        assert!(stalls > 0, "seed {seed}: the limit was never met");
        // Each of three writers may have seen the queue just below its limit.
        assert!(peak <= LIMIT + 3 * 1_000, "seed {seed}: {peak} bytes waited, the limit is {LIMIT}");
        eprintln!("seed {seed}: {} cuts, {stalls} waits, peak {peak} bytes", images.len());
    }
}
