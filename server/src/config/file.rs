//! Reading configuration text: files, standard input and the command line, which is put into the same form.
//!
//! One [`Loader`] takes all the texts of a start in turn, so that later lines win and `save` lines add up
//! over all of them. Included files are read where their `include` stands; relative paths are taken from the
//! folder the server was started in.

use std::io::Read;
use std::path::{Path, PathBuf};

use sluice_engine::internals::glob_match;

use super::directives::{Config, DIRECTIVES, flags, lookup};
use super::newer::{self, Newer};
use super::support::{Support, because};
use super::values::{Origin, os_reason};
use super::{users, words};

/// Files including files deeper than this are taken for a cycle.
pub(crate) const MAX_INCLUDE_DEPTH: usize = 16;
/// A configuration file larger than this is refused.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("Fatal error, can't open config file '{path}': {reason}")]
    Open {
        /// The file as it was named.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A line is wrong.
    #[error(
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
         Reading the configuration file, at line {line}{source_name}\n>>> '{text}'\n{reason}"
    )]
    Line {
        /// Where the line is, as ` of FILE`.
        source_name: String,
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A configuration that was read, and what the log should say about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) config: Config,
    /// Directives that are set but have no effect yet, a sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Where a line stands and what it says.
#[derive(Clone, Default)]
struct Place {
    source_name: String,
    line: usize,
    text: String,
}

impl Place {
    fn refuse(self, reason: String) -> LoadError {
        LoadError::Line { source_name: self.source_name, line: self.line, text: self.text, reason }
    }
}

/// Builds a configuration from texts, in order.
#[derive(Default)]
pub(crate) struct Loader {
    config: Config,
    seen: Vec<&'static str>,
    depth: usize,
    /// The line being read.
    at: Place,
    /// Where directives that Sluice may have to refuse were given last: a later line can take one back.
    guards: Vec<(&'static str, Place)>,
    /// Directives of newer versions, as they were given last.
    newer: Vec<(&'static Newer, Vec<Vec<u8>>, Place)>,
    /// `user` lines.
    users: Vec<(Vec<Vec<u8>>, Place)>,
}

impl Loader {
    /// Reads a file, the one CONFIG REWRITE will write to.
    pub(crate) fn main_file(&mut self, path: &str) -> Result<(), LoadError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        let result = self.file(&absolute.to_string_lossy());
        self.config.file = Some(absolute);
        result
    }

    /// Reads a file; `-` is standard input.
    fn file(&mut self, path: &str) -> Result<(), LoadError> {
        let text = read_bounded(path)
            .map_err(|e| LoadError::Open { path: path.to_owned(), reason: os_reason(&e) })?;
        self.text(&text, &format!(" of {path}"))
    }

    /// Reads standard input to its end.
    pub(crate) fn standard_input(&mut self) -> Result<(), LoadError> {
        self.file("-")
    }

    /// Reads `text`, which `source` (as ` of FILE`) names in errors.
    pub(crate) fn text(&mut self, text: &[u8], source: &str) -> Result<(), LoadError> {
        for (index, raw) in text.split(|b| *b == b'\n').enumerate() {
            let line = raw.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let place = Place { source_name: source.to_owned(), line: index + 1, text: shown(line) };
            self.at = place.clone();
            self.line(line).map_err(|problem| match problem {
                Problem::Nested(error) => error,
                Problem::Reason(reason) => place.refuse(reason),
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let mut words = words::split(line).ok_or("Unbalanced quotes in configuration line")?;
        if words.is_empty() {
            return Ok(());
        }
        let name = words.remove(0);
        let newer = newer::lookup(&name);
        match newer.and_then(Newer::same).map_or_else(|| lookup(&name), |same| lookup(same.as_bytes())) {
            Some(directive) => {
                if let [word] = words.as_slice()
                    && directive.is(flags::WORDS)
                    && !word.is_empty()
                {
                    // `--slaveof "127.0.0.1 6379"`: several words given as one.
                    words = words::split(word).ok_or("Unbalanced quotes in configuration line")?;
                }
                let first = !self.seen.contains(&directive.name());
                directive.assign(&mut self.config, &words, Origin::File { first })?;
                if first {
                    self.seen.push(directive.name());
                }
                if let Support::Refused(_) = directive.support {
                    self.guards.retain(|(name, _)| *name != directive.name());
                    self.guards.push((directive.name(), self.at.clone()));
                }
                Ok(())
            }
            None => match newer {
                Some(_) if words.is_empty() => Err("wrong number of arguments".into()),
                Some(newer) => {
                    self.newer.retain(|(known, _, _)| known.name != newer.name);
                    self.newer.push((newer, words, self.at.clone()));
                    Ok(())
                }
                None => self.file_only(&name.to_ascii_lowercase(), &words),
            },
        }
    }

    /// Directives that exist in files only, and have no value of their own.
    fn file_only(&mut self, name: &[u8], words: &[Vec<u8>]) -> Result<(), Problem> {
        match (name, words) {
            (b"include", [path]) => self.include(path),
            (b"rename-command", [from, to]) => {
                self.config.renamed_commands.push((from.to_ascii_lowercase(), to.to_ascii_lowercase()));
                Ok(())
            }
            (b"user", [_, ..]) => {
                self.users.push((words.to_vec(), self.at.clone()));
                Ok(())
            }
            (b"loadmodule", [_, ..]) => {
                Err(Support::Refused(because::MODULE).refusal("loadmodule").unwrap_or_default().into())
            }
            // Thresholds Redis dropped in 3.2 and still reads over.
            (b"list-max-ziplist-entries" | b"list-max-ziplist-value", [_]) => Ok(()),
            (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn include(&mut self, path: &[u8]) -> Result<(), Problem> {
        let path = std::str::from_utf8(path).map_err(|_| "argument must be valid UTF-8")?;
        if self.depth == MAX_INCLUDE_DEPTH {
            return Err(format!("include is nested more than {MAX_INCLUDE_DEPTH} deep").as_str().into());
        }
        let files = if path.contains(['*', '?', '[']) { expand(path) } else { vec![path.to_owned()] };
        self.depth += 1;
        let result = files.iter().try_for_each(|file| self.file(file));
        self.depth -= 1;
        result.map_err(Problem::Nested)
    }

    /// The configuration, complete.
    ///
    /// # Errors
    /// Something is set that protects data and is not supported.
    pub(crate) fn finish(mut self) -> Result<Loaded, LoadError> {
        let mut warnings = Vec::new();
        let defaults = Config::default();
        for directive in DIRECTIVES.iter().filter(|d| !d.same(&self.config, &defaults)) {
            if let Some(reason) = directive.support.refusal(directive.name()) {
                let at = self.guards.iter().find(|(name, _)| *name == directive.name());
                return Err(at.map(|(_, place)| place.clone()).unwrap_or_default().refuse(reason));
            }
            warnings.extend(directive.support.warning(directive.name()));
        }
        for (newer, words, place) in self.newer {
            let Some(support) = newer.support(&words) else { continue };
            if let Some(reason) = support.refusal(newer.name) {
                return Err(place.refuse(reason));
            }
            warnings.extend(support.warning(newer.name));
        }
        for (words, place) in self.users {
            users::accept(&words, &mut self.config.requirepass).map_err(|reason| place.refuse(reason))?;
        }
        Ok(Loaded { config: self.config, warnings })
    }
}

/// A line as an error shows it, which ends up in logs: without passwords.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line).into_owned();
    let (name, rest) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
    if super::is_secret(name.as_bytes()) {
        return format!("{name} (redacted)");
    }
    if !name.eq_ignore_ascii_case("user") {
        return text;
    }
    let words = rest.split(' ').map(|word| match word.trim_start_matches(['"', '\'']).chars().next() {
        Some(mark @ ('>' | '#' | '<' | '!')) => format!("{mark}(redacted)"),
        _ => word.to_owned(),
    });
    format!("{name} {}", words.collect::<Vec<_>>().join(" "))
}

/// What stopped a line: a reason of its own, or an error within a file it includes.
enum Problem {
    Reason(String),
    Nested(LoadError),
}

impl From<&str> for Problem {
    fn from(reason: &str) -> Self {
        Problem::Reason(reason.to_owned())
    }
}

impl From<String> for Problem {
    fn from(reason: String) -> Self {
        Problem::Reason(reason)
    }
}

fn read_bounded(path: &str) -> std::io::Result<Vec<u8>> {
    let mut input: Box<dyn Read> =
        if path == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    let mut text = Vec::new();
    let read = input.by_ref().take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The files a pattern matches, each component of its path on its own, in order of name.
fn expand(pattern: &str) -> Vec<String> {
    let root = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
    let mut found = vec![root];
    for component in pattern.split('/').filter(|c| !c.is_empty()) {
        found = found.iter().flat_map(|folder| step(folder, component)).collect();
    }
    found.retain(|path| path.is_file());
    found.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn step(folder: &Path, component: &str) -> Vec<PathBuf> {
    if !component.contains(['*', '?', '[']) {
        return vec![folder.join(component)];
    }
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut names: Vec<String> = std::fs::read_dir(listed)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') || component.starts_with('.'))
        .filter(|name| glob_match(component.as_bytes(), name.as_bytes(), false))
        .collect();
    names.sort_unstable();
    names.iter().map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Loaded, LoadError> {
        let mut loader = Loader::default();
        loader.text(text.as_bytes(), "")?;
        loader.finish()
    }

    #[test]
    fn later_lines_win_and_comments_are_skipped() {
        let loaded = load("# comment\n\nPORT 1\nport 7000\r\nslaveof \"127.0.0.1 6379\"\n").expect("loads");
        assert_eq!(loaded.config.port, 7000);
        assert_eq!(loaded.config.replicaof.0, Some(("127.0.0.1".into(), 6379)));
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn save_lines_of_all_texts_add_up() {
        let loaded = load("save 900 1 300 10\nsave 60 5").expect("loads");
        assert_eq!(loaded.config.save.0.len(), 3);
        let loaded = load("save \"\"\nsave 1 1").expect("loads");
        assert_eq!(loaded.config.save.0.len(), 1);
    }

    #[test]
    fn errors_have_the_form_of_redis() {
        let error = load("port 1\nfoo \"bar\"").expect_err("unknown").to_string();
        assert_eq!(
            error,
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
             Reading the configuration file, at line 2\n>>> 'foo \"bar\"'\n\
             Bad directive or wrong number of arguments"
        );
        for (line, reason) in [
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("bind", "wrong number of arguments"),
            ("slaveof a", "wrong number of arguments"),
            ("bind \"a", "Unbalanced quotes in configuration line"),
            ("rename-command GET", "Bad directive or wrong number of arguments"),
            ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
            ("dir /nowhere/at/all", "No such file or directory"),
            ("shards 3", "argument must be a power of two"),
        ] {
            match load(line) {
                Err(LoadError::Line { reason: got, .. }) => assert_eq!(got, reason, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_has_no_effect_yet_is_warned_about() {
        let text =
            "appendonly no\nactivedefrag yes\nactiverehashing no\navailability-zone here\nlookahead 16";
        let warnings = load(text).expect("loads").warnings;
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        for name in ["'activedefrag'", "'activerehashing'", "'availability-zone'"] {
            assert!(warnings.iter().any(|w| w.contains(name)), "{name}");
        }
    }

    #[test]
    fn what_protects_data_is_refused_with_its_place_unless_it_is_off() {
        for line in [
            "aclfile /etc/users.acl",
            "tls-port 6380",
            "tls-replication yes",
            "tls-cert-file /c.pem",
            "tls-auth-clients no",
            "cluster-enabled yes",
            "user alice on nopass ~* +@all",
            "user default on nopass ~app:* &* +@all",
            "loadmodule /m.so",
            "syslog-enabled yes",
            "unixsocketgroup redis",
            "tls-auth-clients-user CN",
            "import-mode yes",
        ] {
            match load(&format!("port 1\n{line}\nhz 10")) {
                Err(LoadError::Line { line: 2, text, reason, .. }) => {
                    assert_eq!(text, line);
                    let what_to_do = ["remove the line", "set 'cluster-enabled no'", "with 'import-mode no'"];
                    assert!(what_to_do.iter().any(|text| reason.contains(text)), "{reason}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        for text in [
            "aclfile \"\"\ntls-port 0\ncluster-enabled no\nunixsocketgroup \"\"\nimport-mode no",
            "tls-port 6380\ntls-port 0\ncluster-enabled yes\ncluster-enabled no\nimport-mode yes\nimport-mode no",
            "user default on nopass ~* &* +@all",
        ] {
            assert_eq!(load(text).expect(text).warnings, Vec::<String>::new());
        }
        assert_eq!(load("user default on >secret ~* &* +@all").expect("loads").config.requirepass, b"secret");
    }

    #[test]
    fn an_error_shows_no_password() {
        for line in [
            "requirepass s3cret s3cret",
            "user a on >s3cret ~* +@all",
            "masterauth \"s3cret",
            "user a on \">s3cret\"",
        ] {
            let text = load(line).expect_err("refused").to_string();
            assert!(text.contains("(redacted)") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn another_name_of_a_directive_is_that_directive() {
        let loaded =
            load("primaryauth secret\nprimaryuser repl\ncommandlog-execution-slower-than 7").expect("loads");
        let c = &loaded.config;
        assert_eq!((c.masterauth.as_slice(), c.masteruser.as_slice()), (&b"secret"[..], &b"repl"[..]));
        assert_eq!((c.slowlog_log_slower_than, loaded.warnings.len()), (7, 0));
    }

    #[test]
    fn includes_follow_patterns_and_stop_at_cycles() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("a.conf"), "port 1\n").expect("write");
        std::fs::write(path("b.conf"), format!("port 2\ninclude {}\n", path("inner"))).expect("write");
        std::fs::write(path("inner"), "hz 42\nnonsense\n").expect("write");
        std::fs::write(path("cycle"), format!("include {}\n", path("cycle"))).expect("write");

        let error = load(&format!("include {}", path("*.conf"))).expect_err("nonsense").to_string();
        assert!(error.contains(&format!("at line 2 of {}", path("inner"))), "{error}");
        std::fs::write(path("inner"), "hz 42\n").expect("write");
        let loaded = load(&format!("include {}", path("[ab].conf"))).expect("loads");
        assert_eq!((loaded.config.port, loaded.config.hz), (2, 42));
        assert!(load(&format!("include {}", path("none*"))).is_ok());
        assert!(load(&format!("include {}", path("cycle"))).is_err());
        let error = load("include no/such/file").expect_err("absent").to_string();
        assert_eq!(error, "Fatal error, can't open config file 'no/such/file': No such file or directory");
    }
}
