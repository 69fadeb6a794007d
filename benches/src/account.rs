//! What a server and its children use: anonymous memory, CPU time, bytes written to disk.
//!
//! Memory is counted once however many processes share a page, because a forked child shares
//! nearly all: by a cgroup of its own (version 1, `total_rss`) where the bench may make one,
//! else by `Pss_Anon` of `smaps_rollup`, summed over the processes.

use crate::cleanup::{self, Leftover};
use crate::sys;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const MEMORY_ROOT: &str = "/sys/fs/cgroup/memory";
const CPU_ROOT: &str = "/sys/fs/cgroup/cpuacct";

/// The account of one server.
pub(crate) struct Account {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    pid: u32,
}

impl Account {
    /// Opens an account, with cgroups of its own where that is allowed.
    pub(crate) fn open() -> Account {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Account {
            memory: make_cgroup(MEMORY_ROOT, &name, "memory.stat"),
            cpu: make_cgroup(CPU_ROOT, &name, "cpuacct.usage"),
            pid: 0,
        }
    }

    /// The files a starting process writes itself into.
    pub(crate) fn process_files(&self) -> Vec<PathBuf> {
        [&self.memory, &self.cpu].into_iter().flatten().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// Says which process leads.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// How memory is counted, for the report.
    pub(crate) fn memory_method(&self) -> &'static str {
        if self.memory.is_some() { "cgroup total_rss" } else { "smaps_rollup Pss_Anon" }
    }

    /// Bytes of anonymous memory now.
    pub(crate) fn memory(&self) -> u64 {
        match &self.memory {
            Some(dir) => field(&read(&dir.join("memory.stat")), "total_rss").unwrap_or(0),
            None => tree(self.pid).into_iter().map(anonymous).sum(),
        }
    }

    /// Seconds of CPU so far, children included.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        match &self.cpu {
            Some(dir) => {
                read(&dir.join("cpuacct.usage")).trim().parse::<u64>().map_or(0.0, |n| n as f64 / 1e9)
            }
            None => {
                let ticks: u64 = tree(self.pid).into_iter().map(|p| ticks(&proc_file(p, "stat"))).sum();
                ticks as f64 / sys::clock_ticks()
            }
        }
    }

    /// A count of the bytes written to disk from now on.
    pub(crate) fn writes(&self) -> Writes {
        let start = written(self.pid).unwrap_or(0);
        Writes { pid: self.pid, start, most: start }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for dir in [self.memory.take(), self.cpu.take()].into_iter().flatten() {
            cleanup::dispose(&Leftover::Cgroup(dir));
        }
    }
}

/// Bytes a process and its children have sent to disk, by `/proc/PID/io`. What a child wrote is
/// added to its parent's count when it has ended and been waited for, so looks are taken while it
/// lives, each counting the living only, and the most seen is the answer.
pub(crate) struct Writes {
    pid: u32,
    start: u64,
    most: u64,
}

impl Writes {
    /// Looks.
    pub(crate) fn sample(&mut self) {
        // The parent comes first in the tree: a child that ends meanwhile is missed, never counted twice.
        let now = tree(self.pid).into_iter().filter_map(written).sum();
        self.most = self.most.max(now);
    }

    /// Bytes since this count began.
    pub(crate) fn bytes(&self) -> u64 {
        self.most.saturating_sub(self.start)
    }
}

fn make_cgroup(root: &str, name: &str, needs: &str) -> Option<PathBuf> {
    let dir = Path::new(root).join(name);
    cleanup::register(Leftover::Cgroup(dir.clone()));
    let made = fs::create_dir(&dir).is_ok();
    let procs = fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
    if made && dir.join(needs).exists() && procs.is_ok() {
        return Some(dir);
    }
    cleanup::dispose(&Leftover::Cgroup(dir));
    None
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn proc_file(pid: u32, name: &str) -> String {
    read(Path::new(&format!("/proc/{pid}/{name}")))
}

/// The number after a field's name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.trim_start_matches(':');
        rest.starts_with(char::is_whitespace).then(|| rest.split_whitespace().next()?.parse().ok())?
    })
}

fn anonymous(pid: u32) -> u64 {
    field(&proc_file(pid, "smaps_rollup"), "Pss_Anon")
        .or_else(|| field(&proc_file(pid, "status"), "RssAnon"))
        .unwrap_or(0)
        * 1024
}

fn written(pid: u32) -> Option<u64> {
    field(&proc_file(pid, "io"), "write_bytes")
}

/// utime, stime, cutime and cstime (fields 14 to 17, counted after the name's closing bracket).
fn ticks(stat: &str) -> u64 {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum()
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = read(&task.path().join("children"));
            all.extend(children.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let stat = "rss 5\ntotal_rss_huge 7\ntotal_rss 9\n";
        assert_eq!(field(stat, "total_rss"), Some(9));
        assert_eq!(field("Pss:  1 kB\nPss_Anon:   42 kB\n", "Pss_Anon"), Some(42));
        assert_eq!(field(stat, "absent"), None);
    }

    #[test]
    fn ticks_skip_a_name_with_spaces_and_brackets() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 1 2 3 4 10 20 30 40 20 0";
        assert_eq!(ticks(stat), 100);
    }

    #[test]
    fn this_process_has_memory_and_is_in_its_own_tree() {
        let pid = std::process::id();
        assert!(anonymous(pid) > 0);
        assert_eq!(tree(pid)[0], pid);
    }
}
