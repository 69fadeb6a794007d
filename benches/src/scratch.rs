//! Scratch folders: where the measured servers keep their files while they run.

use crate::cleanup::{self, Leftover};
use crate::error::{Doing, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed, with what it holds, when this is dropped.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new folder under `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        cleanup::register(Leftover::Folder(path.clone()));
        let scratch = Scratch { path };
        std::fs::create_dir(&scratch.path)
            .doing(|| format!("making the folder {}", scratch.path.display()))?;
        Ok(scratch)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        cleanup::dispose(&Leftover::Folder(self.path.clone()));
    }
}

/// A folder on a real disk for the primary: bytes written to a memory file system are counted
/// by nobody, so the temporary folder is taken only where it is none.
pub(crate) fn on_disk() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let candidates = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    candidates.iter().find(|dir| dir.is_dir() && !in_memory(&mounts, dir)).unwrap_or(&candidates[0]).clone()
}

/// A folder in memory for the replicas, so that their files do not disturb the primary's disk.
pub(crate) fn in_ram() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// Whether `dir` is on a memory file system, by the longest mount point that holds it.
pub(crate) fn in_memory(mounts: &str, dir: &Path) -> bool {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((Path::new(fields.next()?), fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.as_os_str().len())
        .is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_decides() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/loop0 /tmp/slow ext4 rw 0 0\n";
        assert!(!in_memory(mounts, Path::new("/var/tmp")));
        assert!(in_memory(mounts, Path::new("/tmp/x")));
        assert!(!in_memory(mounts, Path::new("/tmp/slow/x")));
    }

    #[test]
    fn a_scratch_folder_goes_with_its_owner() {
        let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("dump.rdb"), b"x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
