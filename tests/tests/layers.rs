//! Imports point down: inside each crate, and from crate to crate.

use sluice_tests::layers::Crate;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The crates from top to bottom, as docs/architecture.md draws them.
fn drawn() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the document");
    let line = text.lines().find(|line| line.trim_start().starts_with("server ──>")).expect("the drawing");
    line.split("──>").map(|name| name.split_whitespace().next().unwrap_or_default().to_owned()).collect()
}

/// The server's rooms above its ground still reach each other through `Server`.
const ABOVE_THE_GROUND: &str = "\
     admin admin/acl admin/client admin/command admin/command/docs admin/command/info admin/config \
     admin/debug admin/hello admin/info admin/info/memory admin/info/sections admin/latency \
     admin/memory admin/reload admin/role admin/rows aof aof/folder aof/group aof/hold aof/rewrite \
     aof/start aof/writer client/acks client/admission client/conn client/outbox client/pause \
     client/registry client/stream client/waiting commands migrate net persist repl repl/apply \
     repl/attached repl/attempt repl/commands repl/failover repl/full_sync repl/link repl/primary \
     repl/role repl/slow_writers server shutdown snapshot stand_in";

/// The crates, whether the front of a folder is a file like others, and the circles there still are.
const CRATES: [(&str, bool, &[&str]); 4] = [
    // A table has the capture of the cut in progress, which takes in tables that are flushed.
    ("engine", false, &["cut/capture table"]),
    ("persistence", true, &[]),
    ("transport", false, &[]),
    ("server", false, &[ABOVE_THE_GROUND]),
];

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle_but_those_that_are_known() {
    for (name, fronts, known) in CRATES {
        let sources = Crate::read(&root().join(name).join("src")).expect("the sources");
        assert!(sources.len() > 10, "{name}: {} files", sources.len());
        let found: Vec<String> = sources.circles(fronts).into_iter().map(|circle| circle.join(" ")).collect();
        assert_eq!(
            found, known,
            "{name}: circles of files; one that has gone, or become smaller, is taken from the list"
        );
    }
}

#[test]
fn crates_depend_downwards_as_the_drawing_says() {
    let drawn = drawn();
    assert_eq!(drawn.len(), 4, "{drawn:?}");
    for (at, name) in drawn.iter().enumerate() {
        let manifest = root().join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&manifest).expect("the manifest");
        let ours = manifest.lines().filter_map(|line| line.trim().strip_prefix("sluice-"));
        for used in ours.map(|rest| rest.split(['.', ' ', '=']).next().unwrap_or_default()) {
            let place = drawn.iter().position(|known| known == used);
            assert!(place.is_some_and(|place| place > at), "{name} depends on {used}, which is not below it");
        }
    }
}
