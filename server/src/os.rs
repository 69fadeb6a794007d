#![allow(unsafe_code)]
//! The few system calls the server needs that have no safe wrapper: local time, resource usage, the descriptor
//! limit, the machine's name and memory, and becoming a daemon.
//!
//! `unsafe` is confined to calls of libc functions that only fill a value we own; every function here is safe
//! to call from any thread, except [`daemonize`], which must be called before threads exist and says so.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Nanoseconds of the clock that only goes on: for how long something takes, where an `Instant`'s arithmetic would take longer
/// than that.
#[inline]
pub(crate) fn nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type, which is all the call writes. This clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Unix time in microseconds.
pub(crate) fn unix_micros() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// Unix time in seconds.
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A moment in the machine's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalTime {
    /// Years since 0.
    pub(crate) year: i32,
    /// 0 is January.
    pub(crate) month: usize,
    /// From 1.
    pub(crate) day: i32,
    /// 0 to 23.
    pub(crate) hour: i32,
    /// 0 to 59.
    pub(crate) minute: i32,
    /// 0 to 60.
    pub(crate) second: i32,
}

/// The local time of a moment, given in seconds since 1970.
pub(crate) fn local_time(unix_seconds: i64) -> LocalTime {
    let seconds = unix_seconds as libc::time_t;
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right type; localtime_r writes only the second. Should it
    // fail, the zeroed value stands, which is a valid `tm`.
    let tm = unsafe {
        libc::localtime_r(&seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    LocalTime {
        year: tm.tm_year + 1900,
        month: tm.tm_mon.clamp(0, 11) as usize,
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    }
}

/// Whose processor time is meant.
#[derive(Clone, Copy)]
pub(crate) enum Usage {
    /// All threads of this process.
    Process,
    /// Child processes that have ended.
    Children,
    /// The calling thread.
    Thread,
}

/// Processor time used so far, as (system, user).
pub(crate) fn cpu_time(of: Usage) -> (Duration, Duration) {
    let who = match of {
        Usage::Process => libc::RUSAGE_SELF,
        Usage::Children => libc::RUSAGE_CHILDREN,
        Usage::Thread => libc::RUSAGE_THREAD,
    };
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage writes one `rusage` to a pointer we own; all zeroes is a valid value should it fail.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (time(usage.ru_stime), time(usage.ru_utime))
}

/// Asks the scheduler to run this thread in short turns, so that it waits little for its next one. For threads that
/// serve clients, and for those that hold shard locks while clients may wait for them: a lock holder that loses the
/// processor for a whole ordinary turn costs milliseconds. Best effort: kernels before 6.12 ignore it.
pub(crate) fn short_turns() {
    turns(SHORT_TURN_NANOS);
}

/// The opposite, for threads that have much to do and nobody waiting: a thread inherits its creator's turns.
pub(crate) fn long_turns() {
    turns(LONG_TURN_NANOS);
}

fn turns(nanos: u64) {
    /// `struct sched_attr` of linux/sched/types.h, first version.
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    // SAFETY: getpriority touches no memory; sched_setattr reads `size` bytes of a structure we own.
    unsafe {
        let attr = SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            policy: libc::SCHED_OTHER as u32,
            flags: 0,
            nice: libc::getpriority(libc::PRIO_PROCESS, 0),
            priority: 0,
            runtime: nanos,
            deadline: 0,
            period: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
    }
}

/// Length of a short turn; the kernel's least is 0.1 ms.
const SHORT_TURN_NANOS: u64 = 100_000;
/// Length of a long turn: the kernel's default on small machines.
const LONG_TURN_NANOS: u64 = 3_000_000;

/// Raises the limit of open descriptors to `wanted` as far as the system lets us; returns the limit in force.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one `rlimit` to a pointer we own, setrlimit reads one.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 1024;
        }
        if limit.rlim_cur < wanted {
            let raised = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max.max(wanted) };
            let capped = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), rlim_max: limit.rlim_max };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                return raised.rlim_cur;
            }
            if libc::setrlimit(libc::RLIMIT_NOFILE, &capped) == 0 {
                return capped.rlim_cur;
            }
        }
    }
    limit.rlim_cur
}

/// The system, its release and the machine, as `uname -srm` prints them.
pub(crate) fn system_name() -> String {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: uname writes one `utsname` to a pointer we own; all zeroes (empty strings) is valid should it fail.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let text = |field: &[libc::c_char]| -> String {
        field.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect()
    };
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

/// Bytes of memory of the machine.
pub(crate) fn system_memory() -> u64 {
    // SAFETY: sysconf takes a number and returns one.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    pages.max(0) as u64 * size.max(0) as u64
}

/// Bytes of memory this process has resident, as the kernel counts them.
pub(crate) fn resident_memory() -> u64 {
    // SAFETY: as in `system_memory`.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * page
}

/// Goes on as a background process with its standard streams on /dev/null; the parent exits.
///
/// Must be called before the process has started any thread: a child of `fork` has only the calling one.
///
/// # Errors
/// What the system said; the process then stays in the foreground.
pub(crate) fn daemonize() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    use std::os::fd::AsRawFd;
    // SAFETY: the process has one thread (the caller's promise), so the child's memory is consistent; the
    // parent leaves by _exit without running destructors twice; dup2 is given descriptors that are open.
    unsafe {
        match libc::fork() {
            -1 => return Err(std::io::Error::last_os_error()),
            0 => {}
            _ => libc::_exit(0),
        }
        libc::setsid();
        for stream in 0..=2 {
            if libc::dup2(null.as_raw_fd(), stream) < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Waits until something that was begun on `socket` (a connection) is done, or failed; false where that takes longer than `wait`.
pub(crate) fn is_ready(socket: &impl std::os::fd::AsRawFd, wait: Duration) -> bool {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` reads and writes one entry, which is a live value of ours. An error counts as a time-out.
    unsafe { libc::poll(&mut entry, 1, wait.as_millis() as libc::c_int) > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_answers() {
        let now = local_time(86_400 * 365);
        assert!((1970..=1971).contains(&now.year) && now.day >= 1);
        assert!(system_memory() > 1 << 20 && resident_memory() > 4096);
        assert!(system_name().contains(' '));
        assert!(raise_descriptor_limit(16) >= 16);
        let _ = (cpu_time(Usage::Process), cpu_time(Usage::Children), cpu_time(Usage::Thread));
    }
}
