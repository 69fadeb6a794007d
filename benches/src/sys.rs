//! The few system calls std has no safe form of. Each function is safe to call: none takes a
//! pointer from its caller, and none keeps one.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

/// Write end of the pipe that tells of an interrupt; -1 until it exists.
static INTERRUPT_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn interrupted(_signal: libc::c_int) {
    // Only async-signal-safe calls here: an atomic load and one write.
    let byte = 1u8;
    // SAFETY: writes one byte from a live local; a bad descriptor is an error, not a fault.
    unsafe { libc::write(INTERRUPT_PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

/// Calls `then` on a thread of its own when SIGINT, SIGTERM or SIGHUP arrives.
pub(crate) fn on_interrupt(then: impl FnOnce() + Send + 'static) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return;
    }
    INTERRUPT_PIPE.store(ends[1], Ordering::Relaxed);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = interrupted as extern "C" fn(libc::c_int);
        // SAFETY: the handler is async-signal-safe, see above.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    std::thread::spawn(move || {
        let mut byte = 0u8;
        loop {
            // SAFETY: reads at most one byte into a live local.
            let n = unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
            if n == 1 {
                return then();
            }
        }
    });
}

/// Real-time priority of the probe.
pub(crate) const OF_THE_PROBE: i32 = 1;
/// Real-time priority of those who watch the machine itself.
pub(crate) const ABOVE_THE_PROBE: i32 = 2;

/// Keeps the calling thread on one processor. Returns whether that was possible.
pub(crate) fn stay_on(processor: usize) -> bool {
    if processor >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: a processor set is plain bits, all zero is the empty one, and the index was checked.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
    }
}

/// Gives the calling thread real-time priority and exact sleeps, where the system allows it.
/// Returns whether it did, because latencies measured without it include the bench's own waits.
pub(crate) fn become_realtime(priority: i32) -> bool {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: plain values and a live local; 0 means the calling thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) == 0
    }
}

/// Kills a process group at once. A group that is gone already is fine.
pub(crate) fn kill_group(leader: u32) {
    let Ok(pid) = i32::try_from(leader) else { return };
    if pid > 1 {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
    }
}

/// Makes the program start as leader of its own group, in the given cgroups (their
/// `cgroup.procs` files), and die with the bench even if that is killed outright.
pub(crate) fn prepare(command: &mut Command, cgroups: Vec<PathBuf>) {
    command.process_group(0);
    let files: Vec<_> =
        cgroups.iter().filter_map(|p| std::fs::OpenOptions::new().write(true).open(p).ok()).collect();
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls
    // (prctl and write); the files were opened before the fork.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            for file in &files {
                if libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Waits until everything written to the file system under `dir` has reached its device.
pub(crate) fn sync_file_system(dir: &std::path::Path) -> io::Result<()> {
    let handle = std::fs::File::open(dir)?;
    // SAFETY: the descriptor is live for the call.
    if unsafe { libc::syncfs(handle.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Clock ticks a second, the unit of `/proc/PID/stat`.
pub(crate) fn clock_ticks() -> f64 {
    // SAFETY: no memory is involved.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// Waits up to `timeout_ms` until some of these connections have something to read; says which, by their indices.
pub(crate) fn wait_readable(streams: &[&std::net::TcpStream], timeout_ms: i32) -> io::Result<Vec<usize>> {
    let entry =
        |s: &&std::net::TcpStream| libc::pollfd { fd: s.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = streams.iter().map(entry).collect();
    // SAFETY: the array is live and its length is passed with it; the descriptors are borrowed for the call.
    let n = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout_ms) };
    if n < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(Vec::new()) } else { Err(error) };
    }
    Ok(entries.iter().enumerate().filter(|(_, e)| e.revents != 0).map(|(i, _)| i).collect())
}
