//! The primary's disk: as fast as it is, throttled inside the server, or a real slow one.

use crate::error::{Doing, Error, Result};
use crate::sys;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// A rate as given to `--disk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// No throttle.
    Unlimited,
    /// MB (2^20 bytes) a second.
    MbPerSecond(u32),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Limit, String> {
        if text == "unlimited" {
            return Ok(Limit::Unlimited);
        }
        match text.parse() {
            Ok(rate) if (1..=100_000).contains(&rate) => Ok(Limit::MbPerSecond(rate)),
            _ => Err("a disk is `unlimited` or a number of MB/s from 1 to 100000".into()),
        }
    }
}

/// A disk a primary runs on.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    /// The scratch folder's, with the server's own throttle if limited.
    Scratch(Limit),
    /// A folder on a real device.
    Real(Device),
}

/// A mounted device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) dir: PathBuf,
    /// The device's name under `/sys/class/block`.
    name: String,
    label: String,
}

impl Device {
    /// The device a folder is on.
    pub(crate) fn of(dir: &Path) -> Result<Device> {
        if !dir.is_dir() {
            let text =
                format!("--slow-disk: {} is no folder; mount the slow disk there first", dir.display());
            return Err(Error::Usage(text));
        }
        let found = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE,MAJ:MIN", "-T"])
            .arg(dir)
            .output()
            .doing(|| "running findmnt (of util-linux), which --slow-disk needs".into())?;
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        // Of several mounts on one folder the last is the one to be seen.
        let mut words = text.lines().last().unwrap_or_default().split_whitespace();
        let name = words.next().map(device_name).unwrap_or_default().to_owned();
        if name.is_empty() || !stat_path(&name).exists() {
            return Err(Error::Usage(format!(
                "--slow-disk: {} is not on a block device (findmnt says {:?}), so the bytes it writes cannot be counted; \
                 use a folder on a mounted device",
                dir.display(),
                text.trim()
            )));
        }
        let label = match words.next().and_then(throttled_to) {
            Some(bytes) => format!("{} MB/s ({name})", bytes >> 20),
            None => name.clone(),
        };
        Ok(Device { dir: dir.to_owned(), name, label })
    }

    /// Bytes written to the device since it appeared, everything under way included.
    pub(crate) fn written(&self) -> u64 {
        let _ = sys::sync_file_system(&self.dir);
        let stat = std::fs::read_to_string(stat_path(&self.name)).unwrap_or_default();
        sectors_written(&stat) * 512
    }
}

impl Disk {
    /// For the report.
    pub(crate) fn label(&self) -> String {
        match self {
            Disk::Scratch(Limit::Unlimited) => "unlimited".into(),
            Disk::Scratch(Limit::MbPerSecond(rate)) => format!("{rate} MB/s"),
            Disk::Real(device) => device.label.clone(),
        }
    }

    /// Whether the disk's speed is the same for any server on it.
    pub(crate) fn is_fair_to_peers(&self) -> bool {
        !matches!(self, Disk::Scratch(Limit::MbPerSecond(_)))
    }
}

/// "/dev/loop0" and, of a bind mount, "/dev/loop0[/folder]" as "loop0".
fn device_name(source: &str) -> &str {
    let device = source.split('[').next().unwrap_or_default();
    device.rsplit('/').next().unwrap_or_default()
}

fn stat_path(name: &str) -> PathBuf {
    Path::new("/sys/class/block").join(name).join("stat")
}

/// Field 7 of a block device's `stat` (kernel documentation, block/stat).
fn sectors_written(stat: &str) -> u64 {
    stat.split_whitespace().nth(6).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The kernel's own write limit of a device, where one is set (cgroup version 1).
fn throttled_to(major_minor: &str) -> Option<u64> {
    let limits =
        std::fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device").unwrap_or_default();
    limits.lines().find_map(|line| line.strip_prefix(major_minor)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_megabytes_or_unlimited() {
        assert_eq!("50".parse(), Ok(Limit::MbPerSecond(50)));
        assert_eq!("unlimited".parse(), Ok(Limit::Unlimited));
        assert!("fast".parse::<Limit>().is_err());
        assert!("0".parse::<Limit>().is_err());
    }

    #[test]
    fn a_device_is_named_without_its_folder() {
        assert_eq!(device_name("/dev/loop0"), "loop0");
        assert_eq!(device_name("/dev/vda1[/var/data]"), "vda1");
        assert_eq!(device_name("tmpfs"), "tmpfs");
    }

    #[test]
    fn written_sectors_are_the_seventh_field() {
        assert_eq!(sectors_written("  1 2 3 4 5 6 77 8 9 10 11\n"), 77);
        assert_eq!(sectors_written(""), 0);
    }
}
