//! A disk with little room: a small memory file system where the tests run as root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that holds no more than a given size; it goes with this value.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `folder`, which is made; none where that is not allowed.
    pub fn mount(folder: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(folder).ok()?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder);
        command.stderr(std::process::Stdio::null());
        command.status().is_ok_and(|s| s.success()).then(|| SmallDisk(folder.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
