//! What the log says of a crash: the signal, and where each frame of the thread was.
//!
//! The handler runs on the thread that crashed, in whatever state it was. It allocates nothing: it formats into a buffer
//! on its stack and writes with `write` and `backtrace_symbols_fd`; then the signal takes its usual course, so that the
//! exit status and a core dump are what they would have been.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that end a program because of a fault in it.
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];
/// Frames shown at most.
#[cfg(target_env = "gnu")]
const FRAMES: usize = 100;

static LOG_FILE: OnceLock<CString> = OnceLock::new();
static ENABLED: AtomicBool = AtomicBool::new(true);

/// Reports crashes to this file from now on, or to the standard output where its name is empty.
pub(crate) fn install(logfile: &std::path::Path) {
    if !logfile.as_os_str().is_empty()
        && let Ok(name) = CString::new(logfile.as_os_str().as_bytes())
    {
        let _ = LOG_FILE.set(name);
    }
    // The first call loads the unwinder, which allocates; it must not happen in the handler.
    write_frames(None);
    for signal in FATAL {
        // SAFETY: a zeroed sigaction is valid; the handler keeps to what may be called in one. RESETHAND restores the
        // default, so that the signal raised again at its end, and a fault inside of it, end the process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// `crash-log-enabled`
pub(crate) fn set_enabled(on: bool) {
    ENABLED.store(on, Ordering::Relaxed);
}

extern "C" fn report(signal: libc::c_int) {
    if ENABLED.load(Ordering::Relaxed) {
        let file = match LOG_FILE.get() {
            // SAFETY: the name is a C string that lives for ever.
            Some(name) => unsafe {
                libc::open(name.as_ptr(), libc::O_APPEND | libc::O_WRONLY | libc::O_CLOEXEC)
            },
            None => libc::STDOUT_FILENO,
        };
        let mut line = [0u8; 256];
        let mut rest = &mut line[..];
        let _ = write!(
            rest,
            "\n=== SLUICE BUG REPORT START ===\n{}:M # Sluice {} crashed by signal: {signal}\n\n------ STACK TRACE ------\n",
            std::process::id(),
            env!("CARGO_PKG_VERSION"),
        );
        let length = line.iter().position(|b| *b == 0).unwrap_or(line.len());
        let end = b"\n=== SLUICE BUG REPORT END. The lines above belong into a report of this bug ===\n";
        // SAFETY: buffers and their lengths agree.
        unsafe { libc::write(file, line.as_ptr().cast(), length) };
        write_frames(Some(file));
        // SAFETY: as above.
        unsafe { libc::write(file, end.as_ptr().cast(), end.len()) };
    }
    // SAFETY: the default action is in place again.
    unsafe { libc::raise(signal) };
}

/// Writes where this thread is, a line a frame.
#[cfg(target_env = "gnu")]
fn write_frames(file: Option<libc::c_int>) {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    // SAFETY: the buffer has room for as many frames as are asked for, and is read as far as it was filled.
    unsafe {
        let count = libc::backtrace(frames.as_mut_ptr(), FRAMES as libc::c_int);
        if let Some(file) = file {
            libc::backtrace_symbols_fd(frames.as_ptr(), count, file);
        }
    }
}

/// Only the GNU C library can tell.
#[cfg(not(target_env = "gnu"))]
fn write_frames(_: Option<libc::c_int>) {}
