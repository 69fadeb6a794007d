//! `docs/directives.md`: the list of directives, made from the tables by a test, which fails where the file is not what they
//! say. `SLUICE_WRITE_DOCS=1 cargo test -p sluice-server listing` writes it.

use super::directives::{Config, DIRECTIVES, Directive, flags};
use super::newer::{Meaning, NEWER};
use super::support::Support;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/directives.md");

const HEAD: &str = "\
# Directives

Made from the server's tables (`SLUICE_WRITE_DOCS=1 cargo test -p sluice-server listing`); a test fails where it is not what they say.

| support | in a file, on the command line, in `CONFIG SET` |
|---|---|
| full | does what it says |
| nothing to tune | accepted; a warning where it is set to something else than its default: Sluice has no such mechanism |
| not yet | accepted; a warning where it is set to something else than its default |
| refused | its default is accepted; anything else stops the start, and `CONFIG SET`: without it data would stand open |

Beside them a file may hold `include`, `rename-command`, and the `user` line that says no more than `requirepass` does; other `user` lines
and `loadmodule` are refused.
";

fn cell(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace('|', "\\|");
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn support(support: Support) -> String {
    support.meaning().map_or(support.word().to_owned(), |text| format!("{}: {text}", support.word()))
}

fn row(directive: &Directive, defaults: &Config) -> String {
    let names: Vec<_> = directive.names().map(|n| format!("`{n}`")).collect();
    // The folder the test runs in is nobody's default.
    let default = if directive.name() == "dir" { "`.`".into() } else { cell(&directive.show(defaults)) };
    let live = match () {
        () if directive.is(flags::FIXED) => "at start",
        () if directive.is(flags::GUARDED) => "guarded",
        () => "yes",
    };
    format!("| {} | {default} | {live} | {} |\n", names.join(" "), support(directive.support))
}

fn listing() -> String {
    let defaults = Config::default();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Those of Redis 7.0, and Sluice's own\n\n| directive | default | changeable | support |\n|---|---|---|---|\n");
    text.extend(DIRECTIVES.iter().map(|d| row(d, &defaults)));
    text.push_str(
        "\n## Those of Redis 8.6 and Valkey 9.1, in files only\n\n| directive | default there | support |\n|---|---|---|\n",
    );
    for newer in NEWER {
        let (default, what) = match newer.meaning() {
            Meaning::Same(name) => (String::new(), format!("another name of `{name}`")),
            Meaning::Unless(default, s) => (cell(default.as_bytes()), support(s)),
        };
        text.push_str(&format!("| `{}` | {default} | {what} |\n", newer.name));
    }
    text
}

#[test]
fn the_list_of_directives_is_what_the_tables_say() {
    let listing = listing();
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        std::fs::write(FILE, &listing).expect("docs/directives.md can be written");
    }
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        file == listing,
        "docs/directives.md is old: SLUICE_WRITE_DOCS=1 cargo test -p sluice-server listing"
    );
}
