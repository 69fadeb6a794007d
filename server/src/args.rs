//! The command line, in every form redis-server takes.
//!
//! Flags are directives: `--port 6300 --save 900 1` is the configuration text `port "6300"`, `save "900" "1"`,
//! read after the file and standard input. Their oddities are kept, because scripts depend on them: a value
//! may start with `--`, `--save` without a value means no save points, and a flag and its value may come as one
//! argument (`"--port 6300"`).

use crate::config::{LoadError, Loaded, Loader, quote, split_words};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Invocation {
    /// Run a server.
    Serve(Sources),
    /// Print this on standard output and leave with success.
    Print(String),
    /// Print this on standard error and leave with status 1.
    Refuse(String),
}

/// Where the configuration comes from, in the order it is read.
#[derive(Debug, PartialEq, Default)]
pub(crate) struct Sources {
    /// A configuration file.
    pub(crate) file: Option<String>,
    /// Standard input, read to its end.
    pub(crate) standard_input: bool,
    /// The flags, as configuration text.
    pub(crate) flags: Vec<u8>,
}

impl Sources {
    /// Reads them all.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        let mut loader = Loader::default();
        if let Some(file) = &self.file {
            loader.main_file(file)?;
        }
        if self.standard_input {
            loader.standard_input()?;
        }
        loader.text(&self.flags, " of the command line")?;
        loader.finish()
    }
}

/// The line `--version` prints.
pub(crate) fn version_line() -> String {
    format!(
        "Sluice server v={} redis={} malloc=jemalloc bits={}",
        env!("CARGO_PKG_VERSION"),
        crate::version::REDIS_VERSION,
        usize::BITS
    )
}

/// The answer to whoever asks for a sentinel.
pub(crate) const NO_SENTINEL: &str = "\
Sluice has no sentinel mode. The redis-sentinel of Redis (Debian: apt-get install redis-sentinel) can watch Sluice servers; for a
change of roles by hand, under writes and without a full sync, there is FAILOVER.";

const USAGE: &str = "\
Usage:
    sluice-server [FILE] [--DIRECTIVE VALUE...]... [-]

FILE is a redis.conf. Flags are its directives, and win over it; - reads more of them from standard input.

    sluice-server                                        every setting at its default
    sluice-server /etc/redis/redis.conf --port 6380      a file, with another port
    sluice-server --port 6380 --replicaof 10.0.0.1 6379  a replica of a running server
    echo 'maxmemory 1gb' | sluice-server -               settings from a pipe

Other uses:
    sluice-server -v, --version    Sluice's version, and that of the Redis it follows
    sluice-server -h, --help       this text
    sluice-server check-rdb FILE   what is in an RDB file, and where it is damaged
    sluice-server check-aof [--fix | --truncate-to-timestamp SECONDS] MANIFEST_OR_FILE
                                   the same of an append-only file; --fix cuts it at the damage";

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: &[Vec<u8>]) -> Invocation {
    let refuse = |what: &str| Invocation::Refuse(what.to_owned());
    match args.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Invocation::Print(version_line()),
        Some(b"-h" | b"--help") => return Invocation::Print(format!("{}\n\n{USAGE}", version_line())),
        Some(b"--test-memory") => return refuse("Sluice has no memory test; use memtester or memtest86+."),
        Some(b"--check-system") => {
            return refuse(
                "Sluice has no system check: it does not fork, so overcommit and huge pages do not matter to it.",
            );
        }
        _ => {}
    }
    if args.iter().any(|a| a == b"--sentinel") {
        return refuse(NO_SENTINEL);
    }
    let mut sources = Sources::default();
    let mut rest = args;
    if let Some((first, others)) = args.split_first()
        && first.first() != Some(&b'-')
    {
        sources.file = Some(String::from_utf8_lossy(first).into_owned());
        rest = others;
    }
    if let Some((last, others)) = rest.split_last()
        && last == b"-"
    {
        sources.standard_input = true;
        rest = others;
    }
    sources.flags = flags_text(rest);
    Invocation::Serve(sources)
}

/// The flags as lines of configuration text.
fn flags_text(args: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    // Whether the flag before has its value, so that a `--word` now is a flag and not that value.
    let mut settled = true;
    for (index, arg) in args.iter().enumerate() {
        let Some(name) = arg.strip_prefix(b"--").filter(|_| settled) else {
            text.extend(quote(arg));
            text.push(b' ');
            settled = true;
            continue;
        };
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend_from_slice(name);
        text.push(b' ');
        // A flag given alone still wants its value; `--save` may do without.
        settled = split_words(arg).is_none_or(|words| words.len() != 1);
        let no_value = args.get(index + 1).is_none_or(|next| next.starts_with(b"--"));
        if !settled && no_value && arg.eq_ignore_ascii_case(b"--save") {
            text.extend_from_slice(b"\"\"");
            settled = true;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(args: &[&str]) -> Sources {
        let args: Vec<_> = args.iter().map(|a| a.as_bytes().to_vec()).collect();
        match parse(&args) {
            Invocation::Serve(sources) => sources,
            other => panic!("{other:?}"),
        }
    }

    fn loaded(args: &[&str]) -> crate::config::Config {
        sources(args).load().expect("loads").config
    }

    #[test]
    fn flags_are_directives() {
        let c = loaded(&[
            "--port",
            "6300",
            "--slaveof",
            "127.0.0.1",
            "6379",
            "--save",
            "",
            "--save",
            "900",
            "1",
            "300",
            "10",
        ]);
        assert_eq!(c.port, 6300);
        assert_eq!(c.replicaof.0, Some(("127.0.0.1".into(), 6379)));
        assert_eq!(c.save.0.len(), 2);
        assert_eq!(
            loaded(&["--port", "6300", "--slaveof", "127.0.0.1 6379"]).replicaof.0.map(|r| r.1),
            Some(6379)
        );
        assert_eq!(loaded(&["--port 6301", "--hz", "5"]).port, 6301);
        assert!(loaded(&["--save", "--port", "1"]).save.0.is_empty());
        assert!(loaded(&["--port", "1", "--save"]).save.0.is_empty());
        assert_eq!(loaded(&["--requirepass", "--odd"]).requirepass, b"--odd");
    }

    #[test]
    fn file_standard_input_and_flags_together() {
        let s = sources(&["a.conf", "--loglevel", "verbose", "-"]);
        assert_eq!(s.file.as_deref(), Some("a.conf"));
        assert!(s.standard_input);
        assert_eq!(s.flags, b"loglevel \"verbose\" ");
        assert!(sources(&["-"]).standard_input);
    }

    #[test]
    fn errors_are_those_of_redis() {
        let error = |args: &[&str]| sources(args).load().expect_err("refused").to_string();
        assert!(
            error(&["--foo", "bar"])
                .ends_with(">>> 'foo \"bar\"'\nBad directive or wrong number of arguments")
        );
        assert!(error(&["--port"]).ends_with(">>> 'port'\nwrong number of arguments"));
        assert!(
            error(&["--port", "--save", ""])
                .ends_with(">>> 'port \"--save\" \"\"'\nwrong number of arguments")
        );
        assert!(error(&["/no/such.conf"]).contains("can't open config file '/no/such.conf'"));
    }

    #[test]
    fn what_is_not_a_server_is_printed_or_refused() {
        let of = |arg: &str| parse(&[arg.as_bytes().to_vec()]);
        assert!(matches!(of("--version"), Invocation::Print(text) if text.starts_with("Sluice server v=")));
        assert!(matches!(of("-h"), Invocation::Print(text) if text.contains("\nUsage:")));
        for arg in ["--sentinel", "--test-memory", "--check-system"] {
            assert!(matches!(of(arg), Invocation::Refuse(_)), "{arg}");
        }
    }
}
