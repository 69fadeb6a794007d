//! Power cuts at every single operation on files, one after the other, while a server saves: what was confirmed is
//! there afterwards, and nothing is there in part.

use sluice_tests::client::Client;
use sluice_tests::{Program, Reply, Start};

/// No protocol here takes more operations.
const MOST: u64 = 500;

/// What a server confirmed before the power went.
#[derive(Debug, Default)]
struct Confirmed {
    /// The last value of the counter that a confirmation covers.
    durable: u64,
    /// The last value sent.
    sent: u64,
}

/// One step of a script: writes the counter's next value (two keys in one block), then runs a command.
fn step(client: &mut Client, command: &str, promises: bool, confirmed: &mut Confirmed) -> Option<()> {
    confirmed.sent += 1;
    let value = confirmed.sent.to_string();
    for line in ["MULTI".into(), format!("SET one {value}"), format!("SET two {value}"), "EXEC".into()] {
        client.try_run(&sluice_tests::words(&line)).ok()?;
    }
    let reply = client.try_run(&sluice_tests::words(command)).ok()?;
    assert!(!reply.is_error(), "{command}: {reply:?}");
    if promises {
        confirmed.durable = confirmed.sent;
    }
    Some(())
}

fn value(client: &mut Client, key: &str) -> u64 {
    match client.run(&["GET", key]) {
        Reply::Nil => 0,
        reply => reply.text().parse().expect("a number"),
    }
}

/// Waits until no rewrite and no snapshot runs.
fn idle(client: &mut Client) -> Option<()> {
    loop {
        let info = client.try_run(&["INFO", "persistence"]).ok()?.text();
        let busy = ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1", "rdb_bgsave_in_progress:1"];
        if !busy.iter().any(|field| info.contains(field)) {
            return Some(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Runs `script` with the power cut at each operation in turn, until it runs through. The server is started with
/// `options`, and again with `after` in addition.
fn at_every_operation(
    options: &str,
    after: &str,
    script: impl Fn(&mut Client, &mut Confirmed) -> Option<()>,
) {
    for at in 1..MOST {
        let start = Start::new(Program::Sluice, options);
        let mut confirmed = Confirmed::default();
        let cut = format!("--storage-power-cut-at {at} --storage-power-cut-seed {}", at * 7919);
        let mut through = false;
        if let Ok(mut server) = start.clone().and(&cut).try_up() {
            through = script(&mut server.client(), &mut confirmed).is_some() && server.ended().is_none();
        }
        let server = start.and(after).up();
        let mut client = server.client();
        let (one, two) = (value(&mut client, "one"), value(&mut client, "two"));
        assert_eq!(one, two, "cut at {at}: half a block; {confirmed:?}\n{}", server.log());
        assert!(
            (confirmed.durable..=confirmed.sent).contains(&one),
            "cut at {at}: {one} is there; {confirmed:?}\n{}",
            server.log()
        );
        if through {
            assert!(at > 5, "the power was cut in the script");
            println!("{options}: {at} operations");
            return;
        }
    }
    panic!("the script does not end within {MOST} operations");
}

#[test]
fn a_snapshot_that_was_confirmed_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("", "", |client, confirmed| {
        for _ in 0..3 {
            step(client, "SAVE", true, confirmed)?;
            step(client, "PING", false, confirmed)?;
        }
        Some(())
    });
}

#[test]
fn what_was_acknowledged_under_always_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("--appendonly yes --appendfsync always", "", |client, confirmed| {
        for _ in 0..8 {
            step(client, "PING", true, confirmed)?;
        }
        Some(())
    });
}

fn rewrites(client: &mut Client, confirmed: &mut Confirmed) -> Option<()> {
    for _ in 0..2 {
        step(client, "BGREWRITEAOF", true, confirmed)?;
        step(client, "PING", true, confirmed)?;
        idle(client)?;
        step(client, "PING", true, confirmed)?;
    }
    Some(())
}

#[test]
fn what_was_acknowledged_during_rewrites_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("--appendonly yes --appendfsync always", "", rewrites);
}

#[test]
fn the_same_where_the_base_is_commands_and_the_disk_is_slow() {
    let options = "--appendonly yes --appendfsync always --aof-use-rdb-preamble no --aof-timestamp-enabled yes \
                   --storage-throttle-latency 500";
    at_every_operation(options, "", rewrites);
}

/// Nothing syncs the log itself here: what a rewrite has completed is durable by that alone.
#[test]
fn what_a_rewrite_completed_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("--appendonly yes --appendfsync no", "", |client, confirmed| {
        for _ in 0..3 {
            step(client, "BGREWRITEAOF", false, confirmed)?;
            let durable = confirmed.sent;
            step(client, "PING", false, confirmed)?;
            idle(client)?;
            confirmed.durable = durable;
        }
        Some(())
    });
}

#[test]
fn an_append_only_file_switched_on_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("--appendfsync always", "--appendonly yes", |client, confirmed| {
        step(client, "PING", false, confirmed)?;
        step(client, "CONFIG SET appendonly yes", false, confirmed)?;
        let durable = confirmed.sent;
        step(client, "PING", false, confirmed)?;
        idle(client)?;
        confirmed.durable = durable;
        step(client, "PING", true, confirmed)?;
        Some(())
    });
}
