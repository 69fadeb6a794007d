//! What README.md says of commands is so.

use sluice_tests::{Program, Server, peers_here};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_list_of_missing_commands_is_exact() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let list = |server: &Server| -> BTreeSet<String> {
        server
            .say("COMMAND LIST")
            .items()
            .iter()
            .map(|item| item.text().to_uppercase().replace('|', " "))
            .collect()
    };
    let (ours, theirs) = (list(&Server::sluice("")), list(&Server::redis("")));
    // A container that is missing stands for its subcommands.
    let missing: BTreeSet<&str> = theirs
        .iter()
        .filter(|name| !ours.contains(*name))
        .filter(|name| name.split_once(' ').is_none_or(|(container, _)| ours.contains(container)))
        .map(String::as_str)
        .collect();
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let from = readme.find("Commands of Redis 7.0 that Sluice does not have").expect("the list");
    let text = &readme[from..];
    let text = &text[..text.find("\n\n").expect("its end")];
    let told: BTreeSet<&str> = text.split('`').skip(1).step_by(2).collect();
    assert_eq!(told, missing);
}

/// Help is for who has installed nothing yet.
#[test]
fn help_of_the_scripts_needs_nothing() {
    let out = Command::new(root().join("scripts/conformance"))
        .arg("--help")
        .env("CARGO_TARGET_DIR", "/nonexistent/target")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("usage: scripts/conformance"), "{said}");
    assert!(!said.contains("install-peers"), "{said}");
    let version = Command::new(Program::Sluice.path()).arg("--help").output().expect("it runs");
    assert!(String::from_utf8_lossy(&version.stdout).contains("check-rdb FILE"));
}
