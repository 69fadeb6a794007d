//! Directives of Redis after 7.0 and of Valkey, so that their files start here.
//!
//! They exist in files and on the command line only: CONFIG GET shows what Redis 7.0 has. Each is another name of a
//! directive, or says what it means that Sluice does not have it, by the same rule as the rows of the table
//! ([`Support`]): a warning, or, for what protects data, a refusal.

use super::support::Support::{self, Later, Moot, Refused};
use super::support::because::{CLEAR_TEXT, NO_CLUSTER, NO_DEFRAG, NO_FORK, NO_PINNING, NO_STREAMS};

/// One directive of a newer version.
pub(crate) struct Newer {
    /// Its name.
    pub(crate) name: &'static str,
    meaning: Meaning,
}

/// What it is here.
#[derive(Clone, Copy)]
pub(crate) enum Meaning {
    /// Another name of this directive.
    Same(&'static str),
    /// Nothing to say where it has this value, its default there; else this.
    Unless(&'static str, Support),
}
use Meaning::{Same, Unless};

impl Newer {
    /// The directive it is another name of.
    pub(crate) fn same(&self) -> Option<&'static str> {
        match self.meaning {
            Same(name) => Some(name),
            Unless(..) => None,
        }
    }

    /// What is to be said of it with this value, if anything.
    pub(crate) fn support(&self, words: &[Vec<u8>]) -> Option<Support> {
        match self.meaning {
            Unless(default, support) if !words.join(&b' ').eq_ignore_ascii_case(default.as_bytes()) => {
                Some(support)
            }
            _ => None,
        }
    }

    #[cfg(test)]
    /// Its default and what it means, for the list of directives.
    pub(crate) fn meaning(&self) -> Meaning {
        self.meaning
    }
}

/// The directive of a newer version with this name, in any case.
pub(crate) fn lookup(name: &[u8]) -> Option<&'static Newer> {
    NEWER.iter().find(|n| n.name.as_bytes().eq_ignore_ascii_case(name))
}

const fn row(name: &'static str, meaning: Meaning) -> Newer {
    Newer { name, meaning }
}

const NO_COMMAND_LOG: &str = "only slow commands are logged, not large requests and replies";
const ACCEPTS_ALL: &str = "new connections are accepted as they come";
const NO_SMALL_SETS: &str = "sets of other members than integers are tables, as in Redis 7.0";
const NO_RDMA: &str = "there is no RDMA transport; clients come by TCP or the Unix socket";

/// The table.
pub(crate) static NEWER: &[Newer] = &[
    row("active-defrag-cycle-us", Unless("500", Moot(NO_DEFRAG))),
    row(
        "aof-load-corrupt-tail-max-size",
        Unless("0", Later("a damaged tail stops the start; check-aof --fix mends it")),
    ),
    row("aof-rewrite-cpulist", Unless("", Moot(NO_FORK))),
    row("availability-zone", Unless("", Later("INFO does not show it"))),
    row("bgsave-cpulist", Unless("", Moot(NO_FORK))),
    row("bio-cpulist", Unless("", Later(NO_PINNING))),
    row("cluster-announce-client-ipv4", Unless("", Moot(NO_CLUSTER))),
    row("cluster-announce-client-ipv6", Unless("", Moot(NO_CLUSTER))),
    row("cluster-announce-client-port", Unless("0", Moot(NO_CLUSTER))),
    row("cluster-announce-client-tls-port", Unless("0", Moot(NO_CLUSTER))),
    row("cluster-announce-human-nodename", Unless("", Moot(NO_CLUSTER))),
    row("cluster-blacklist-ttl", Unless("60", Moot(NO_CLUSTER))),
    row("cluster-compatibility-sample-ratio", Unless("0", Moot(NO_CLUSTER))),
    row("cluster-config-save-behavior", Unless("sync", Moot(NO_CLUSTER))),
    row("cluster-databases", Unless("1", Moot(NO_CLUSTER))),
    row("cluster-manual-failover-timeout", Unless("5000", Moot(NO_CLUSTER))),
    row("cluster-slot-migration-handoff-max-lag-bytes", Unless("1mb", Moot(NO_CLUSTER))),
    row("cluster-slot-migration-log-max-len", Unless("1000", Moot(NO_CLUSTER))),
    row("cluster-slot-migration-write-pause-timeout", Unless("10000", Moot(NO_CLUSTER))),
    row("cluster-slot-stats-enabled", Unless("no", Moot(NO_CLUSTER))),
    row("commandlog-execution-slower-than", Same("slowlog-log-slower-than")),
    row("commandlog-large-reply-max-len", Unless("128", Later(NO_COMMAND_LOG))),
    row("commandlog-large-request-max-len", Unless("128", Later(NO_COMMAND_LOG))),
    row("commandlog-reply-larger-than", Unless("1048576", Later(NO_COMMAND_LOG))),
    row("commandlog-request-larger-than", Unless("1048576", Later(NO_COMMAND_LOG))),
    row("commandlog-slow-execution-max-len", Same("slowlog-max-len")),
    row(
        "dual-channel-replication-enabled",
        Unless(
            "no",
            Moot("a primary keeps what was written during a full sync in its log, once for all replicas"),
        ),
    ),
    row("extended-redis-compatibility", Unless("no", Moot("HELLO and INFO always speak of Redis 7.0"))),
    row("hash-seed", Unless("", Later("the hash is seeded anew at each start"))),
    row(
        "hide-user-data-from-log",
        Unless(
            "no",
            Later(
                "the log can name a key, where a file or a link brings one that cannot be read; values it never shows",
            ),
        ),
    ),
    row(
        "import-mode",
        Unless(
            "no",
            Refused(
                "keys would expire while they are imported; import with 'import-mode no', or into a replica",
            ),
        ),
    ),
    row("key-memory-histograms", Unless("no", Later("INFO has no such histograms"))),
    row("locale-collate", Unless("", Later("SORT ALPHA compares bytes"))),
    row("log-format", Unless("legacy", Later("lines keep the form of Redis 7.0"))),
    row("log-timestamp-format", Unless("legacy", Later("lines keep the form of Redis 7.0"))),
    row("lookahead", Unless("16", Moot("all that a read brought is parsed"))),
    row("max-new-connections-per-cycle", Unless("10", Moot(ACCEPTS_ALL))),
    row("max-new-tls-connections-per-cycle", Unless("1", Moot(ACCEPTS_ALL))),
    row("mptcp", Unless("no", Later("sockets speak plain TCP"))),
    row("prefetch-batch-max-size", Unless("16", Moot("there is no such batch"))),
    row("primaryauth", Same("masterauth")),
    row("primaryuser", Same("masteruser")),
    row("rdb-version-check", Unless("strict", Later("versions 1 to 13 are read and no others"))),
    row("rdma-bind", Unless("", Later(NO_RDMA))),
    row("rdma-completion-vector", Unless("-1", Later(NO_RDMA))),
    row("rdma-port", Unless("0", Later(NO_RDMA))),
    row("rdma-rx-size", Unless("1048576", Later(NO_RDMA))),
    row("repl-mptcp", Unless("no", Later("links speak plain TCP"))),
    row(
        "replica-full-sync-buffer-limit",
        Unless(
            "0",
            Moot("what is written during a full sync stays in the primary's log, not with the replica"),
        ),
    ),
    row("server-cpulist", Unless("", Later(NO_PINNING))),
    row("set-max-listpack-entries", Unless("128", Later(NO_SMALL_SETS))),
    row("set-max-listpack-value", Unless("64", Later(NO_SMALL_SETS))),
    row("slot-migration-max-failover-repl-bytes", Unless("0", Moot(NO_CLUSTER))),
    row("stream-idmp-duration", Unless("100", Later(NO_STREAMS))),
    row("stream-idmp-maxsize", Unless("100", Later(NO_STREAMS))),
    row("tls-auth-clients-user", Unless("off", Refused(CLEAR_TEXT))),
    row("tls-auto-reload-interval", Unless("0", Refused(CLEAR_TEXT))),
    row(
        "unixsocketgroup",
        Unless(
            "",
            Refused("the socket would belong to another group; remove the line and set 'unixsocketperm'"),
        ),
    ),
    row("vset-force-single-threaded-execution", Unless("no", Later("there are no vector sets"))),
];
