//! SHUTDOWN: what a client was told is in the files, and a shutdown that does not come about leaves no trace.

use sluice_tests::client::request;
use sluice_tests::data::bulk;
use sluice_tests::{Busy, Program, Reply, Server, Start, until};

/// A disk that takes seconds for what [`fill`] writes.
const SLOW: &str = "--save 3600 100000 --stop-writes-on-bgsave-error no --storage-throttle-rate 100000";

fn fill(server: &Server) {
    bulk(&mut server.client(), 400, 1000);
}

#[test]
fn what_is_acknowledged_while_the_last_snapshot_is_written_is_in_it() {
    let mut server = Server::sluice(SLOW);
    fill(&server);
    let mut writer = server.client();
    let (to, acknowledged) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        while let Ok(Reply::Int(n)) = writer.try_run(&["INCR", "counter"]) {
            let _ = to.send(n);
        }
    });
    for _ in 0..50 {
        acknowledged.recv().expect("it counts");
    }
    server.client().send(&request(&["SHUTDOWN"])).expect("sent");
    server.wait_for_end();
    thread.join().expect("the connection ended with the server");
    let last = acknowledged.try_iter().last().unwrap_or(50);
    let again = Start::new(Program::Sluice, "").dir(server.dir()).up();
    let counted: i64 = again.say("GET counter").text().parse().expect("a number");
    assert!(counted >= last, "{last} was acknowledged, {counted} is in the file");
}

#[test]
fn a_shutdown_that_is_given_up_or_fails_lets_writes_go_on() {
    let server = Server::sluice(SLOW);
    fill(&server);
    let mut asked = server.client();
    asked.send(&request(&["SHUTDOWN"])).expect("sent");
    server.logged("Saving the final RDB snapshot before exiting.");
    let writer = {
        let mut c = server.client();
        std::thread::spawn(move || c.ask("SET while 1"))
    };
    server.reports("clients", "blocked_clients", "2");
    assert_eq!(server.say("GET while"), Reply::Nil, "reads go on");
    assert_eq!(server.say("SHUTDOWN ABORT").text(), "OK");
    assert!(asked.reply().unwrap().text().starts_with("ERR Errors trying to SHUTDOWN"));
    assert_eq!(writer.join().unwrap().text(), "OK");
    assert!(server.client().ask("SHUTDOWN ABORT").is_error(), "there is none any more");
    // Something that cannot be replaced stands where the file belongs.
    std::fs::create_dir_all(server.file("dump.rdb/full")).expect("a folder");
    assert!(server.client().ask("SHUTDOWN SAVE").text().starts_with("ERR Errors trying to SHUTDOWN"));
    let busy = Busy::with(&server, |c| i64::from(c.say("SET after 1").text() == "OK") as u64);
    busy.goes_on(10);
    busy.stop();
    until("expired keys go again", || {
        server.say("SET short 1 PX 1");
        (server.number("stats", "expired_keys") > 0).then_some(())
    });
}
