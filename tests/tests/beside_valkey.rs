//! Beside a real Valkey 9, where one is installed: its RDB files, its payloads, and it as a primary.

use sluice_tests::client::request;
use sluice_tests::data::{contents, write_some};
use sluice_tests::server::free_port;
use sluice_tests::{Client, Program, Server, Start, until};
use std::process::{Child, Command, Stdio};

/// A Valkey process, ended with the test. `VALKEY_SERVER` names the program.
struct Valkey(Child, u16);

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Valkey {
    fn start(folder: &std::path::Path) -> Option<Valkey> {
        let program = std::env::var_os("VALKEY_SERVER").unwrap_or_else(|| "valkey-server".into());
        let port = free_port();
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--save", "", "--repl-diskless-sync-delay", "0", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: no valkey-server (VALKEY_SERVER names one)");
            return None;
        };
        Some(Valkey(child, port))
    }

    fn client(&self) -> Client {
        until("valkey-server answers", || {
            let mut client = Client::connect(self.1).ok()?;
            client.try_run(&["PING"]).ok().filter(|reply| reply.text() == "PONG").map(|_| client)
        })
    }
}

#[test]
fn a_valkey_9_is_followed_and_its_file_and_payloads_load() {
    let start = Start::new(Program::Sluice, "");
    let Some(valkey) = Valkey::start(start.folder()) else { return };
    let mut theirs = valkey.client();
    write_some(&mut theirs, 1, 500);
    theirs.say("SET k v");
    let expected = contents(&mut theirs);
    theirs.say("SAVE");
    let file = std::fs::read(start.folder().join("dump.rdb")).unwrap();
    if !file.starts_with(b"VALKEY") {
        eprintln!("skipped: this Valkey is older than 9");
        return;
    }
    let ours = start.up();
    assert_eq!(contents(&mut ours.client()), expected);

    let payload = theirs.say("DUMP k");
    ours.client().run(&[b"RESTORE", &b"restored"[..], b"0", payload.bytes()]);
    assert_eq!(ours.say("GET restored").text(), "v");

    for load in ["disabled", "swapdb"] {
        let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
        replica.say(&format!("REPLICAOF 127.0.0.1 {}", valkey.1));
        replica.link_up();
        theirs.send(&request(&["SET", "later", load])).unwrap();
        theirs.reply().unwrap();
        until("the stream goes on", || (replica.say("GET later") == load.into()).then_some(()));
        assert_eq!(contents(&mut replica.client()), contents(&mut theirs));
    }
}
