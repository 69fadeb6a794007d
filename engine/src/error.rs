//! Why a command or a call was refused, in one type for both.
//!
//! Every variant is the error line that a client of the server gets, its code first and without the leading `-`, byte for byte
//! what Redis says: that is what [`Error`]'s `Display` writes. Those with a fixed text take no memory.

use std::borrow::Cow;

/// The result of a typed call, or of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// What a command function returns; its reply went to `cx.out`.
pub type CmdResult = Result<()>;

/// Bytes of a client's word that an error repeats.
const SHOWN: usize = 128;

macro_rules! errors {
    ($($(#[$doc:meta])+ $name:ident = $text:literal;)+) => {
        /// Why a command or a call was refused; nothing has changed then.
        ///
        /// What it displays is the error as a client of the server gets it. Variants are what an embedder may want to tell
        /// apart; other refusals are [`Error::Text`].
        ///
        /// ```
        /// use sluice_engine::{Engine, Error};
        ///
        /// let engine = Engine::default();
        /// engine.db(0).set("greeting", "hello")?;
        /// // A command and a typed call fail in the same way.
        /// let refused = engine.execute(&["INCR", "greeting"]).unwrap_err();
        /// assert_eq!(refused, Error::NotInteger);
        /// assert_eq!(engine.db(0).incr_by("greeting", 1), Err(refused.clone()));
        /// assert_eq!(refused.to_string(), "ERR value is not an integer or out of range");
        /// assert_eq!(refused.code(), "ERR");
        /// # Ok::<(), Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("{}", self.message())]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])+ $name,)+
            /// `ERR unknown command ...`: the whole text, which repeats the name and its first arguments.
            UnknownCommand(Box<str>),
            /// `ERR wrong number of arguments for '...' command`: the command, or `command|subcommand`.
            WrongArity(Box<str>),
            /// `EXECABORT Transaction discarded because of: ...`: what the state of the engine or server forbids.
            Aborted(Box<Error>),
            /// Any other refusal: the whole line, code first.
            Text(Cow<'static, str>),
        }

        impl Error {
            const FIXED: &[Error] = &[$(Error::$name),+];

            const fn fixed(&self) -> Option<&'static str> {
                match self {
                    $(Error::$name => Some($text),)+
                    _ => None,
                }
            }
        }
    };
}

errors! {
    /// The key holds a value of another type.
    WrongType = "WRONGTYPE Operation against a key holding the wrong kind of value";
    /// The string is no HyperLogLog.
    NotHyperLogLog = "WRONGTYPE Key is not a valid HyperLogLog string value.";
    /// The string is a HyperLogLog whose registers are damaged.
    CorruptHyperLogLog = "INVALIDOBJ Corrupted HLL object detected";
    /// The arguments do not fit together.
    Syntax = "ERR syntax error";
    /// The value, or the argument, is no 64-bit integer.
    NotInteger = "ERR value is not an integer or out of range";
    /// The hash's field is no 64-bit integer.
    FieldNotInteger = "ERR hash value is not an integer";
    /// The value, or the argument, is no number.
    NotFloat = "ERR value is not a valid float";
    /// The hash's field is no number.
    FieldNotFloat = "ERR hash value is not a float";
    /// The sum is beyond 64 bits.
    Overflow = "ERR increment or decrement would overflow";
    /// The sum is no finite number.
    NotFinite = "ERR increment would produce NaN or Infinity";
    /// A score would be no number.
    NotANumber = "ERR resulting score is not a number (NaN)";
    /// There is no such key.
    NoSuchKey = "ERR no such key";
    /// There is no such index in the list.
    IndexOutOfRange = "ERR index out of range";
    /// There is no such database.
    NoSuchDatabase = "ERR DB index is out of range";
    /// The string would be longer than `proto-max-bulk-len` allows.
    TooLong = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    /// There is a key of that name, which was not to be replaced.
    KeyExists = "BUSYKEY Target key name already exists.";
    /// A replica takes no writes of clients.
    ReadOnlyReplica = "READONLY You can't write against a read only replica.";
    /// The server has no memory left for what would take more.
    OutOfMemory = "OOM command not allowed when used memory > 'maxmemory'.";
    /// The transaction was given up, as a command was refused when it was queued.
    AbortedByErrors = "EXECABORT Transaction discarded because of previous errors.";
    /// A cut is in progress, and there is one at a time.
    CutBusy = "ERR a cut is already in progress";
}

const UNKNOWN: &str = "ERR unknown command '";
const ARITY: (&str, &str) = ("ERR wrong number of arguments for '", "' command");
const ABORTED: &str = "EXECABORT Transaction discarded because of: ";

impl Error {
    /// A refusal with a text of its own, code first.
    pub const fn text(text: &'static str) -> Error {
        Error::Text(Cow::Borrowed(text))
    }

    /// The wrong number of arguments for a command, or for a `command|subcommand`.
    pub fn arity(name: &str) -> Error {
        Error::WrongArity(name.into())
    }

    /// There is no such command.
    pub fn unknown_command(args: &[&[u8]]) -> Error {
        let shown = |a: &[u8]| String::from_utf8_lossy(&a[..a.len().min(SHOWN)]).into_owned();
        let mut list = String::new();
        for a in args.iter().skip(1) {
            if list.len() >= SHOWN {
                break;
            }
            list.push_str(&format!("'{}' ", shown(a)));
        }
        let name = args.first().map(|name| shown(name)).unwrap_or_default();
        Error::UnknownCommand(format!("{UNKNOWN}{name}', with args beginning with: {list}").into())
    }

    /// There is no such subcommand of `command`.
    pub fn unknown_subcommand(command: &str, given: &[u8]) -> Error {
        let given = String::from_utf8_lossy(&given[..given.len().min(SHOWN)]);
        format!("ERR unknown subcommand '{given}'. Try {} HELP.", command.to_uppercase()).into()
    }

    /// The whole error line; a fixed text is not copied.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Error::Text(text) => Cow::Borrowed(text),
            Error::UnknownCommand(text) => Cow::Borrowed(text),
            Error::WrongArity(name) => Cow::Owned(format!("{}{name}{}", ARITY.0, ARITY.1)),
            Error::Aborted(why) => Cow::Owned(format!("{ABORTED}{}", why.message())),
            fixed => Cow::Borrowed(fixed.fixed().unwrap_or_default()),
        }
    }

    /// The first word: `ERR`, `WRONGTYPE`, ...
    pub fn code(&self) -> &str {
        let text = match self {
            Error::Text(text) => text,
            Error::UnknownCommand(_) | Error::WrongArity(_) => "ERR",
            Error::Aborted(_) => "EXECABORT",
            fixed => fixed.fixed().unwrap_or_default(),
        };
        text.split(' ').next().unwrap_or_default()
    }

    /// The error that a reply's line stands for.
    pub(crate) fn of_line(line: &str) -> Error {
        match line.strip_prefix(ABORTED) {
            Some(why) => Error::Aborted(Box::new(Error::of_simple_line(why))),
            None => Error::of_simple_line(line),
        }
    }

    fn of_simple_line(line: &str) -> Error {
        if let Some(known) = Error::FIXED.iter().find(|e| e.fixed() == Some(line)) {
            return known.clone();
        }
        if let Some(name) = line.strip_prefix(ARITY.0).and_then(|rest| rest.strip_suffix(ARITY.1)) {
            return Error::arity(name);
        }
        if line.starts_with(UNKNOWN) {
            return Error::UnknownCommand(line.into());
        }
        line.to_owned().into()
    }
}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_larger_than_a_text_and_neither_is_a_result() {
        let text = size_of::<Cow<'static, str>>();
        assert_eq!((size_of::<Error>(), size_of::<Result<()>>()), (text, text));
    }

    #[test]
    fn an_error_is_the_one_that_its_line_stands_for() {
        let others = [
            Error::text("ERR value is out of range"),
            Error::arity("config|get"),
            Error::unknown_command(&[b"nope", b"a"]),
            Error::Aborted(Box::new(Error::ReadOnlyReplica)),
            Error::Aborted(Box::new(Error::text("NOREPLICAS Not enough good replicas to write."))),
        ];
        for e in Error::FIXED.iter().chain(&others) {
            assert_eq!(Error::of_line(&e.to_string()), *e);
            assert!(e.to_string().starts_with(&format!("{} ", e.code())));
        }
        let deep = ABORTED.repeat(100_000);
        assert_eq!(Error::of_line(&deep).to_string(), deep);
    }

    #[test]
    fn a_fixed_text_is_not_copied() {
        let borrowed = |e: &Error| matches!(e.message(), Cow::Borrowed(_));
        assert!(Error::FIXED.iter().all(borrowed) && borrowed(&Error::text("ERR so")));
    }
}
