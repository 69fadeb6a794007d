//! Every directive of Redis 7.0 and Sluice's own: one row each, which makes both the typed [`Config`] and the
//! table behind configuration files, the command line and CONFIG.
//!
//! A row reads: field, type, default; names (the first is the one shown, the others are accepted aliases);
//! what it accepts; whether it can change while the server runs; how far Sluice supports it.

use std::path::PathBuf;

use super::compound::{
    Bind, KeyspaceEvents, OnSignal, OomScores, OutputLimits, Percentiles, ReplicaOf, SavePoints,
    SizeOrPercent,
};
use super::support::Support;
use super::values::Spec::{Any, Bytes, Checked, Octal, PowerOfTwo, Range};
use super::values::{
    DisklessLoad, Endpoint, EvictionPolicy, Fsync, Guarded, LogLevel, OomScoreAdj, Origin, PropagationError,
    PubsubDefault, ReplCompression, ReplTransport, Sanitize, Setting, Supervised, SyslogFacility, TlsAuth,
};

/// How a directive may be used; combined with `|`.
pub(crate) mod flags {
    /// One value, changeable while the server runs.
    pub(crate) const LIVE: u8 = 0;
    /// Set at start only.
    pub(crate) const FIXED: u8 = 1;
    /// Changeable only as `enable-protected-configs` allows.
    pub(crate) const GUARDED: u8 = 2;
    /// Takes several words.
    pub(crate) const WORDS: u8 = 4;
    /// Left out of CONFIG GET unless named in full.
    pub(crate) const HIDDEN: u8 = 8;
    /// CONFIG REWRITE writes it even at its default.
    pub(crate) const ALWAYS_WRITTEN: u8 = 16;
}
use flags::{ALWAYS_WRITTEN, FIXED, GUARDED, HIDDEN, LIVE, WORDS};

use super::support::because::*;
use Support::{Full, Later, Moot, Refused};

type Assign = fn(&mut Config, &[Vec<u8>], Origin) -> Result<(), String>;

/// One row of the table.
pub(crate) struct Directive {
    names: &'static str,
    flags: u8,
    /// How far it is supported.
    pub(crate) support: Support,
    assign: Assign,
    show: fn(&Config) -> Vec<u8>,
    lines: fn(&Config, &str) -> Vec<Vec<u8>>,
    same: fn(&Config, &Config) -> bool,
}

impl Directive {
    /// The name it is shown under.
    pub(crate) fn name(&self) -> &'static str {
        self.names().next().unwrap_or_default()
    }

    /// Its name and then its aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split(' ')
    }

    /// Whether all of these [`flags`] are set.
    pub(crate) fn is(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Reads its value from `words` into `config`.
    pub(crate) fn assign(
        &self,
        config: &mut Config,
        words: &[Vec<u8>],
        origin: Origin,
    ) -> Result<(), String> {
        // `save` alone in a file means no save points, as `save ""` does.
        let none_allowed = matches!(origin, Origin::Runtime) || self.name() == "save";
        if !self.is(WORDS) && words.len() != 1 || words.is_empty() && !none_allowed {
            return Err("wrong number of arguments".into());
        }
        (self.assign)(config, words, origin)
    }

    /// Its value, as CONFIG GET shows it.
    pub(crate) fn show(&self, config: &Config) -> Vec<u8> {
        (self.show)(config)
    }

    /// Its lines in a configuration file.
    pub(crate) fn lines(&self, config: &Config) -> Vec<Vec<u8>> {
        (self.lines)(config, self.name())
    }

    /// Whether two configurations agree on it.
    pub(crate) fn same(&self, a: &Config, b: &Config) -> bool {
        (self.same)(a, b)
    }
}

/// The directive of a name or alias, in any case.
pub(crate) fn lookup(name: &[u8]) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|d| d.names().any(|n| n.as_bytes().eq_ignore_ascii_case(name)))
}

/// A file or folder name without a path, as these errors ask for.
fn bare(word: &[u8], error: &'static str) -> Result<(), &'static str> {
    let path = word.is_empty() || word.contains(&b'/') || word == b"." || word == b"..";
    if path { Err(error) } else { Ok(()) }
}

fn dbfilename(word: &[u8]) -> Result<(), &'static str> {
    bare(word, "dbfilename can't be a path, just a filename")
}

fn appendfilename(word: &[u8]) -> Result<(), &'static str> {
    bare(word, "appendfilename can't be a path, just a filename")
}

fn appenddirname(word: &[u8]) -> Result<(), &'static str> {
    bare(word, "appenddirname can't be a path, just a dirname")
}

fn hostname(word: &[u8]) -> Result<(), &'static str> {
    if word.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    let plain = word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if plain { Ok(()) } else { Err("Hostnames may only contain alphanumeric characters, hyphens or dots") }
}

const INT: i128 = i32::MAX as i128;
const LONG: i128 = i64::MAX as i128;
const LONG_BYTES: u64 = i64::MAX as u64;
/// The longest string the engine holds.
const STRING_BYTES: u64 = sluice_engine::internals::MAX_STRING_LEN as u64;

/// Connections kept free for the server's own files when `maxclients` meets the descriptor limit.
pub(crate) const RESERVED_DESCRIPTORS: u64 = 32;
/// Most threads `io-threads` accepts.
pub(crate) const MAX_IO_THREADS: i128 = 128;
/// Most shards a keyspace can be split into.
pub(crate) const MAX_SHARDS: i128 = sluice_engine::internals::MAX_SHARDS as i128;
/// Most databases: each costs a table in every shard.
pub(crate) const MAX_DATABASES: i128 = sluice_engine::internals::MAX_DATABASES as i128;

macro_rules! directives {
    ($($field:ident: $ty:ty = $default:expr, $names:literal, $spec:expr, $flags:expr, $support:expr;)*) => {
        /// Every setting of the server, typed.
        #[derive(Clone, PartialEq, Debug)]
        pub(crate) struct Config {
            $(pub(crate) $field: $ty,)*
            /// The file the configuration was read from, if any, as an absolute path.
            pub(crate) file: Option<PathBuf>,
            /// `rename-command` lines: a command's name and its new one (empty: removed).
            pub(crate) renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)* file: None, renamed_commands: Vec::new() }
            }
        }

        /// The table of directives.
        pub(crate) static DIRECTIVES: &[Directive] = &[$(Directive {
            names: $names,
            flags: $flags,
            support: $support,
            assign: |config, words, origin| Setting::assign(&mut config.$field, words, &$spec, origin),
            show: |config| Setting::show(&config.$field, &$spec),
            lines: |config, name| Setting::lines(&config.$field, name, &$spec),
            same: |a, b| a.$field == b.$field,
        },)*];
    };
}

directives! {
    // Network.
    port: u16 = 6379, "port", Range(0, 65535), LIVE, Full;
    bind: Bind = Bind::default(), "bind", Any, LIVE | WORDS, Full;
    bind_source_addr: String = String::new(), "bind-source-addr", Any, LIVE,
        Later("outgoing connections come from the address the system chooses");
    protected_mode: bool = true, "protected-mode", Any, LIVE, Full;
    tcp_backlog: i32 = 511, "tcp-backlog", Range(0, INT), FIXED, Full;
    tcp_keepalive: u64 = 300, "tcp-keepalive", Range(0, INT), LIVE, Full;
    timeout: u64 = 0, "timeout", Range(0, INT), LIVE, Full;
    maxclients: u64 = 10000, "maxclients", Range(1, u32::MAX as i128), LIVE, Full;
    unixsocket: String = String::new(), "unixsocket", Any, FIXED, Full;
    unixsocketperm: u32 = 0, "unixsocketperm", Octal, FIXED, Full;
    socket_mark_id: u64 = 0, "socket-mark-id", Range(0, u32::MAX as i128), FIXED, Later("sockets carry no mark");
    client_query_buffer_limit: u64 = 1 << 30, "client-query-buffer-limit", Bytes(1 << 20, LONG_BYTES), LIVE, Full;
    client_output_buffer_limit: OutputLimits = OutputLimits::default(),
        "client-output-buffer-limit", Any, LIVE | WORDS, Full;
    proto_max_bulk_len: u64 = 512 << 20, "proto-max-bulk-len", Bytes(1 << 20, STRING_BYTES), LIVE, Full;
    maxmemory_clients: SizeOrPercent = SizeOrPercent::Bytes(0), "maxmemory-clients", Any, LIVE,
        Later("clients are limited one by one, by client-query-buffer-limit and client-output-buffer-limit");
    io_threads: usize = 1, "io-threads", Range(1, MAX_IO_THREADS), FIXED, Full;
    io_threads_do_reads: bool = false, "io-threads-do-reads", Any, FIXED,
        Moot("each thread reads, runs and answers the commands of its own connections");

    // Process.
    daemonize: bool = false, "daemonize", Any, FIXED, Full;
    supervised: Supervised = Supervised::No, "supervised", Any, FIXED, Full;
    pidfile: String = String::new(), "pidfile", Any, FIXED, Full;
    loglevel: LogLevel = LogLevel::Notice, "loglevel", Any, LIVE, Full;
    logfile: String = String::new(), "logfile", Any, FIXED, Full;
    syslog_enabled: bool = false, "syslog-enabled", Any, FIXED, Refused(SYSLOG);
    syslog_ident: String = "redis".into(), "syslog-ident", Any, FIXED, Later(NO_SYSLOG);
    syslog_facility: SyslogFacility = SyslogFacility::Local0, "syslog-facility", Any, FIXED, Later(NO_SYSLOG);
    crash_log_enabled: bool = true, "crash-log-enabled", Any, LIVE, Full;
    crash_memcheck_enabled: bool = true, "crash-memcheck-enabled", Any, LIVE,
        Moot("a crash is reported with its place; memory is not tested");
    always_show_logo: bool = false, "always-show-logo", Any, FIXED, Full;
    set_proc_title: bool = true, "set-proc-title", Any, FIXED,
        Later("the process keeps the command line it was started with");
    proc_title_template: String = "{title} {listen-addr} {server-mode}".into(),
        "proc-title-template", Any, LIVE, Later("the process keeps the command line it was started with");
    databases: usize = 16, "databases", Range(1, MAX_DATABASES), FIXED, Full;
    shutdown_timeout: u64 = 10, "shutdown-timeout", Range(0, INT), LIVE, Full;
    shutdown_on_sigint: OnSignal = OnSignal::default(), "shutdown-on-sigint", Any, LIVE | WORDS, Full;
    shutdown_on_sigterm: OnSignal = OnSignal::default(), "shutdown-on-sigterm", Any, LIVE | WORDS, Full;
    server_cpulist: String = String::new(), "server_cpulist", Any, FIXED, Later(NO_PINNING);
    bio_cpulist: String = String::new(), "bio_cpulist", Any, FIXED, Later(NO_PINNING);
    aof_rewrite_cpulist: String = String::new(), "aof_rewrite_cpulist", Any, FIXED, Moot(NO_FORK);
    bgsave_cpulist: String = String::new(), "bgsave_cpulist", Any, FIXED, Moot(NO_FORK);
    oom_score_adj: OomScoreAdj = OomScoreAdj::No, "oom-score-adj", Any, LIVE,
        Later("the kernel's score of this process stays as it is");
    oom_score_adj_values: OomScores = OomScores([0, 200, 800]), "oom-score-adj-values", Any, LIVE | WORDS,
        Later("the kernel's score of this process stays as it is");
    disable_thp: bool = true, "disable-thp", Any, FIXED,
        Moot("the allocator asks for no huge pages, and there is no fork that would copy them");
    ignore_warnings: String = String::new(), "ignore-warnings", Any, LIVE, Moot("there is no such warning to ignore");
    watchdog_period: u64 = 0, "watchdog-period", Range(0, INT), LIVE | HIDDEN, Later("there is no watchdog");
    use_exit_on_panic: bool = false, "use-exit-on-panic", Any, LIVE | HIDDEN,
        Moot("a thread that panics ends the server only where it cannot go on without it");

    // Persistence.
    dir: PathBuf = std::env::current_dir().unwrap_or_else(|_| ".".into()),
        "dir", Any, LIVE | GUARDED | ALWAYS_WRITTEN, Full;
    dbfilename: String = "dump.rdb".into(), "dbfilename", Checked(dbfilename), LIVE | GUARDED, Full;
    save: SavePoints = SavePoints::default(), "save", Any, LIVE | WORDS, Full;
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error", Any, LIVE, Full;
    rdbcompression: bool = true, "rdbcompression", Any, LIVE, Full;
    rdbchecksum: bool = true, "rdbchecksum", Any, FIXED, Full;
    rdb_del_sync_files: bool = false, "rdb-del-sync-files", Any, LIVE, Full;
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync", Any, LIVE,
        Moot("files are always written back as they grow");
    rdb_key_save_delay: i64 = 0, "rdb-key-save-delay", Range(i32::MIN as i128, INT), LIVE | HIDDEN, Full;
    key_load_delay: i64 = 0, "key-load-delay", Range(i32::MIN as i128, INT), LIVE | HIDDEN, Full;
    loading_process_events_interval_bytes: u64 = 2 << 20,
        "loading-process-events-interval-bytes", Bytes(1024, INT as u64), LIVE | HIDDEN,
        Moot("clients are answered by other threads while data is loaded");
    sanitize_dump_payload: Sanitize = Sanitize::No, "sanitize-dump-payload", Any, LIVE,
        Moot("every payload is checked from end to end");
    appendonly: bool = false, "appendonly", Any, LIVE, Full;
    appendfilename: String = "appendonly.aof".into(), "appendfilename", Checked(appendfilename), FIXED, Full;
    appenddirname: String = "appendonlydir".into(), "appenddirname", Checked(appenddirname), FIXED, Full;
    appendfsync: Fsync = Fsync::Everysec, "appendfsync", Any, LIVE, Full;
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite", Any, LIVE, Full;
    auto_aof_rewrite_percentage: u64 = 100, "auto-aof-rewrite-percentage", Range(0, INT), LIVE, Full;
    auto_aof_rewrite_min_size: u64 = 64 << 20, "auto-aof-rewrite-min-size", Bytes(0, LONG_BYTES), LIVE, Full;
    aof_load_truncated: bool = true, "aof-load-truncated", Any, LIVE, Full;
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble", Any, LIVE, Full;
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync", Any, LIVE,
        Moot("files are always written back as they grow");
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled", Any, LIVE, Full;
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc", Any, LIVE, Full;

    // Replication.
    replicaof: ReplicaOf = ReplicaOf::default(), "replicaof slaveof", Any, FIXED | WORDS, Full;
    masteruser: Vec<u8> = Vec::new(), "masteruser", Any, LIVE, Full;
    masterauth: Vec<u8> = Vec::new(), "masterauth", Any, LIVE, Full;
    replica_serve_stale_data: bool = true,
        "replica-serve-stale-data slave-serve-stale-data", Any, LIVE, Full;
    replica_read_only: bool = true, "replica-read-only slave-read-only", Any, LIVE, Full;
    replica_lazy_flush: bool = false, "replica-lazy-flush slave-lazy-flush", Any, LIVE, Moot(FREES_LAZILY);
    replica_ignore_maxmemory: bool = true,
        "replica-ignore-maxmemory slave-ignore-maxmemory", Any, LIVE, Full;
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors", Any, LIVE, Full;
    replica_priority: u64 = 100, "replica-priority slave-priority", Range(0, INT), LIVE, Full;
    replica_announced: bool = true, "replica-announced", Any, LIVE, Full;
    replica_announce_ip: String = String::new(), "replica-announce-ip slave-announce-ip", Any, LIVE, Full;
    replica_announce_port: u16 = 0, "replica-announce-port slave-announce-port", Range(0, 65535), LIVE, Full;
    repl_diskless_sync: bool = true, "repl-diskless-sync", Any, LIVE, Full;
    repl_diskless_sync_delay: u64 = 5, "repl-diskless-sync-delay", Range(0, INT), LIVE, Full;
    repl_diskless_sync_max_replicas: u64 = 0, "repl-diskless-sync-max-replicas", Range(0, INT), LIVE, Full;
    repl_diskless_load: DisklessLoad = DisklessLoad::Disabled, "repl-diskless-load", Any, LIVE, Full;
    repl_ping_replica_period: u64 = 10, "repl-ping-replica-period repl-ping-slave-period", Range(1, INT), LIVE, Full;
    repl_timeout: u64 = 60, "repl-timeout", Range(1, INT), LIVE, Full;
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay", Any, LIVE,
        Moot("what is to be sent to a replica is sent at once, in writes as large as there is data for");
    repl_backlog_size: u64 = 1 << 20, "repl-backlog-size", Bytes(1, LONG_BYTES), LIVE, Full;
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl", Range(0, LONG), LIVE, Full;
    min_replicas_to_write: u64 = 0, "min-replicas-to-write min-slaves-to-write", Range(0, INT), LIVE, Full;
    min_replicas_max_lag: u64 = 10, "min-replicas-max-lag min-slaves-max-lag", Range(0, INT), LIVE, Full;
    propagation_error_behavior: PropagationError = PropagationError::Ignore,
        "propagation-error-behavior", Any, LIVE, Full;

    // Sluice's own.
    // Which transport a full sync takes; `auto` follows repl-diskless-sync.
    repl_transport: ReplTransport = ReplTransport::Auto, "repl-transport", Any, LIVE, Full;
    // Bytes a diskless full sync may have under way between the cut and the slowest replica.
    repl_compression: ReplCompression = ReplCompression::No, "repl-compression", Any, LIVE, Full;
    // Writers wait by bounded steps while a replica in its first sync is about to exceed its output limit.
    repl_sync_slow_writers: bool = false, "repl-sync-slow-writers", Any, LIVE, Full;
    repl_diskless_window: u64 = 2 << 20, "repl-diskless-window", Bytes(64 << 10, 1 << 30), LIVE, Full;
    // Bytes of pre-images a cut may hold before writes that would add one wait for its sink.
    cut_preimage_limit: u64 = 64 << 20, "cut-preimage-limit", Bytes(1 << 20, LONG_BYTES), LIVE, Full;
    // Milliseconds a reply waits, without `always`, for a write to the append-only file that the disk holds up.
    aof_write_wait: u64 = 10, "aof-write-wait", Range(0, INT), LIVE, Full;
    // Shards of the keyspace; a power of two.
    shards: usize = 32, "shards", PowerOfTwo(MAX_SHARDS), FIXED, Full;
    // Budgets in bytes a second, 0 for none: BGSAVE, rewrites and staged syncs on the disk; the sends of full syncs.
    persistence_max_bandwidth: u64 = 0, "persistence-max-bandwidth", Bytes(0, LONG_BYTES), LIVE, Full;
    repl_sync_max_bandwidth: u64 = 0, "repl-sync-max-bandwidth", Bytes(0, LONG_BYTES), LIVE, Full;
    // The slow disk of benchmarks: bytes a second (0: unthrottled) and microseconds an operation.
    storage_throttle_rate: u64 = 0, "storage-throttle-rate", Bytes(0, LONG_BYTES), FIXED, Full;
    storage_throttle_latency: u64 = 0, "storage-throttle-latency", Range(0, 60_000_000), FIXED, Full;
    // Syncs fail while there is a file of this name.
    storage_syncs_fail_while: String = String::new(), "storage-syncs-fail-while", Any, FIXED, Full;
    storage_power_cut_at: u64 = 0, "storage-power-cut-at", Range(0, LONG), FIXED, Full;
    storage_power_cut_seed: u64 = 0, "storage-power-cut-seed", Range(0, LONG), FIXED, Full;

    // Security.
    requirepass: Vec<u8> = Vec::new(), "requirepass", Any, LIVE, Full;
    aclfile: String = String::new(), "aclfile", Any, FIXED, Refused(USERS_FILE);
    acllog_max_len: u64 = 128, "acllog-max-len", Range(0, LONG), LIVE, Later(NO_USERS);
    acl_pubsub_default: PubsubDefault = PubsubDefault::ResetChannels, "acl-pubsub-default", Any, LIVE, Later(NO_USERS);
    enable_protected_configs: Guarded = Guarded::No, "enable-protected-configs", Any, FIXED, Full;
    enable_debug_command: Guarded = Guarded::No, "enable-debug-command", Any, FIXED, Full;
    enable_module_command: Guarded = Guarded::No, "enable-module-command", Any, FIXED,
        Later("there is no MODULE command");

    // Memory, expiry and value encodings.
    maxmemory: u64 = 0, "maxmemory", Bytes(0, u64::MAX), LIVE, Full;
    maxmemory_policy: EvictionPolicy = EvictionPolicy::NoEviction, "maxmemory-policy", Any, LIVE,
        Later("the limit holds as under noeviction, commands that add data are refused there");
    maxmemory_samples: u64 = 5, "maxmemory-samples", Range(1, INT), LIVE, Later(NO_EVICTION);
    maxmemory_eviction_tenacity: u64 = 10, "maxmemory-eviction-tenacity", Range(0, 100), LIVE, Later(NO_EVICTION);
    lfu_log_factor: u64 = 10, "lfu-log-factor", Range(0, INT), LIVE, Later(NO_EVICTION);
    lfu_decay_time: u64 = 1, "lfu-decay-time", Range(0, INT), LIVE, Later(NO_EVICTION);
    active_expire_effort: u32 = 1, "active-expire-effort", Range(1, 10), LIVE, Full;
    hash_max_listpack_entries: usize = 512,
        "hash-max-listpack-entries hash-max-ziplist-entries", Range(0, LONG), LIVE, Full;
    hash_max_listpack_value: usize = 64,
        "hash-max-listpack-value hash-max-ziplist-value", Bytes(0, LONG_BYTES), LIVE, Full;
    list_max_listpack_size: i32 = -2,
        "list-max-listpack-size list-max-ziplist-size", Range(i32::MIN as i128, INT), LIVE, Full;
    list_compress_depth: u32 = 0, "list-compress-depth", Range(0, INT), LIVE,
        Later("nodes of lists are not compressed");
    set_max_intset_entries: usize = 512, "set-max-intset-entries", Range(0, LONG), LIVE, Full;
    zset_max_listpack_entries: usize = 128,
        "zset-max-listpack-entries zset-max-ziplist-entries", Range(0, LONG), LIVE, Full;
    zset_max_listpack_value: usize = 64,
        "zset-max-listpack-value zset-max-ziplist-value", Bytes(0, LONG_BYTES), LIVE, Full;
    hll_sparse_max_bytes: usize = 3000, "hll-sparse-max-bytes", Bytes(0, LONG_BYTES), LIVE, Full;
    stream_node_max_bytes: u64 = 4096, "stream-node-max-bytes", Bytes(0, LONG_BYTES), LIVE, Later(NO_STREAMS);
    stream_node_max_entries: u64 = 100, "stream-node-max-entries", Range(0, LONG), LIVE, Later(NO_STREAMS);
    lazyfree_lazy_eviction: bool = false, "lazyfree-lazy-eviction", Any, LIVE, Moot(FREES_LAZILY);
    lazyfree_lazy_expire: bool = false, "lazyfree-lazy-expire", Any, LIVE, Moot(FREES_LAZILY);
    lazyfree_lazy_server_del: bool = false, "lazyfree-lazy-server-del", Any, LIVE, Moot(FREES_LAZILY);
    lazyfree_lazy_user_del: bool = false, "lazyfree-lazy-user-del", Any, LIVE, Moot(FREES_LAZILY);
    lazyfree_lazy_user_flush: bool = false, "lazyfree-lazy-user-flush", Any, LIVE, Moot(FREES_LAZILY);
    activerehashing: bool = true, "activerehashing", Any, LIVE, Moot(NO_REHASHING);
    activedefrag: bool = false, "activedefrag", Any, LIVE, Later(NO_DEFRAG);
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min", Range(1, 99), LIVE, Moot(NO_DEFRAG);
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max", Range(1, 99), LIVE, Moot(NO_DEFRAG);
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower", Range(0, 1000), LIVE, Moot(NO_DEFRAG);
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper", Range(0, 1000), LIVE, Moot(NO_DEFRAG);
    active_defrag_ignore_bytes: u64 = 100 << 20, "active-defrag-ignore-bytes", Bytes(1, LONG_BYTES), LIVE,
        Moot(NO_DEFRAG);
    active_defrag_max_scan_fields: u64 = 1000, "active-defrag-max-scan-fields", Range(1, LONG), LIVE, Moot(NO_DEFRAG);
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread", Any, LIVE, Moot("the allocator always has its thread");

    // Behaviour and observation.
    hz: u32 = 10, "hz", Range(0, INT), LIVE, Moot("the timers have a period of 100 ms");
    dynamic_hz: bool = true, "dynamic-hz", Any, LIVE,
        Moot("the timers keep their period whatever the number of clients");
    busy_reply_threshold: i64 = 5000, "busy-reply-threshold lua-time-limit", Range(0, LONG), LIVE,
        Later("there are no scripts that could be busy");
    slowlog_log_slower_than: i64 = 10000, "slowlog-log-slower-than", Range(-1, LONG), LIVE, Full;
    slowlog_max_len: usize = 128, "slowlog-max-len", Range(0, LONG), LIVE, Full;
    latency_monitor_threshold: u64 = 0, "latency-monitor-threshold", Range(0, LONG), LIVE,
        Later("events are not sampled; LATENCY HISTOGRAM tells how long commands took");
    latency_tracking: bool = true, "latency-tracking", Any, LIVE, Full;
    latency_tracking_info_percentiles: Percentiles = Percentiles(vec![50.0, 99.0, 99.9]),
        "latency-tracking-info-percentiles", Any, LIVE | WORDS, Full;
    notify_keyspace_events: KeyspaceEvents = KeyspaceEvents::default(), "notify-keyspace-events", Any, LIVE,
        Later("no events are published");
    tracking_table_max_keys: u64 = 1_000_000, "tracking-table-max-keys", Range(0, LONG), LIVE,
        Later("there is no CLIENT TRACKING");

    // Cluster.
    cluster_enabled: bool = false, "cluster-enabled", Any, FIXED, Refused(ALONE);
    cluster_config_file: String = "nodes.conf".into(), "cluster-config-file", Any, FIXED, Moot(NO_CLUSTER);
    cluster_node_timeout: u64 = 15000, "cluster-node-timeout", Range(0, LONG), LIVE, Moot(NO_CLUSTER);
    cluster_port: u16 = 0, "cluster-port", Range(0, 65535), FIXED, Moot(NO_CLUSTER);
    cluster_replica_validity_factor: u64 = 10,
        "cluster-replica-validity-factor cluster-slave-validity-factor", Range(0, INT), LIVE, Moot(NO_CLUSTER);
    cluster_migration_barrier: u64 = 1, "cluster-migration-barrier", Range(0, INT), LIVE, Moot(NO_CLUSTER);
    cluster_allow_replica_migration: bool = true, "cluster-allow-replica-migration", Any, LIVE, Moot(NO_CLUSTER);
    cluster_require_full_coverage: bool = true, "cluster-require-full-coverage", Any, LIVE, Moot(NO_CLUSTER);
    cluster_replica_no_failover: bool = false,
        "cluster-replica-no-failover cluster-slave-no-failover", Any, LIVE, Moot(NO_CLUSTER);
    cluster_allow_reads_when_down: bool = false, "cluster-allow-reads-when-down", Any, LIVE, Moot(NO_CLUSTER);
    cluster_allow_pubsubshard_when_down: bool = true, "cluster-allow-pubsubshard-when-down", Any, LIVE,
        Moot(NO_CLUSTER);
    cluster_link_sendbuf_limit: u64 = 0, "cluster-link-sendbuf-limit", Bytes(0, u64::MAX), LIVE, Moot(NO_CLUSTER);
    cluster_announce_ip: String = String::new(), "cluster-announce-ip", Any, LIVE, Moot(NO_CLUSTER);
    cluster_announce_hostname: String = String::new(), "cluster-announce-hostname", Checked(hostname), LIVE,
        Moot(NO_CLUSTER);
    cluster_announce_port: u16 = 0, "cluster-announce-port", Range(0, 65535), LIVE, Moot(NO_CLUSTER);
    cluster_announce_tls_port: u16 = 0, "cluster-announce-tls-port", Range(0, 65535), LIVE, Moot(NO_CLUSTER);
    cluster_announce_bus_port: u16 = 0, "cluster-announce-bus-port", Range(0, 65535), LIVE, Moot(NO_CLUSTER);
    cluster_preferred_endpoint_type: Endpoint = Endpoint::Ip, "cluster-preferred-endpoint-type", Any, LIVE,
        Moot(NO_CLUSTER);

    // TLS.
    tls_port: u16 = 0, "tls-port", Range(0, 65535), LIVE, Refused(CLEAR_TEXT);
    tls_cluster: bool = false, "tls-cluster", Any, LIVE, Refused(CLEAR_TEXT);
    tls_replication: bool = false, "tls-replication", Any, LIVE, Refused(CLEAR_TEXT);
    tls_auth_clients: TlsAuth = TlsAuth::Yes, "tls-auth-clients", Any, LIVE, Refused(CLEAR_TEXT);
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers", Any, LIVE, Refused(CLEAR_TEXT);
    tls_session_caching: bool = true, "tls-session-caching", Any, LIVE, Refused(CLEAR_TEXT);
    tls_session_cache_size: u64 = 20480, "tls-session-cache-size", Range(0, INT), LIVE, Refused(CLEAR_TEXT);
    tls_session_cache_timeout: u64 = 300, "tls-session-cache-timeout", Range(0, INT), LIVE, Refused(CLEAR_TEXT);
    tls_cert_file: String = String::new(), "tls-cert-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_key_file: String = String::new(), "tls-key-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_key_file_pass: Vec<u8> = Vec::new(), "tls-key-file-pass", Any, LIVE, Refused(CLEAR_TEXT);
    tls_client_cert_file: String = String::new(), "tls-client-cert-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_client_key_file: String = String::new(), "tls-client-key-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_client_key_file_pass: Vec<u8> = Vec::new(), "tls-client-key-file-pass", Any, LIVE, Refused(CLEAR_TEXT);
    tls_dh_params_file: String = String::new(), "tls-dh-params-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_ca_cert_file: String = String::new(), "tls-ca-cert-file", Any, LIVE, Refused(CLEAR_TEXT);
    tls_ca_cert_dir: String = String::new(), "tls-ca-cert-dir", Any, LIVE, Refused(CLEAR_TEXT);
    tls_protocols: String = String::new(), "tls-protocols", Any, LIVE, Refused(CLEAR_TEXT);
    tls_ciphers: String = String::new(), "tls-ciphers", Any, LIVE, Refused(CLEAR_TEXT);
    tls_ciphersuites: String = String::new(), "tls-ciphersuites", Any, LIVE, Refused(CLEAR_TEXT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_given_once() {
        let mut names: Vec<_> = DIRECTIVES.iter().flat_map(Directive::names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 190, "{count} names and aliases");
    }

    #[test]
    fn every_default_is_accepted_back() {
        let defaults = Config::default();
        for directive in DIRECTIVES.iter().filter(|d| !d.show(&defaults).is_empty()) {
            let shown = directive.show(&defaults);
            let words: Vec<_> = if directive.is(WORDS) {
                shown.split(|b| *b == b' ').map(<[u8]>::to_vec).collect()
            } else {
                vec![shown]
            };
            let mut config = Config::default();
            assert_eq!(
                directive.assign(&mut config, &words, Origin::Runtime),
                Ok(()),
                "{}",
                directive.name()
            );
            assert!(directive.same(&config, &defaults), "{}", directive.name());
        }
    }
}
