//! Cut and log in one stream: a consumer may apply log bytes before the cut has ended, by one rule.
//!
//! It reads B, the log's end, then empties the queue of pre-images; then it may apply the log up to B or the cut's
//! barrier, whichever comes first.

use crate::random::Random;
use crate::rebuild::Image;
use crate::replay::Replay;
use crate::workload::Workload;
use crate::{DATABASES, Load, engine, seeds};
use sluice_engine::{Engine, LogReader, Step};

#[test]
fn applying_the_log_before_the_cut_has_ended_gives_the_live_state() {
    check(Workload::of_every_type, 6_000);
}

/// Where nothing is huge, flushed or swapped there is no barrier, so the log is applied early all the way.
#[test]
fn with_small_values_all_of_the_log_can_be_applied_early() {
    let early = check(Workload::of_small_values, 6_000);
    assert!(early > 0, "no log was applied before the end of a cut");
}

/// Flushing or swapping a database concerns what only the walker can deliver.
#[test]
fn flushed_and_swapped_databases_hold_the_log_back() {
    check(Workload::of_whole_databases, 6_000);
}

#[test]
fn huge_values_that_move_are_whole_before_the_log_that_moves_them() {
    check(Workload::of_moving_values, 300);
}

/// Follows the engine several times under a load; the log bytes applied before the end of their cuts.
fn check(workload: fn(Random) -> Workload, commands: usize) -> u64 {
    let mut total = 0;
    for seed in seeds(4) {
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let engine = engine([1, 4, 16][random.below(3)]);
        engine.log().activate();
        let load = Load::start(&engine, seed, 2, commands, workload);
        let mut early = 0;
        let mut followers = Vec::new();
        while load.is_running() && followers.len() < 6 {
            let (follower, reader, bytes) = follow(&load, &mut random, seed);
            early += bytes;
            followers.push((follower, reader));
            // Let the keyspace change before the next one.
            load.let_write(60_000);
        }
        let live = load.join();
        for (mut follower, mut reader) in followers {
            follower.read_to(&mut reader, engine.log().end());
            live.assert_equal(
                &follower.state(),
                &format!("seed {seed}: a follower that applied the log early"),
            );
        }
        eprintln!("seed {seed}: {early} bytes of log applied before the end of their cuts");
        total += early;
    }
    total
}

/// Takes a cut into a fresh engine, applying the log as early as the rule allows; the log bytes so applied.
fn follow(load: &Load, random: &mut Random, seed: u64) -> (Replay, LogReader, u64) {
    let engine = &load.engine;
    let mut cut = engine.begin_cut().expect("one cut at a time");
    let mut reader = engine.log().reader(cut.offset()).unwrap();
    let mut image = Image::new(&cut);
    let mut follower = Replay::new(Engine::builder().databases(DATABASES).build());
    let mut loader = follower.engine().loader();
    let slice = [1, 60, 300][random.below(3)];
    let mut done = false;
    let mut loaded = 0;
    let mut early = 0;
    while !done {
        let bound = engine.log().end();
        while !cut.is_drained() {
            cut.drain(&mut image, slice);
            image.take_pending();
        }
        let bound = bound.min(cut.barrier());
        for e in &image.entries[loaded..] {
            let key = String::from_utf8_lossy(&e.key);
            assert!(
                e.load(&mut loader),
                "seed {seed}: {key:?} of {} was there before it was delivered",
                e.db
            );
        }
        loaded = image.entries.len();
        assert!(loader.flush(), "seed {seed}: a key was there before it was delivered");
        if bound > reader.offset() {
            early += bound - reader.offset();
            follower.read_to(&mut reader, bound);
        }
        for _ in 0..random.below(20) {
            if cut.step(&mut image, slice) == Step::Done {
                done = true;
                break;
            }
            image.take_pending();
            load.let_write(random.below(150) as u64);
        }
    }
    for e in &image.entries[loaded..] {
        assert!(e.load(&mut loader), "seed {seed}: delivered twice, or too late");
    }
    assert!(loader.flush(), "seed {seed}: a key was there before it was delivered");
    image.check_complete();
    (follower, reader, early)
}
