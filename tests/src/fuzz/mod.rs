//! Fuzz targets: each takes any bytes as one kind of input from outside, and panics if a promise about it breaks.
//!
//! The promises: no panic, no unbounded allocation, an error or data that is sound; and what was accepted is written
//! and read again as the same. The programs in `fuzz/` (a workspace of its own, see its README) run these
//! functions under libFuzzer for as long as one likes, `cargo test` runs them over the [`seeds`] and some thousand
//! [`mutate`]d copies.

mod encodings;
mod files;
pub mod logged;
pub mod mutate;
pub mod seeds;
mod streams;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its program and of its corpus.
    pub name: &'static str,
    /// What it does with its input; whether that was accepted, at least in part.
    pub run: fn(&[u8]) -> bool,
    /// Good inputs, to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "rdb", run: files::rdb, seeds: seeds::rdb },
    Target { name: "value", run: files::value, seeds: seeds::value },
    Target { name: "aof", run: files::aof, seeds: seeds::aof },
    Target { name: "manifest", run: files::manifest, seeds: seeds::manifest },
    Target { name: "dump", run: files::dump, seeds: seeds::dump },
    Target { name: "lzf", run: encodings::lzf, seeds: seeds::lzf },
    Target { name: "listpack", run: encodings::listpack, seeds: seeds::listpack },
    Target { name: "intset", run: encodings::intset, seeds: seeds::intset },
    Target { name: "ziplist", run: encodings::ziplist, seeds: seeds::ziplist },
    Target { name: "zipmap", run: encodings::zipmap, seeds: seeds::zipmap },
    Target { name: "resp", run: streams::resp, seeds: seeds::resp },
    Target { name: "commands", run: streams::commands, seeds: seeds::commands },
    Target { name: "logged", run: logged::logged, seeds: seeds::logged },
    Target { name: "frames", run: streams::frames, seeds: seeds::frames },
    Target { name: "link", run: streams::link, seeds: seeds::link },
];

/// Runs the target of this name.
///
/// # Panics
///
/// When a promise breaks, or there is no such target.
pub fn run(name: &str, input: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(input)
}
