//! Configuration files of Redis 8.6 and Valkey 9.1 start here: all of their directives are known.

use sluice_tests::server::{free_port, write};
use sluice_tests::{Client, Program, Server, Start, until};
use std::process::{Command, Stdio};

const FACTS: &str = include_str!("newer_directives.txt");

/// The lines of each server's file.
fn files() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut files: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("@ ") {
            Some(title) => files.push((title, Vec::new())),
            None => files.last_mut().expect("a title").1.push(line),
        }
    }
    files
}

#[test]
fn every_directive_of_newer_servers_is_known_and_their_defaults_start() {
    let files = files();
    assert_eq!(files.len(), 2);
    for (title, lines) in files {
        assert!(lines.len() > 190, "{title}: {} lines", lines.len());
        let start = Start::new(Program::Sluice, "");
        let conf = start.folder().join("newer.conf");
        let port = free_port();
        let log = start.folder().join("newer.log");
        let own =
            format!("port {port}\ndir {}\nlogfile {}\nsave \"\"\n", start.folder().display(), log.display());
        write(&conf, (lines.join("\n") + "\n" + &own).as_bytes());
        let mut child =
            Command::new(Program::Sluice.path()).arg(&conf).stderr(Stdio::piped()).spawn().expect("it runs");
        let answers = until("it answers or ends", || {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return Some(Err(status));
            }
            Some(Ok(Client::connect(port).ok()?.try_run(&["CONFIG", "GET", "*"]).ok()?))
        });
        let _ = child.kill();
        let out = child.wait_with_output().expect("it ends");
        let shown =
            answers.unwrap_or_else(|s| panic!("{title}: {s}, {}", String::from_utf8_lossy(&out.stderr)));
        // What a client reads is what Redis 7.0 has.
        for name in ["availability-zone", "primaryauth", "lookahead", "set-max-listpack-entries"] {
            assert!(!shown.items().iter().any(|item| item.text() == name), "{name}");
        }
        let log = std::fs::read_to_string(&log).expect("the log");
        // A default that is not Redis 7.0's and has no effect is told, by name.
        for line in log.lines().filter(|line| line.contains("has no effect")) {
            let name = line.split('\'').nth(1).unwrap_or_default();
            assert!(lines.iter().any(|l| l.split(' ').next() == Some(name)) || name.contains('_'), "{line}");
        }
    }
}

#[test]
fn another_value_of_what_is_not_there_is_a_warning_with_its_meaning() {
    let server =
        Server::sluice("--availability-zone here --set-max-listpack-entries 64 --primaryauth secret");
    let log = server.log();
    for text in ["'availability-zone' is known but not yet supported", "'set-max-listpack-entries'"] {
        assert!(log.contains(text), "{log}");
    }
    assert!(!log.contains("primaryauth") && !log.contains("secret"), "{log}");
    assert_eq!(server.say("CONFIG GET masterauth").items()[1].text(), "secret");
    assert!(server.client().ask("CONFIG SET availability-zone there").is_error());
}
