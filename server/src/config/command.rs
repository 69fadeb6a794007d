//! CONFIG GET, SET, RESETSTAT, REWRITE and HELP, as functions from arguments to a reply: the session encodes
//! the reply, so that all of this is tested without one.

use sluice_engine::internals::glob_match;

use super::directives::{DIRECTIVES, Directive, flags, lookup};
use super::values::Origin;
use super::{Config, ConfigHandle, Guarded, rewrite};

/// What a CONFIG command answers.
#[derive(Debug, PartialEq)]
pub(crate) enum ConfigReply {
    /// `+OK`.
    Ok,
    /// A map of names and values.
    Map(Vec<(Vec<u8>, Vec<u8>)>),
    /// An error with its code, as it goes on the wire.
    Error(String),
    /// Lines of help.
    Help(&'static [&'static str]),
    /// Nothing happened: somebody else changes settings, and the caller does not wait.
    Busy,
    /// `+OK`, and the counters start anew.
    ResetStat,
    /// `+OK`; the log should say that the file was rewritten.
    Rewritten,
}

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    The directives whose names match a glob pattern, with their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Give directives new values: all of them, or none where one is refused.",
    "RESETSTAT",
    "    Begin the counters of INFO anew.",
    "REWRITE",
    "    Write the present values into the file the server was started with.",
    "HELP",
    "    This text.",
];

/// Runs a CONFIG command. `args` are the words after CONFIG; `local` says that the client is on this machine,
/// which some settings ask for.
pub(crate) fn config_command(
    handle: &ConfigHandle,
    args: &[&[u8]],
    local: bool,
    patient: bool,
) -> ConfigReply {
    let Some((subcommand, rest)) = args.split_first() else {
        return wrong_arity("config");
    };
    match (subcommand.to_ascii_lowercase().as_slice(), rest) {
        (b"get", [_, ..]) => ConfigReply::Map(get(&handle.load(), rest)),
        (b"get", []) => wrong_arity("config|get"),
        (b"set", [_, _, ..]) => match set(handle, rest, local, patient) {
            None => ConfigReply::Busy,
            Some(Ok(warnings)) => {
                for warning in warnings {
                    crate::log!(Warning, "{warning}");
                }
                ConfigReply::Ok
            }
            Some(Err(error)) => ConfigReply::Error(error),
        },
        (b"set", _) => wrong_arity("config|set"),
        (b"resetstat", []) => ConfigReply::ResetStat,
        (b"resetstat", _) => wrong_arity("config|resetstat"),
        (b"rewrite", []) => match rewrite::rewrite(&handle.load()) {
            Ok(()) => ConfigReply::Rewritten,
            Err(error) => ConfigReply::Error(format!("ERR {error}")),
        },
        (b"rewrite", _) => wrong_arity("config|rewrite"),
        (b"help", []) => ConfigReply::Help(HELP),
        (b"help", _) => wrong_arity("config|help"),
        _ => ConfigReply::Error(format!(
            "ERR unknown subcommand '{}'. Try CONFIG HELP.",
            String::from_utf8_lossy(subcommand)
        )),
    }
}

fn wrong_arity(command: &str) -> ConfigReply {
    ConfigReply::Error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// The settings whose name or alias matches any of the patterns, each once.
fn get(config: &Config, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |name: &[u8], directive: &Directive| {
        if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            found.push((name.to_vec(), directive.show(config)));
        }
    };
    for pattern in patterns {
        if !pattern.iter().any(|b| b"*?[".contains(b)) {
            // A plain name answers under the spelling it was asked by.
            if let Some(directive) = lookup(pattern) {
                add(pattern, directive);
            }
            continue;
        }
        for directive in DIRECTIVES.iter().filter(|d| !d.is(flags::HIDDEN)) {
            for name in directive.names().filter(|n| glob_match(pattern, n.as_bytes(), true)) {
                add(name.as_bytes(), directive);
            }
        }
    }
    found
}

/// Sets all of the pairs, or none. Returns what the log should say of those that have no effect; `None` where somebody else
/// changes settings and the caller is not `patient`.
fn set(
    handle: &ConfigHandle,
    pairs: &[&[u8]],
    local: bool,
    patient: bool,
) -> Option<Result<Vec<String>, String>> {
    let changing = &handle.0.changing;
    let _changing = if patient { changing.lock() } else { changing.try_lock()? };
    Some(set_alone(handle, pairs, local))
}

fn set_alone(handle: &ConfigHandle, pairs: &[&[u8]], local: bool) -> Result<Vec<String>, String> {
    if !pairs.len().is_multiple_of(2) {
        return Err("ERR syntax error".into());
    }
    let mut config = Config::clone(&handle.load());
    let targets = targets(&config, pairs, local)?;
    let defaults = Config::default();
    let mut changed = Vec::new();
    let mut warnings = Vec::new();
    for (name, value, directive) in &targets {
        let words: Vec<Vec<u8>> = if !directive.is(flags::WORDS) {
            vec![value.to_vec()]
        } else if value.is_empty() {
            Vec::new()
        } else {
            value.split(|b| *b == b' ').map(<[u8]>::to_vec).collect()
        };
        let before = config.clone();
        directive.assign(&mut config, &words, Origin::Runtime).map_err(|reason| failed(name, &reason))?;
        if directive.same(&before, &config) {
            continue;
        }
        changed.push(directive.name());
        if !directive.same(&config, &defaults) {
            if let Some(reason) = directive.support.refusal(directive.name()) {
                return Err(failed(name, &reason));
            }
            warnings.extend(directive.support.warning(directive.name()));
        }
    }
    handle.replace(config, &changed).map(|()| warnings).map_err(|(name, reason)| {
        let given = targets.iter().find(|(_, _, d)| d.name() == name).map_or(name.as_bytes(), |(n, _, _)| n);
        failed(given, &reason)
    })
}

fn failed(name: &[u8], reason: &str) -> String {
    let name = String::from_utf8_lossy(name);
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

type Target<'a> = (&'a [u8], &'a [u8], &'static Directive);

/// The directives of the pairs, if all of them may be set.
fn targets<'a>(config: &Config, pairs: &[&'a [u8]], local: bool) -> Result<Vec<Target<'a>>, String> {
    let guarded_open = match config.enable_protected_configs {
        Guarded::Yes => true,
        Guarded::Local => local,
        Guarded::No => false,
    };
    let mut targets: Vec<Target<'a>> = Vec::new();
    let mut refusal = None;
    for pair in pairs.chunks_exact(2) {
        let (name, value) = (pair[0], pair[1]);
        let Some(directive) = lookup(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        };
        let twice = targets.iter().any(|(known, _, _)| known.eq_ignore_ascii_case(name));
        let reason = if directive.is(flags::FIXED) {
            Some("can't set immutable config")
        } else if directive.is(flags::GUARDED) && !guarded_open {
            Some("can't set protected config")
        } else {
            twice.then_some("duplicate parameter")
        };
        // The first refusal is told, unless a later name is unknown altogether.
        refusal = refusal.or(reason.map(|reason| failed(name, reason)));
        targets.push((name, value, directive));
    }
    refusal.map_or(Ok(targets), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn handle() -> ConfigHandle {
        ConfigHandle::new(Config::default())
    }

    fn run(handle: &ConfigHandle, args: &[&str]) -> ConfigReply {
        let args: Vec<_> = args.iter().map(|a| a.as_bytes()).collect();
        config_command(handle, &args, true, true)
    }

    fn error(handle: &ConfigHandle, args: &[&str]) -> String {
        match run(handle, args) {
            ConfigReply::Error(text) => text,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn names(reply: ConfigReply) -> Vec<String> {
        match reply {
            ConfigReply::Map(pairs) => {
                pairs.into_iter().map(|(n, _)| String::from_utf8(n).expect("name")).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn get_takes_names_patterns_and_aliases() {
        let h = handle();
        assert_eq!(names(run(&h, &["get", "PORT", "p?rt", "nosuch"])), ["PORT"]);
        assert_eq!(names(run(&h, &["get", "*slaveof", "slave-priority"])), ["slaveof", "slave-priority"]);
        assert_eq!(
            names(run(&h, &["get", "hash-*-entries"])),
            ["hash-max-listpack-entries", "hash-max-ziplist-entries"]
        );
        assert_eq!(names(run(&h, &["get", "watchdog-period"])), ["watchdog-period"]);
        assert!(!names(run(&h, &["get", "*"])).contains(&"watchdog-period".to_owned()));
    }

    #[test]
    fn set_is_all_or_nothing_with_the_errors_of_redis() {
        let h = handle();
        assert_eq!(run(&h, &["set", "hz", "20", "slave-priority", "3"]), ConfigReply::Ok);
        assert_eq!((h.load().hz, h.load().replica_priority), (20, 3));
        let cases: [(&[&str], &str); 8] = [
            (&["set"], "ERR wrong number of arguments for 'config|set' command"),
            (&["set", "hz", "1", "x"], "ERR syntax error"),
            (&["set", "hz", "1", "x", "1"], "ERR Unknown option or number of arguments for CONFIG SET - 'x'"),
            (
                &["set", "hz", "1", "HZ", "1"],
                "ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter",
            ),
            (
                &["set", "hz", "1", "daemonize", "no"],
                "ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config",
            ),
            (
                &["set", "dir", "/"],
                "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
            ),
            (
                &["set", "hz", "1", "save", "900 1 300"],
                "ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters",
            ),
            (&["nosuch"], "ERR unknown subcommand 'nosuch'. Try CONFIG HELP."),
        ];
        for (args, expected) in cases {
            assert_eq!(error(&h, args), expected);
        }
        assert_eq!(h.load().hz, 20);
    }

    #[test]
    fn what_protects_data_and_is_not_there_cannot_be_set() {
        let h = handle();
        for (name, value) in [("tls-port", "6380"), ("tls-replication", "yes"), ("tls-cert-file", "/c.pem")] {
            let text = error(&h, &["set", "hz", "20", name, value]);
            assert!(
                text.contains(&format!("argument '{name}') - Sluice does not support '{name}' yet")),
                "{text}"
            );
            assert_eq!(h.load().hz, 10);
        }
        assert_eq!(run(&h, &["set", "tls-port", "0", "tls-replication", "no"]), ConfigReply::Ok);
    }

    #[test]
    fn hooks_follow_changes_and_may_undo_them() {
        let h = handle();
        let seen = Arc::new(AtomicU32::new(0));
        let s = Arc::clone(&seen);
        let follow = move |c: &Config| {
            s.store(c.hz, Ordering::Relaxed);
            Ok(())
        };
        h.on_change(&["hz"], follow).expect("accepts the default");
        h.on_change(
            &["maxclients"],
            |c| if c.maxclients > 100_000 { Err("too many".into()) } else { Ok(()) },
        )
        .expect("accepts the default");
        assert_eq!(seen.load(Ordering::Relaxed), 10);
        assert_eq!(
            error(&h, &["set", "hz", "33", "maxclients", "200000"]),
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - too many"
        );
        assert_eq!((h.load().hz, seen.load(Ordering::Relaxed)), (10, 10));
        assert_eq!(run(&h, &["set", "hz", "33"]), ConfigReply::Ok);
        assert_eq!(seen.load(Ordering::Relaxed), 33);
    }
}
