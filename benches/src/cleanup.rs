//! What must not outlive the bench: process groups, scratch folders, cgroups.
//!
//! Owners ([`crate::process::Server`], [`crate::scratch::Scratch`]) remove what is theirs when
//! dropped, which covers errors and panics. This list covers the case where nothing is dropped:
//! an interrupt.

use crate::sys;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Something that is removed before the bench ends.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A process group, by its leader.
    Group(u32),
    /// A folder with all it holds.
    Folder(PathBuf),
    /// A cgroup folder; it can only be removed once its processes are gone.
    Cgroup(PathBuf),
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

fn with<T>(act: impl FnOnce(&mut Vec<Leftover>) -> T) -> T {
    // The list stays sound whatever panicked while holding it.
    act(&mut LEFTOVERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Puts something on the list; folders before they are made, so that none is missed. Once an
/// interrupt is being handled this does not return: nothing new may begin.
pub(crate) fn register(leftover: Leftover) {
    with(|list| list.push(leftover));
}

/// Removes something now, and takes it off the list.
pub(crate) fn dispose(leftover: &Leftover) {
    remove(leftover);
    with(|list| list.retain(|l| l != leftover));
}

fn remove(leftover: &Leftover) {
    match leftover {
        Leftover::Group(leader) => sys::kill_group(*leader),
        Leftover::Folder(path) => {
            let _ = std::fs::remove_dir_all(path);
        }
        Leftover::Cgroup(path) => remove_cgroup(path),
    }
}

/// A killed process leaves its cgroup only when it has really ended.
fn remove_cgroup(path: &Path) {
    for _ in 0..200 {
        match std::fs::remove_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

/// From now on an interrupt removes everything on the list and ends the bench.
pub(crate) fn on_interrupt() {
    sys::on_interrupt(|| {
        // The list stays locked to the end, see `register`.
        with(|list| {
            // Processes first: they could still write into the folders.
            list.sort_by_key(|l| match l {
                Leftover::Group(_) => 0,
                Leftover::Folder(_) => 1,
                Leftover::Cgroup(_) => 2,
            });
            list.iter().for_each(remove);
            eprintln!("\nsluice-bench: interrupted; its servers are stopped and its scratch folders removed");
            std::process::exit(130);
        })
    });
}
