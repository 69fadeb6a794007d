//! The command line.

use crate::dataset::Kind;
use crate::disk::Limit;
use crate::servers::Transport;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures what bringing a replica up costs, on real server processes.
#[derive(Parser, Debug)]
#[command(version, about, long_about = None)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Full syncs over every transport and disk, beside real Redis if asked.
    #[command(long_about = SYNC_ABOUT, after_long_help = SYNC_EXAMPLES)]
    Sync(SyncArgs),
    /// Writes under each fsync policy, and what BGSAVE, BGREWRITEAOF and a restart cost
    #[command(long_about = PERSIST_ABOUT)]
    Persist(PersistArgs),
    /// What the heavy work of one client costs the others
    #[command(long_about = STALLS_ABOUT)]
    Stalls(StallsArgs),
}

const STALLS_ABOUT: &str = "\
Measures how long one client's heavy work keeps another waiting: for each work and every server in turn, a fresh server is
filled with what the work needs; then one client does it while a paced probe of another reads a small key, its latency
counted from when each request was due, until 0.3 s after the work was answered.

Columns: `work s` from the request to its answer (of expiry, until all keys have gone), the probe's latencies, and
`machine ms` as in `sluice-bench sync --help`. With several rounds the run of median worst latency is shown.";

/// What to measure.
#[derive(Args, Debug, Clone)]
pub(crate) struct StallsArgs {
    /// Works, by name [default: all; a wrong name lists them]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) work: Vec<String>,

    /// Another server of the Redis family to measure too (repeatable)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peer: Vec<PathBuf>,

    /// Times each case is run, interleaved
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub(crate) rounds: u16,

    /// Sizes and counts, times this
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub(crate) scale: f64,

    /// Probes a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) probe_hz: u64,

    /// The sluice-server to measure [default: beside sluice-bench]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) bin: Option<PathBuf>,

    /// An option more for every server, as in a configuration file: "name value" (repeatable)
    #[arg(long, value_name = "OPTION")]
    pub(crate) server_arg: Vec<String>,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(by) if by > 0.0 && by <= 1.0 => Ok(by),
        _ => Err("a factor above 0, up to 1".into()),
    }
}

const PERSIST_ABOUT: &str = "\
Measures persistence, in every folder given and for every server in turn:

- writes a second that are acknowledged under each appendfsync, by closed-loop clients: each sends
  a SET, waits for its answer, sends the next;
- a BGSAVE and a BGREWRITEAOF of the whole dataset while a paced writer overwrites it and a paced
  probe reads it (its latency counted from when each request was due);
- a restart from the file that each of them left, until PING is answered.

Columns as in `sluice-bench sync --help`; `of due` is what the writer would have written at its
rate, `load s` the restart.";

/// What to measure.
#[derive(Args, Debug, Clone)]
pub(crate) struct PersistArgs {
    /// Folders for the servers' files, each measured in turn [default: the temporary folder, if that is on a disk]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) dir: Vec<PathBuf>,

    /// Another server of the Redis family to measure too (repeatable)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peer: Vec<PathBuf>,

    /// Fsync policies
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["always", "everysec", "no"],
          value_parser = ["always", "everysec", "no"])]
    pub(crate) policy: Vec<String>,

    /// Numbers of closed-loop clients
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["1", "50"])]
    pub(crate) clients: Vec<usize>,

    /// Seconds each policy is measured
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,

    /// Number of keys
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keys: u64,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    pub(crate) size: u32,

    /// Probes a second during BGSAVE and BGREWRITEAOF
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) probe_hz: u64,

    /// Overwrites a second during BGSAVE and BGREWRITEAOF
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) write_hz: u64,

    /// Leave out BGSAVE, BGREWRITEAOF and restarts
    #[arg(long, conflicts_with = "only_work")]
    pub(crate) only_policies: bool,

    /// Leave out the fsync policies
    #[arg(long)]
    pub(crate) only_work: bool,

    /// The sluice-server to measure [default: beside sluice-bench]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) bin: Option<PathBuf>,

    /// An option more for every server, as in a configuration file: "name value" (repeatable)
    #[arg(long, value_name = "OPTION")]
    pub(crate) server_arg: Vec<String>,

    /// Seconds a BGSAVE or BGREWRITEAOF may take
    #[arg(long, value_name = "S", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

const SYNC_ABOUT: &str = "\
Measures full syncs: for every chosen transport, disk and number of replicas, starts a primary,
loads it, lets a paced probe and a paced writer run, attaches all replicas at once and waits until
each has its link up, the primary's offset and as many keys.

Without options it takes about a minute on two cores. Nothing is built: sluice-server is taken
from the folder sluice-bench itself is in.

The columns of the table:
  sync s      from REPLICAOF until the last replica is in sync
  1st byte    ms until the first byte of the data (primary's INFO sync; of Redis the replica's log)
  disk MB     what the primary, its children included, wrote to its disk
  mem +MB     the primary's peak anonymous memory over what it had at rest, children included
  cpu s       the primary's CPU time, children included
  p50..worst  the probe's latency in ms during the sync, counted from when each request was due,
              so that a stall is charged to every request that fell due during it
  machine ms  the worst stall of the machine itself meanwhile: how late a real-time thread that only
              sleeps woke, the worse of all processors; a worst latency of that size is the host's
  writes      overwrites served during the sync
1 MB is 2^20 bytes.";

const SYNC_EXAMPLES: &str = "\
Examples:
  sluice-bench sync
  sluice-bench sync --peer redis-server --html sync.html
  sluice-bench sync --dataset bighash --replicas 1 --peer redis-server
  sluice-bench sync --keys 1000000 --disk unlimited,200,50,10 --transport disk,socket
  sluice-bench sync --transport none --peer redis-server
  sluice-bench sync --slow-disk /mnt/slow --peer redis-server   (a mounted, rate-limited disk)";

/// What to measure.
#[derive(Args, Debug, Clone)]
pub(crate) struct SyncArgs {
    /// Transports of the full sync to measure; `none` measures only the peers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["disk", "socket", "io-uring"], help_heading = "Cases")]
    pub(crate) transport: Vec<Transport>,

    /// Rates the primary's disk is throttled to, in MB/s or `unlimited`; the throttle is
    /// sluice-server's own, so peers run on `unlimited` only
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["unlimited", "50"], help_heading = "Cases")]
    pub(crate) disk: Vec<Limit>,

    /// A folder on a real slow disk for the primary, instead of --disk: fair to peers, and disk
    /// bytes are the device's own count
    #[arg(long, value_name = "DIR", conflicts_with = "disk", help_heading = "Cases")]
    pub(crate) slow_disk: Option<PathBuf>,

    /// Numbers of replicas attached at once
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["1", "4"],
          value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Cases")]
    pub(crate) replicas: Vec<u16>,

    /// Another server of the Redis family to measure too, disk-backed and diskless (repeatable)
    #[arg(long, value_name = "PROGRAM", help_heading = "Cases")]
    pub(crate) peer: Vec<PathBuf>,

    /// Times each case is run, interleaved; the table shows the run of median sync time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=99), help_heading = "Cases")]
    pub(crate) rounds: u16,

    /// Data to load
    #[arg(long, value_enum, default_value_t = Kind::Strings, help_heading = "Data")]
    pub(crate) dataset: Kind,

    /// Number of keys; for bighash of fields in each hash
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Data")]
    pub(crate) keys: Option<u64>,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=64 << 20), help_heading = "Data")]
    pub(crate) size: Option<u32>,

    /// An RDB file to load instead of generated data
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dataset", "keys"], help_heading = "Data")]
    pub(crate) rdb: Option<PathBuf>,

    /// Probes a second [default: 1000; bighash: 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000), help_heading = "Load")]
    pub(crate) probe_hz: Option<u64>,

    /// Overwrites a second beside the probe, 0 for none [default: 10000; bighash: 0, as its probe writes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000), help_heading = "Load")]
    pub(crate) write_hz: Option<u64>,

    /// The sluice-server to measure [default: beside sluice-bench]
    #[arg(long, value_name = "PROGRAM", help_heading = "Servers")]
    pub(crate) bin: Option<PathBuf>,

    /// A server to use as the replica of every case [default: the same as the primary]
    #[arg(long, value_name = "PROGRAM", help_heading = "Servers")]
    pub(crate) replica_bin: Option<PathBuf>,

    /// An option more for every primary, as in a configuration file: "name value" (repeatable)
    #[arg(long, value_name = "OPTION", help_heading = "Servers")]
    pub(crate) server_arg: Vec<String>,

    /// An option more for every replica (repeatable)
    #[arg(long, value_name = "OPTION", help_heading = "Servers")]
    pub(crate) replica_arg: Vec<String>,

    /// repl-diskless-sync-delay of every primary, in seconds
    #[arg(long, value_name = "S", default_value_t = 0, help_heading = "Servers")]
    pub(crate) delay: u32,

    /// Folder for the primary's files [default: the temporary folder, if that is on a disk]
    #[arg(long, value_name = "DIR", conflicts_with = "slow_disk", help_heading = "Servers")]
    pub(crate) dir: Option<PathBuf>,

    /// Folder for the replicas' files [default: /dev/shm]
    #[arg(long, value_name = "DIR", help_heading = "Servers")]
    pub(crate) replica_dir: Option<PathBuf>,

    /// Seconds a sync may take
    #[arg(long, value_name = "S", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Servers")]
    pub(crate) timeout: u64,

    /// Write every run as JSON
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(crate) json: Option<PathBuf>,

    /// Write a page with charts, complete in one file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(crate) html: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn sync(line: &str) -> Result<SyncArgs, clap::Error> {
        let words = ["sluice-bench", "sync"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Sync(args) => Ok(args),
            Command::Persist(_) | Command::Stalls(_) => unreachable!("the words say sync"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = sync("--transport disk,io-uring --disk unlimited,200,50 --replicas 1,4").unwrap();
        assert_eq!(args.transport, [Transport::Disk, Transport::IoUring]);
        assert_eq!(args.disk, [Limit::Unlimited, Limit::MbPerSecond(200), Limit::MbPerSecond(50)]);
        assert_eq!(args.replicas, [1, 4]);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(sync("--slow-disk /mnt --disk 50").is_err());
        assert!(sync("--rdb a.rdb --dataset tiny").is_err());
        assert!(sync("--disk 0").is_err());
        assert!(sync("--replicas 0").is_err());
    }
}
