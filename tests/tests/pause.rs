//! CLIENT PAUSE, and what waits for it.

use sluice_tests::{Reply, Server, until};

#[test]
fn a_write_waits_for_the_pause_to_end_and_a_read_does_not() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.say("SET a 1");
    c.say("SET going 1 PX 1");
    c.say("CLIENT PAUSE 100000 WRITE");
    assert_eq!(c.ask("GET a"), "1".into());
    let writer = {
        let mut w = server.client();
        std::thread::spawn(move || w.ask("SET a 2"))
    };
    server.reports("clients", "blocked_clients", "1");
    assert_eq!(c.ask("GET a"), "1".into(), "not yet");
    until("it expires", || (c.ask("GET going") == Reply::Nil).then_some(()));
    assert_eq!(c.ask("DBSIZE"), Reply::Int(2), "hidden, and not deleted");
    c.say("CLIENT UNPAUSE");
    assert_eq!(writer.join().unwrap(), Reply::Status("OK".into()));
    assert_eq!(c.ask("GET a"), "2".into());
    until("what expired goes", || (c.ask("DBSIZE") == Reply::Int(1)).then_some(()));
}

#[test]
fn a_pause_ends_by_itself_and_a_transaction_goes_by_what_it_holds() {
    let server = Server::sluice("");
    let mut c = server.client();
    c.say("CLIENT PAUSE 300 ALL");
    c.say("PING");
    c.say("MULTI");
    c.say("GET a");
    c.say("CLIENT PAUSE 300 WRITE");
    assert_eq!(c.say("EXEC").items()[0], Reply::Nil);
    c.say("MULTI");
    assert_eq!(c.ask("GET a"), Reply::Status("QUEUED".into()));
    assert_eq!(c.say("EXEC").items(), [Reply::Nil], "a transaction that reads");
    // This waits until the pause is over.
    c.say("SET a 1");
    for bad in ["CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 1 NONE"] {
        assert!(c.ask(bad).is_error(), "{bad}");
    }
}

#[test]
fn a_pause_that_is_over_does_not_lend_its_mode_to_the_next() {
    let server = Server::sluice("");
    let mut c = server.client();
    // The timers find a pause that is over every 100 ms; the next one comes before they do, most of the time.
    for _ in 0..5 {
        c.say("CLIENT PAUSE 30 ALL");
        c.say("PING");
        c.say("CLIENT PAUSE 100000 WRITE");
        assert_eq!(c.ask("GET a"), Reply::Nil, "reads go on");
        c.say("CLIENT UNPAUSE");
    }
}
