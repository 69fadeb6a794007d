//! What an embedder can rely on is a short list, and nothing gets into it by accident.

/// The names at the root of the crate. One more is a promise more: does it belong to `internals`?
const NAMES: [&str; 32] = [
    "ApplyError",
    "Change",
    "Class",
    "Clock",
    "Cut",
    "CutBusy",
    "CutSink",
    "Db",
    "Element",
    "Engine",
    "EngineBuilder",
    "EntryMeta",
    "Error",
    "Event",
    "Expiry",
    "Feed",
    "Follower",
    "Happening",
    "HugeKind",
    "Log",
    "LogGone",
    "LogReader",
    "ManualClock",
    "Only",
    "ReplyValue",
    "Result",
    "Session",
    "SetOptions",
    "Step",
    "Ttl",
    "Type",
    "ValueView",
];

#[test]
fn the_root_has_these_names_and_one_public_module() {
    let source = include_str!("../src/lib.rs");
    let mut names = Vec::new();
    for statement in source.split(';') {
        let Some((_, path)) = statement.split_once("\npub use ") else { continue };
        let (_, list) = path.rsplit_once("::").expect("a path");
        names.extend(list.split(|c: char| !c.is_alphanumeric()).filter(|name| !name.is_empty()));
    }
    names.sort_unstable();
    assert_eq!(names, NAMES);
    let modules: Vec<_> = source.lines().filter(|line| line.starts_with("pub mod ")).collect();
    assert_eq!(modules, ["pub mod internals;"]);
}
