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

/// The crates, and whether the front of a folder is a file like others.
const CRATES: [(&str, bool); 2] = [("persistence", true), ("transport", false)];

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for (name, fronts) in CRATES {
        let sources = Crate::read(&root().join(name).join("src")).expect("the sources");
        assert!(sources.len() > 10, "{name}: {} files", sources.len());
        found.extend(
            sources.circles(fronts).into_iter().map(|circle| format!("{name}: {}", circle.join(" "))),
        );
    }
    assert!(found.is_empty(), "circles of files:\n{}", found.join("\n"));
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
