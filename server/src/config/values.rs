//! Single values of directives: how each type is read from words, shown by CONFIG GET, and written back by
//! CONFIG REWRITE. The error texts are those clients of the Redis family know.

use std::path::{Path, PathBuf};

use sluice_engine::internals::num::parse_i64;

use super::words::quote;

/// What a directive accepts, beside its type.
#[derive(Clone, Copy)]
pub(crate) enum Spec {
    /// Whatever the type accepts.
    Any,
    /// A whole number in this range, both ends included.
    Range(i128, i128),
    /// A power of two of at most this.
    PowerOfTwo(i128),
    /// A memory size (`1gb`) in this range of bytes, both ends included.
    Bytes(u64, u64),
    /// A file mode in octal.
    Octal,
    /// A string this function accepts.
    Checked(fn(&[u8]) -> Result<(), &'static str>),
}

/// Where a value comes from: some directives add up within a file, and replace at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A configuration file or the command line; `first` is true on the directive's first line.
    File {
        /// No earlier line gave this directive.
        first: bool,
    },
    /// `CONFIG SET`.
    Runtime,
}

/// A value a directive can hold.
pub(crate) trait Setting {
    /// Takes the value from `words`, or says why not.
    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec, origin: Origin) -> Result<(), String>;
    /// The value as CONFIG GET shows it.
    fn show(&self, spec: &Spec) -> Vec<u8>;
    /// The lines CONFIG REWRITE writes for it. None: the directive is left out.
    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &self.show(spec))]
    }
}

/// `name value`.
pub(crate) fn line(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b" ", value].concat()
}

/// The only word, for directives of one value.
pub(crate) fn one(words: &[Vec<u8>]) -> Result<&[u8], String> {
    match words {
        [word] => Ok(word),
        _ => Err("wrong number of arguments".into()),
    }
}

impl Setting for bool {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let word = one(words)?;
        *self = match () {
            () if word.eq_ignore_ascii_case(b"yes") => true,
            () if word.eq_ignore_ascii_case(b"no") => false,
            () => return Err("argument must be 'yes' or 'no'".into()),
        };
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        if *self { b"yes".to_vec() } else { b"no".to_vec() }
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => { $(
        impl Setting for $ty {
            fn assign(&mut self, words: &[Vec<u8>], spec: &Spec, _: Origin) -> Result<(), String> {
                *self = number(one(words)?, spec)?
                    .try_into()
                    .map_err(|_| format!("argument must be between {} and {} inclusive", <$ty>::MIN, <$ty>::MAX))?;
                Ok(())
            }

            fn show(&self, spec: &Spec) -> Vec<u8> {
                if let Spec::Octal = spec { format!("{self:o}").into_bytes() } else { self.to_string().into_bytes() }
            }

            fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
                let value = match spec {
                    Spec::Bytes(..) => size_with_unit(*self as u64),
                    _ => self.show(spec),
                };
                vec![line(name, &value)]
            }
        }
    )* };
}
numbers!(u16 i32 u32 i64 u64 usize);

fn number(word: &[u8], spec: &Spec) -> Result<i128, String> {
    let (value, low, high) = match *spec {
        Spec::Bytes(low, high) => {
            let bytes = memory_size(word).ok_or("argument must be a memory value")?;
            (i128::from(bytes), i128::from(low), i128::from(high))
        }
        Spec::Octal => {
            let value = std::str::from_utf8(word)
                .ok()
                .and_then(|w| i128::from_str_radix(w, 8).ok())
                .ok_or("argument couldn't be parsed as an octal number")?;
            (value, 0, 0o777)
        }
        Spec::PowerOfTwo(high) => {
            let value = i128::from(strict_int(word)?);
            if value.count_ones() != 1 {
                return Err("argument must be a power of two".into());
            }
            (value, 1, high)
        }
        Spec::Range(low, high) => (i128::from(strict_int(word)?), low, high),
        Spec::Any | Spec::Checked(_) => (i128::from(strict_int(word)?), i128::MIN, i128::MAX),
    };
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(format!("argument must be between {low} and {high} inclusive"))
    }
}

fn strict_int(word: &[u8]) -> Result<i64, String> {
    parse_i64(word).ok_or_else(|| "argument couldn't be parsed into an integer".into())
}

/// Bytes of a size such as `512`, `10k` (thousands) or `1gb` (powers of 1024). Sizes beyond 64 bits saturate,
/// as `strtoull` does, so that the range check reports them.
pub(crate) fn memory_size(word: &[u8]) -> Option<u64> {
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    if number.is_empty() {
        return None;
    }
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = number.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')));
    Some(number.saturating_mul(scale))
}

/// A size with the largest unit that divides it, as CONFIG REWRITE writes sizes.
pub(crate) fn size_with_unit(bytes: u64) -> Vec<u8> {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift).into_bytes();
        }
    }
    bytes.to_string().into_bytes()
}

/// Text: names, paths, addresses. UTF-8, so that the rest of the server can use it as such.
impl Setting for String {
    fn assign(&mut self, words: &[Vec<u8>], spec: &Spec, _: Origin) -> Result<(), String> {
        let word = one(words)?;
        if let Spec::Checked(check) = spec {
            check(word)?;
        }
        *self = String::from_utf8(word.to_vec()).map_err(|_| "argument must be valid UTF-8")?;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn lines(&self, name: &str, _: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &quote(self.as_bytes()))]
    }
}

/// Secrets: any bytes.
impl Setting for Vec<u8> {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        *self = one(words)?.to_vec();
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        self.clone()
    }

    fn lines(&self, name: &str, _: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &quote(self))]
    }
}

/// A folder that exists, as an absolute path. A relative one is taken from the folder set before.
impl Setting for PathBuf {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        let word = String::from_utf8(one(words)?.to_vec()).map_err(|_| "argument must be valid UTF-8")?;
        let path = self.join(Path::new(&word)).canonicalize().map_err(|e| os_reason(&e))?;
        if !path.is_dir() {
            return Err("Not a directory".into());
        }
        *self = path;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        self.to_string_lossy().into_owned().into_bytes()
    }

    fn lines(&self, name: &str, spec: &Spec) -> Vec<Vec<u8>> {
        vec![line(name, &quote(&self.show(spec)))]
    }
}

/// The system's words for an error, without the number std appends to them.
pub(crate) fn os_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// An enum whose variants are the words of a directive.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Every variant with its word, in the order error texts list them.
    const WORDS: &'static [(&'static str, Self)];

    /// The variant's word.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, v)| *v == self).map_or("", |(w, _)| w)
    }

    /// The variant of a word, in any case.
    fn of(word: &[u8]) -> Option<Self> {
        Self::WORDS.iter().find(|(w, _)| w.as_bytes().eq_ignore_ascii_case(word)).map(|(_, v)| *v)
    }

    /// The error for a word that is none of them.
    fn expected() -> String {
        let words: Vec<_> = Self::WORDS.iter().map(|(w, _)| *w).collect();
        format!("argument(s) must be one of the following: {}", words.join(", "))
    }
}

impl<C: Choice> Setting for C {
    fn assign(&mut self, words: &[Vec<u8>], _: &Spec, _: Origin) -> Result<(), String> {
        *self = C::of(one(words)?).ok_or_else(C::expected)?;
        Ok(())
    }

    fn show(&self, _: &Spec) -> Vec<u8> {
        self.word().as_bytes().to_vec()
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub(crate) enum $name { $($variant),* }
        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant)),*];
        }
    )* };
}

choices! {
    /// How much is logged.
    LogLevel { Debug = "debug", Verbose = "verbose", Notice = "notice", Warning = "warning" }
    /// Who supervises the process.
    Supervised { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" }
    /// The syslog facility.
    SyslogFacility {
        User = "user", Local0 = "local0", Local1 = "local1", Local2 = "local2", Local3 = "local3",
        Local4 = "local4", Local5 = "local5", Local6 = "local6", Local7 = "local7",
    }
    /// Who may use a guarded feature.
    Guarded { No = "no", Yes = "yes", Local = "local" }
    /// What to do at the memory limit.
    EvictionPolicy {
        VolatileLru = "volatile-lru", VolatileLfu = "volatile-lfu", VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl", AllkeysLru = "allkeys-lru", AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random", NoEviction = "noeviction",
    }
    /// When the append-only file is synced.
    Fsync { Everysec = "everysec", Always = "always", No = "no" }
    /// Whether a replica loads a full sync straight from the socket.
    DisklessLoad { Disabled = "disabled", OnEmptyDb = "on-empty-db", Swapdb = "swapdb" }
    /// Which full-sync transport a primary uses; `Auto` follows `repl-diskless-sync`.
    ReplTransport { Auto = "auto", Disk = "disk", Socket = "socket", IoUring = "io-uring" }
    /// Whether frames of a full sync between Sluice servers are compressed.
    ReplCompression { No = "no", Lz4 = "lz4" }
    /// Whether the payload of a DUMP or RDB is checked in depth.
    Sanitize { No = "no", Yes = "yes", Clients = "clients" }
    /// How oom-score-adj-values are applied.
    OomScoreAdj { No = "no", Yes = "yes", Relative = "relative", Absolute = "absolute" }
    /// The channels a new user may use.
    PubsubDefault { AllChannels = "allchannels", ResetChannels = "resetchannels" }
    /// Whether a TLS client must show a certificate.
    TlsAuth { No = "no", Yes = "yes", Optional = "optional" }
    /// How a cluster node is announced.
    Endpoint { Ip = "ip", Hostname = "hostname", Unknown = "unknown-endpoint" }
    /// What a replica does about an error in its primary's stream. `resync` is our own.
    PropagationError { Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas", Resync = "resync" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign<S: Setting>(mut value: S, word: &str, spec: Spec) -> Result<Vec<u8>, String> {
        value.assign(&[word.as_bytes().to_vec()], &spec, Origin::Runtime)?;
        Ok(value.show(&spec))
    }

    #[test]
    fn numbers_keep_to_their_range_and_form() {
        let port = Spec::Range(0, 65535);
        assert_eq!(assign(0u16, "6379", port), Ok(b"6379".to_vec()));
        assert_eq!(assign(0u16, "99999", port), Err("argument must be between 0 and 65535 inclusive".into()));
        for bad in ["abc", "", "+1", "01", "1 2", "-", "99999999999999999999"] {
            assert_eq!(
                assign(0u16, bad, port),
                Err("argument couldn't be parsed into an integer".into()),
                "{bad}"
            );
        }
        assert_eq!(
            assign(0u32, "8", Spec::Octal),
            Err("argument couldn't be parsed as an octal number".into())
        );
        assert_eq!(assign(0u32, "755", Spec::Octal), Ok(b"755".to_vec()));
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("1k", 1000), ("1Kb", 1024), ("2MB", 2 << 20), ("3g", 3_000_000_000), ("5b", 5)]
        {
            assert_eq!(memory_size(text.as_bytes()), Some(bytes), "{text}");
        }
        for bad in ["", "1x", "-1", "kb", "1 kb"] {
            assert_eq!(memory_size(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(memory_size(b"99999999999999999999gb"), Some(u64::MAX));
        assert_eq!(size_with_unit(3 << 20), b"3mb");
        assert_eq!(size_with_unit(1025), b"1025");
        assert_eq!(size_with_unit(0), b"0");
    }

    #[test]
    fn choices_list_what_they_expect() {
        assert_eq!(assign(LogLevel::Notice, "DEBUG", Spec::Any), Ok(b"debug".to_vec()));
        assert_eq!(
            assign(LogLevel::Notice, "x", Spec::Any),
            Err("argument(s) must be one of the following: debug, verbose, notice, warning".into())
        );
    }
}
