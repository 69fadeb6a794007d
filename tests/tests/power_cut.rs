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

/// Runs `script` with the power cut at each operation in turn, until it runs through.
fn at_every_operation(options: &str, script: impl Fn(&mut Client, &mut Confirmed) -> Option<()>) {
    for at in 1..MOST {
        let start = Start::new(Program::Sluice, options);
        let mut confirmed = Confirmed::default();
        let cut = format!("--storage-power-cut-at {at} --storage-power-cut-seed {}", at * 7919);
        let mut through = false;
        if let Ok(mut server) = start.clone().and(&cut).try_up() {
            through = script(&mut server.client(), &mut confirmed).is_some() && server.ended().is_none();
        }
        let server = start.up();
        let mut client = server.client();
        let (one, two) = (value(&mut client, "one"), value(&mut client, "two"));
        assert_eq!(one, two, "cut at {at}: half a block; {confirmed:?}");
        assert!(
            (confirmed.durable..=confirmed.sent).contains(&one),
            "cut at {at}: {one} is there; {confirmed:?}\n{}",
            server.log()
        );
        if through {
            assert!(at > 5, "the power was cut in the script");
            return;
        }
    }
    panic!("the script does not end within {MOST} operations");
}

#[test]
fn a_snapshot_that_was_confirmed_outlasts_a_power_cut_at_any_operation() {
    at_every_operation("", |client, confirmed| {
        for _ in 0..3 {
            step(client, "SAVE", true, confirmed)?;
            step(client, "PING", false, confirmed)?;
        }
        Some(())
    });
}
