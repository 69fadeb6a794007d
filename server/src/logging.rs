//! The server's log, in the line form of Redis: `PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message`.
//!
//! Roles are `M` (primary), `S` (replica) and `C` (starting, or a child); levels are `.` (debug), `-`
//! (verbose), `*` (notice) and `#` (warning). A line goes to standard output, or to the end of `logfile`, which
//! is opened anew for every line, so that a log rotated by rename needs no signal. A line is one `write`, so
//! that lines of several threads never mix.

use std::fmt::Arguments;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;

use crate::config::{Config, LogLevel, os_reason};
use crate::os;

/// What the server is at the moment, as a log line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Role {
    /// Not serving yet.
    Starting = b'C',
    /// A primary.
    Primary = b'M',
    /// A replica.
    Replica = b'S',
}

static THRESHOLD: AtomicU8 = AtomicU8::new(LogLevel::Notice as u8);
static ROLE: AtomicU8 = AtomicU8::new(Role::Starting as u8);
static FILE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Longer messages are cut, as in Redis.
pub(crate) const MAX_MESSAGE: usize = 1024;

/// Sends the log where `config` says, from its level upwards.
///
/// # Errors
/// The log file cannot be written, or syslog is asked for, which Sluice does not write to.
pub(crate) fn configure(config: &Config) -> Result<(), String> {
    if config.syslog_enabled {
        return Err(
            "Sluice does not log to syslog; set 'syslog-enabled no' and use logfile or standard output"
                .into(),
        );
    }
    set_level(config.loglevel);
    let file = (!config.logfile.is_empty()).then(|| config.dir.join(&config.logfile));
    if let Some(path) = &file {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|e| format!("Can't open the log file: {}", os_reason(&e)))?;
    }
    *FILE.write() = file;
    Ok(())
}

/// Logs from `level` upwards.
pub(crate) fn set_level(level: LogLevel) {
    THRESHOLD.store(level as u8, Ordering::Relaxed);
}

/// Marks the following lines with `role`.
pub(crate) fn set_role(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
}

/// Whether a message of `level` is logged; asked by the macros before a message is formatted.
pub(crate) fn enabled(level: LogLevel) -> bool {
    level as u8 >= THRESHOLD.load(Ordering::Relaxed)
}

/// Writes a line. Use the macro `log!`, which does not format what is not shown.
pub(crate) fn write(level: LogLevel, message: Arguments<'_>) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let role = ROLE.load(Ordering::Relaxed) as char;
    let time = os::local_time(since_1970.as_secs() as i64);
    let text = line(std::process::id(), role, time, since_1970.subsec_millis(), level, message);
    // A log that cannot be written must not stop the server.
    let _ = match &*FILE.read() {
        Some(path) => std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes())),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
}

fn line(
    pid: u32,
    role: char,
    t: os::LocalTime,
    millis: u32,
    level: LogLevel,
    message: Arguments<'_>,
) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mark = match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning => '#',
    };
    let mut text = format!(
        "{pid}:{role} {:02} {} {:04} {:02}:{:02}:{:02}.{millis:03} {mark} ",
        t.day, MONTHS[t.month], t.year, t.hour, t.minute, t.second
    );
    let start = text.len();
    let _ = std::fmt::Write::write_fmt(&mut text, message);
    if text.len() - start > MAX_MESSAGE {
        let mut end = start + MAX_MESSAGE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text.push('\n');
    text
}

/// Logs a message of a level: `log!(Notice, "loaded {n} keys")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)*) => {
        if $crate::logging::enabled($crate::config::LogLevel::$level) {
            $crate::logging::write($crate::config::LogLevel::$level, format_args!($($message)*));
        }
    };
}

/// The first lines of a start; `configured` says that a file or flags were given.
pub(crate) fn starting(configured: bool) {
    log!(Warning, "oO0OoO0OoO0Oo Sluice is starting oO0OoO0OoO0Oo");
    log!(
        Warning,
        "Sluice version={}, Redis version={}, bits={}, commit=00000000, modified=0, pid={}, just started",
        env!("CARGO_PKG_VERSION"),
        crate::version::REDIS_VERSION,
        usize::BITS,
        std::process::id()
    );
    if configured {
        log!(Warning, "Configuration loaded");
    } else {
        log!(
            Warning,
            "Warning: no config file specified, using the default config. In order to specify a config file use \
             sluice-server /path/to/redis.conf"
        );
    }
}

/// The lines once the sockets listen and before data is loaded.
pub(crate) fn initialized(port: u16, logo: bool) {
    if logo {
        // Redis draws its logo with these beside it; its own test suite waits for the process id.
        log!(Notice, "Running in standalone mode. Port: {port} PID: {}", std::process::id());
    } else {
        log!(Notice, "Running mode=standalone, port={port}.");
    }
    log!(Warning, "Server initialized");
}

/// The line others wait for.
pub(crate) fn ready() {
    log!(Notice, "Ready to accept connections");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_form_of_redis() {
        let time = os::LocalTime { year: 2026, month: 10, day: 3, hour: 9, minute: 5, second: 1 };
        assert_eq!(
            line(42, 'M', time, 7, LogLevel::Notice, format_args!("Ready to accept {}", "connections")),
            "42:M 03 Nov 2026 09:05:01.007 * Ready to accept connections\n"
        );
        let long = line(1, 'S', time, 0, LogLevel::Warning, format_args!("{}", "é".repeat(MAX_MESSAGE)));
        assert!(long.len() < MAX_MESSAGE + 64 && long.contains(" # "));
    }

    #[test]
    fn syslog_and_unwritable_files_are_refused() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            configure(&config).expect_err("refused")
        };
        assert!(with(|c| c.syslog_enabled = true).contains("syslog"));
        assert!(with(|c| c.logfile = "/no/such/folder/log".into()).contains("No such file"));
    }
}
