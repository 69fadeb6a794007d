//! The crash kit in short, and that its checker sees what it is there to see. A long run is
//! `cargo run -p sluice-tests --bin crash-kit -- --kills 500`.

use sluice_tests::crash::check::{After, check};
use sluice_tests::crash::work::Work;
use sluice_tests::crash::writer::{History, Writers};
use sluice_tests::crash::{MODES, Mode, Plan, Tally, run, table};
use sluice_tests::data::Random;
use sluice_tests::{Server, until};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Kills in each mode, unless `SLUICE_TEST_KILLS` says.
const KILLS: u32 = 3;
/// Modes at a time: most of it is waiting for the moment.
const SIDE_BY_SIDE: usize = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_promised_is_lost_and_nothing_is_half_applied_when_servers_are_killed() {
    let kills = number("SLUICE_TEST_KILLS", KILLS.into()) as u32;
    let plan = Plan { kills, seed: number("SLUICE_TEST_SEED", 7), writers: 3, port: None };
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(mode) = MODES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = run(mode, &plan);
                    rows.lock().unwrap().push((mode, tally));
                }
            });
        }
    });
    let rows: Vec<(&Mode, Tally)> = rows.into_inner().unwrap();
    println!("seed {}\n{}", plan.seed, table(&rows));
    let failures: Vec<_> = rows
        .iter()
        .flat_map(|(mode, t)| t.failures.iter().map(|f| format!("{} (--seed {}): {f}", mode.name, plan.seed)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A server that two writers wrote some units to, and what they know of it.
fn written() -> (Server, Vec<History>) {
    let server = Server::sluice("");
    let histories = (0..2).map(|writer| History::new(Work { seed: 5, writer })).collect();
    let writers = Writers::start(server.port, histories, Duration::ZERO, &mut Random(3));
    until("writers write", || writers.shared.acknowledged().iter().all(|n| *n > 1500).then_some(()));
    let (histories, errors) = writers.stop();
    assert!(errors.is_empty(), "{errors:?}");
    (server, histories)
}

fn floors(histories: &[History]) -> Vec<u64> {
    histories.iter().map(History::acknowledged_end).collect()
}

#[test]
fn the_checker_finds_data_that_is_whole_and_tells_how_far_it_reaches() {
    let (server, mut histories) = written();
    let (floors, mut tally) = (floors(&histories), Tally::default());
    let found = check(&mut server.client(), &mut histories, &floors, After::Look, &mut tally).unwrap();
    assert!(tally.failures.is_empty() && tally.checked == floors.iter().sum::<u64>());
    for (found, (floor, history)) in found.iter().zip(floors.iter().zip(&histories)) {
        // The last units may have changed nothing.
        assert!(*found <= *floor && history.from == *found && floor - found < 20);
    }
}

#[test]
fn the_checker_sees_whatever_is_half_applied() {
    let (server, histories) = written();
    let mut client = server.client();
    for (damage, repair) in [
        ("INCR w0:block-counter", "DECR w0:block-counter"),
        ("RPUSH w1:block-list 1", "RPOP w1:block-list"),
        ("PEXPIREAT w0:expiring 4102444899999", ""),
        ("HSET w1:hash f1 1", ""),
    ] {
        let mut tally = Tally::default();
        client.say(damage);
        let found = check(&mut client, &mut histories.clone(), &[0, 0], After::Look, &mut tally);
        assert!(found.is_none() && tally.half_applied >= 1 && tally.lost == 0, "{damage}: {tally:?}");
        if !repair.is_empty() {
            client.say(repair);
        }
    }
}

#[test]
fn the_checker_sees_what_is_lost_and_what_is_not_of_one_moment() {
    let (server, mut histories) = written();
    let mut client = server.client();
    let mut promised = floors(&histories);
    promised[1] += 100;
    let mut tally = Tally::default();
    assert!(check(&mut client, &mut histories.clone(), &promised, After::Look, &mut tally).is_none());
    assert!(tally.lost >= 100 && tally.half_applied == 0, "{tally:?}");

    // Writer 0 goes on alone in the books: units acknowledged before writer 1's last were sent, and not there.
    let (end, last) = (histories[0].sent.len(), *histories[1].sent.last().unwrap());
    for _ in 0..100 {
        histories[0].sent.push(last.saturating_sub(2));
        histories[0].acknowledged.push(last.saturating_sub(1));
    }
    let mut tally = Tally::default();
    assert!(check(&mut client, &mut histories, &[0, 0], After::Look, &mut tally).is_none());
    assert!(tally.failures[0].contains("writer 0: unit") && end > 0, "{tally:?}");
}
