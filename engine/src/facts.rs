//! What is known of a command beyond its row: how it uses each key, its arguments, hints for those who send it.
//!
//! COMMAND INFO and COMMAND DOCS tell it to clients, which complete what a person types and route by it. It is read from
//! two texts that are part of the program: `facts/redis.txt`, which `scripts/command-facts` writes from what a real
//! server says, and `facts/own.txt` for what that server does not have. They may speak of commands without a row.
//!
//! ```text
//! lpop                                             a command, `client|kill` a subcommand; what follows is indented
//!   complexity O(N)
//!   history 6.2.0                                  versions that changed it
//!   deprecated 6.2.0 `LMOVE`                       since when, and by what it is replaced
//!   syscmd                                         of the system, not for people
//!   tip nondeterministic_output
//!   key RW access delete at index 1 range 0 1 0    access, where the search begins, how keys are found from there
//!   unless GET OW update                           the access where none of these words is among the arguments
//!   arg key key key=0                              name, type, index of its key spec, token=, since=, deprecated=, flags
//!     arg inner integer                            an argument inside `oneof` or `block`
//! ```

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXTS: [&str; 2] = [include_str!("facts/redis.txt"), include_str!("facts/own.txt")];

/// Facts of one command or subcommand.
#[derive(Debug, Default)]
pub struct Facts {
    /// How its time grows: `O(N)`.
    pub complexity: Option<&'static str>,
    /// Versions of Redis that changed it.
    pub history: Vec<&'static str>,
    /// The version it is deprecated since, and what replaces it.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Used by servers among themselves.
    pub system: bool,
    /// Hints for clients and proxies.
    pub tips: Vec<&'static str>,
    /// Its keys.
    pub keys: Vec<Keys>,
    /// Its arguments, without the name.
    pub arguments: Vec<Argument>,
}

/// Keys of one kind of access.
#[derive(Debug)]
pub struct Keys {
    /// How they are used: `RW`, `RO`, `OW` or `RM`, then `access`, `update`, `insert`, `delete`, and what else is known.
    pub access: Vec<&'static str>,
    /// The access where none of these words is among the arguments.
    pub unless: Option<(Vec<&'static str>, Vec<&'static str>)>,
    /// Where the search begins.
    pub begin: Begin,
    /// How keys are found from there.
    pub find: Find,
}

/// Where a search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, looked for from this argument on; negative: from the end, backwards.
    Keyword(&'static str, i64),
    /// Not to be told.
    Unknown,
}

/// How keys are found from where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// To the `last` (relative; negative: from the end), each `step`; a `limit` of 2 means the first half of what is left.
    Range {
        /// The last key.
        last: i64,
        /// Distance between keys.
        step: usize,
        /// What part of the rest holds keys: 0 and 1 all of it.
        limit: usize,
    },
    /// Their number stands at `count`, the first at `first`, both relative.
    Counted {
        /// Place of the number.
        count: usize,
        /// Place of the first key.
        first: usize,
        /// Distance between keys.
        step: usize,
    },
    /// Not to be told.
    Unknown,
}

/// One argument.
#[derive(Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// `string`, `integer`, `key`, `oneof`, `block`...
    pub kind: &'static str,
    /// Which of [`Facts::keys`] it is.
    pub key: Option<i64>,
    /// The word it stands behind, or is.
    pub token: Option<&'static str>,
    /// The first version with it, where it is younger than the command.
    pub since: Option<&'static str>,
    /// The version it is deprecated since.
    pub deprecated: Option<&'static str>,
    /// `optional`, `multiple`, `multiple_token`.
    pub flags: Vec<&'static str>,
    /// The arguments inside it.
    pub inner: Vec<Argument>,
}

/// The facts of a command (`set`) or a subcommand (`client|kill`), by its lower-case name.
pub fn facts(name: &str) -> Option<&'static Facts> {
    static ALL: LazyLock<HashMap<&'static str, Facts>> = LazyLock::new(|| {
        let mut all = HashMap::new();
        TEXTS.iter().for_each(|text| read(text, &mut all));
        all
    });
    ALL.get(name)
}

impl Facts {
    /// Is it deprecated, or not for people?
    pub fn is_marked(&self) -> bool {
        self.deprecated.is_some() || self.system
    }
}

impl Keys {
    /// Can every key of this kind be found?
    pub fn is_complete(&self) -> bool {
        self.begin != Begin::Unknown && self.find != Find::Unknown && !self.access.contains(&"incomplete")
    }

    /// Is it a key at all, and not a name that is hashed like one?
    pub fn is_key(&self) -> bool {
        !self.access.contains(&"not_key")
    }

    /// The access with these arguments.
    pub fn access_of(&self, args: &[&[u8]]) -> &[&'static str] {
        match &self.unless {
            Some((words, access)) => {
                let given = |w: &&str| args.iter().any(|a| a.eq_ignore_ascii_case(w.as_bytes()));
                if words.iter().any(given) { &self.access } else { access }
            }
            None => &self.access,
        }
    }

    /// The position of each key among `args` (the command's name is argument 0), as far as they can be told. `None` where
    /// the arguments do not hold what they announce.
    pub fn positions(&self, args: &[&[u8]]) -> Option<Vec<usize>> {
        let begin = match self.begin {
            Begin::Index(i) => i,
            Begin::Keyword(word, from) => match behind(word, from, args) {
                Some(i) => i,
                None => return Some(Vec::new()),
            },
            Begin::Unknown => return Some(Vec::new()),
        };
        let end = args.len() as i64;
        let (first, last, step) = match self.find {
            Find::Range { last: -1, step, limit } if limit > 1 => {
                (begin, begin as i64 + (end - begin as i64) / limit as i64 - 1, step)
            }
            Find::Range { last, step, .. } if last < 0 => (begin, end + last, step),
            Find::Range { last, step, .. } => (begin, begin as i64 + last, step),
            Find::Counted { count, first, step } => {
                let number = crate::num::parse_i64(args.get(begin + count)?)?;
                // More than there can be is as wrong as any more.
                let number = number.clamp(0, end);
                (begin + first, (begin + first) as i64 + (number - 1) * step as i64, step)
            }
            Find::Unknown => return Some(Vec::new()),
        };
        let inside = first < args.len() && last < end && last >= first as i64;
        inside.then(|| (first..=last as usize).step_by(step.max(1)).collect())
    }
}

/// The argument behind `word`, looked for from `from` on; negative: from the end, backwards.
fn behind(word: &str, from: i64, args: &[&[u8]]) -> Option<usize> {
    let is = |i: &usize| args[*i].eq_ignore_ascii_case(word.as_bytes());
    let at = if from >= 0 {
        (from as usize..args.len()).find(is)
    } else {
        (1..(args.len() + 1).saturating_sub(from.unsigned_abs() as usize)).rev().find(is)
    };
    at.map(|i| i + 1)
}

/// Reads one text. It is part of the program and checked by a test, hence the panics.
fn read(text: &'static str, all: &mut HashMap<&'static str, Facts>) {
    let lines: Vec<&'static str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let mut at = 0;
    while at < lines.len() {
        let name = lines[at];
        at += 1;
        let mut facts = Facts::default();
        while at < lines.len() && lines[at].starts_with(' ') {
            if lines[at].trim_start().starts_with("arg ") {
                facts.arguments.push(argument(&lines, &mut at));
            } else {
                fact(lines[at].trim_start(), &mut facts);
                at += 1;
            }
        }
        all.insert(name, facts);
    }
}

fn fact(line: &'static str, facts: &mut Facts) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "complexity" => facts.complexity = Some(rest),
        "history" => facts.history = rest.split(' ').collect(),
        "deprecated" => facts.deprecated = rest.split_once(' '),
        "syscmd" => facts.system = true,
        "tip" => facts.tips.push(rest),
        "key" => facts.keys.push(keys(rest)),
        "unless" => {
            let (words, access) = rest.split_once(' ').expect("words, then the access");
            let keys = facts.keys.last_mut().expect("behind its keys");
            keys.unless = Some((words.split(',').collect(), access.split(' ').collect()));
        }
        _ => panic!("a fact that is not known: {line}"),
    }
}

fn keys(line: &'static str) -> Keys {
    let (access, search) = line.split_once(" at ").expect("access, then the search");
    let mut words = search.split(' ');
    let mut word = || words.next().expect("a search is complete");
    let number = |w: &str| w.parse::<i64>().expect("a number");
    let begin = match word() {
        "index" => Begin::Index(number(word()) as usize),
        "keyword" => Begin::Keyword(word(), number(word())),
        _ => Begin::Unknown,
    };
    let find = match word() {
        "range" => Find::Range {
            last: number(word()),
            step: number(word()) as usize,
            limit: number(word()) as usize,
        },
        "keynum" => Find::Counted {
            count: number(word()) as usize,
            first: number(word()) as usize,
            step: number(word()) as usize,
        },
        _ => Find::Unknown,
    };
    Keys { access: access.split(' ').collect(), unless: None, begin, find }
}

/// Reads the argument at line `at`, and those inside it: as deep as the text, which is ours, is nested.
fn argument(lines: &[&'static str], at: &mut usize) -> Argument {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let here = depth(lines[*at]);
    let mut words = lines[*at].trim_start().split(' ').skip(1);
    let mut word = || words.next().expect("an argument has a name and a type");
    let mut argument = Argument {
        name: word(),
        kind: word(),
        key: None,
        token: None,
        since: None,
        deprecated: None,
        flags: Vec::new(),
        inner: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("key", n)) => argument.key = n.parse().ok(),
            Some(("token", token)) => argument.token = Some(token),
            Some(("since", version)) => argument.since = Some(version),
            Some(("deprecated", version)) => argument.deprecated = Some(version),
            _ => argument.flags.push(word),
        }
    }
    *at += 1;
    while *at < lines.len() && depth(lines[*at]) > here {
        argument.inner.push(self::argument(lines, at));
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::KeySpec;

    fn found(facts: &Facts, args: &[&[u8]]) -> Vec<usize> {
        let complete = facts.keys.iter().filter(|k| k.is_complete());
        let mut at: Vec<usize> = complete.flat_map(|k| k.positions(args).unwrap_or_default()).collect();
        at.sort_unstable();
        at
    }

    #[test]
    fn every_command_has_facts_and_they_find_the_keys_that_its_row_locks() {
        let engine = crate::Engine::default();
        let line = "x 2 a b c d e f";
        for row in engine.commands() {
            let facts = facts(row.command.name).unwrap_or_else(|| panic!("no facts of {}", row.command.name));
            if matches!(row.command.keys, KeySpec::Custom(_)) || facts.keys.iter().any(|k| !k.is_complete()) {
                continue;
            }
            // A key, or a number of keys, stands first: both readings are tried.
            for line in [line, "x k 2 a b c d e", "x 3 2 a b c d e", "x a b c d e f g"] {
                let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                let mut locked = Vec::new();
                row.command.keys.each(&args, |i| locked.push(i));
                locked.sort_unstable();
                assert_eq!(found(facts, &args), locked, "{}: {line}", row.command.name);
            }
        }
    }

    #[test]
    fn keys_are_found_behind_a_word_and_in_the_first_half_of_the_rest() {
        let args = |line: &'static str| line.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        let xread = facts("xread").expect("carried facts");
        assert_eq!(found(xread, &args("xread count 1 streams a b 0 0")), [4, 5]);
        let migrate = facts("migrate").expect("carried facts");
        assert_eq!(migrate.keys[1].positions(&args("migrate host 1 e 0 1 copy KEYS a b")), Some(vec![8, 9]));
        let zunion = facts("zunion").expect("facts");
        assert_eq!(zunion.keys[0].positions(&args("zunion 3 a b")), None);
    }

    #[test]
    fn access_depends_on_words_where_it_does() {
        let set = &facts("set").expect("facts").keys[0];
        assert_eq!(set.access_of(&[b"set", b"k", b"v"]), ["OW", "update"]);
        assert!(set.access_of(&[b"set", b"k", b"v", b"get"]).contains(&"access"));
    }
}
