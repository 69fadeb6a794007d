//! Start-up: from the command line to a running server.

use crate::args::{self, Invocation};
use crate::config::{Config, ConfigHandle, RESERVED_DESCRIPTORS};
use crate::ground::Ground;
use crate::ground::gate;
use crate::persist::{self, Persistence};
use crate::repl::Replication;
use crate::server::Server;
use crate::{commands, cron, logging, net, os, repl};
use sluice_persistence::storage::{
    Budget, Disk, Faults, Faulty, Paced, PowerCut, Storage, Throttle, Throttled,
};
use sluice_transport::state::Role;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// A load that takes no longer than this keeps clients waiting in the queue of the socket; a longer one answers them.
const QUIET_LOAD: Duration = Duration::from_millis(200);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    if let Some(code) = tool(&words) {
        return code;
    }
    let sources = match args::parse(&words) {
        Invocation::Serve(sources) => sources,
        Invocation::Print(text) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Invocation::Refuse(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(text) = logging::configure(&loaded.config) {
        eprintln!("{text}");
        return ExitCode::FAILURE;
    }
    // A supervisor watches the process it started.
    let supervised = crate::supervised::find(loaded.config.supervised);
    let daemon = loaded.config.daemonize && !supervised;
    if daemon && let Err(e) = os::daemonize() {
        eprintln!("Can't daemonize: {e}");
        return ExitCode::FAILURE;
    }
    let logfile = &loaded.config.logfile;
    crate::crash::install(&if logfile.is_empty() {
        Default::default()
    } else {
        loaded.config.dir.join(logfile)
    });
    logging::starting(!words.is_empty());
    for warning in &loaded.warnings {
        crate::log!(Warning, "{warning}");
    }
    match serve(loaded.config, daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            crate::log!(Warning, "{text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tool that the program's name or its first argument names, if one does.
fn tool(words: &[Vec<u8>]) -> Option<ExitCode> {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (is_rdb, program, rest) = match words.first().map(Vec::as_slice) {
        _ if name.ends_with("-sentinel") => {
            eprintln!("{}", args::NO_SENTINEL);
            return Some(ExitCode::FAILURE);
        }
        _ if name == "redis-check-aof" => (false, name, words),
        _ if name == "redis-check-rdb" => (true, name, words),
        Some(b"check-aof") => (false, format!("{name} check-aof"), &words[1..]),
        Some(b"check-rdb") => (true, format!("{name} check-rdb"), &words[1..]),
        _ => return None,
    };
    let rest: Vec<String> = rest.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    if is_rdb {
        let good = match crate::check_rdb::CheckRdb::parse(&program, &rest) {
            Ok(job) => job.run(&mut std::io::stdout()),
            Err(text) => {
                eprintln!("{text}");
                false
            }
        };
        return Some(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let good = match crate::check_aof::CheckAof::parse(&program, &rest) {
        Ok(job) => job.run(&mut std::io::stdout(), &mut std::io::stdin().lock()),
        Err(text) => {
            println!("{text}");
            false
        }
    };
    Some(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn storage(config: &Config) -> Arc<dyn Storage> {
    let mut storage: Arc<dyn Storage> = Arc::new(Disk);
    if config.storage_throttle_rate > 0 || config.storage_throttle_latency > 0 {
        let latency = Duration::from_micros(config.storage_throttle_latency);
        storage = Arc::new(Throttled::new(Disk, Throttle::new(config.storage_throttle_rate, latency)));
    }
    if !config.storage_syncs_fail_while.is_empty() {
        let syncs_fail_while = Some(config.storage_syncs_fail_while.clone().into());
        storage = Arc::new(Faulty::new(storage, Faults { syncs_fail_while, ..Faults::default() }));
    }
    if config.storage_power_cut_at > 0 {
        let (at, seed) = (config.storage_power_cut_at, config.storage_power_cut_seed);
        storage = Arc::new(PowerCut::new(storage, at, seed));
    }
    storage
}

/// Makes engine settings follow the configuration.
fn follow(server: &Arc<Server>) -> Result<(), String> {
    let engine = server.engine.clone();
    server.config.on_change(
        &[
            "hash-max-listpack-entries",
            "hash-max-listpack-value",
            "list-max-listpack-size",
            "set-max-intset-entries",
            "zset-max-listpack-entries",
            "zset-max-listpack-value",
            "hll-sparse-max-bytes",
            "proto-max-bulk-len",
            "cut-preimage-limit",
            "repl-backlog-size",
        ],
        move |c| {
            let l = engine.limits();
            l.hash_max_listpack_entries.store(c.hash_max_listpack_entries, Ordering::Relaxed);
            l.hash_max_listpack_value.store(c.hash_max_listpack_value, Ordering::Relaxed);
            l.list_max_listpack_size.store(i64::from(c.list_max_listpack_size), Ordering::Relaxed);
            l.set_max_intset_entries.store(c.set_max_intset_entries, Ordering::Relaxed);
            l.zset_max_listpack_entries.store(c.zset_max_listpack_entries, Ordering::Relaxed);
            l.zset_max_listpack_value.store(c.zset_max_listpack_value, Ordering::Relaxed);
            l.hll_sparse_max_bytes.store(c.hll_sparse_max_bytes, Ordering::Relaxed);
            l.max_string.store(c.proto_max_bulk_len as usize, Ordering::Relaxed);
            engine.set_preimage_limit(c.cut_preimage_limit as usize);
            engine.log().set_backlog_size(c.repl_backlog_size as usize);
            Ok(())
        },
    )?;
    let budget = server.snapshot_budget.clone();
    server.config.on_change(&["persistence-max-bandwidth"], move |c| {
        budget.set_rate(c.persistence_max_bandwidth);
        Ok(())
    })?;
    let budget = server.repl.sync_budget.clone();
    server.config.on_change(&["repl-sync-max-bandwidth"], move |c| {
        budget.set_rate(c.repl_sync_max_bandwidth);
        Ok(())
    })?;
    let dump = server.dump.clone();
    server.config.on_change(&["rdbcompression"], move |c| {
        dump.compress.store(c.rdbcompression, Ordering::Relaxed);
        Ok(())
    })?;
    let load = server.persist.load.clone();
    load.key_delay.store(server.config.load().key_load_delay, Ordering::Relaxed);
    server.config.on_change(&["key-load-delay"], move |c| {
        load.key_delay.store(c.key_load_delay, Ordering::Relaxed);
        Ok(())
    })?;
    server.config.on_change(&["maxclients"], |c| {
        let most = os::raise_descriptor_limit(c.maxclients + RESERVED_DESCRIPTORS)
            .saturating_sub(RESERVED_DESCRIPTORS);
        if most >= c.maxclients || most == 0 {
            return Ok(());
        }
        Err(format!(
            "The operating system is not able to handle the specified number of clients, try with {most}"
        ))
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["maxmemory", "latency-tracking", "crash-log-enabled"], move |c| {
        if let Some(s) = weak.upgrade() {
            s.follow_maxmemory(c);
            s.stats.latency.on.store(c.latency_tracking, Ordering::Relaxed);
            crate::crash::set_enabled(c.crash_log_enabled);
        }
        Ok(())
    })?;
    // Listening sockets are opened once.
    let (port, bind) = (server.port, server.config.load().bind.clone());
    server.config.on_change(&["port", "bind"], move |c| {
        if c.port == port && c.bind == bind {
            return Ok(());
        }
        Err("Changing the listening address of a running server is not supported yet".into())
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["slowlog-log-slower-than", "slowlog-max-len", "loglevel"], move |c| {
        logging::set_level(c.loglevel);
        if let Some(s) = weak.upgrade() {
            s.slowlog.threshold.store(c.slowlog_log_slower_than, Ordering::Relaxed);
            s.slowlog.max_len.store(c.slowlog_max_len, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["save", "stop-writes-on-bgsave-error"], move |c| {
        if let Some(s) = weak.upgrade() {
            persist::update_gate(&s, c);
        }
        Ok(())
    })?;
    server.engine.set_read_only_replica(server.config.load().replica_read_only);
    let weak = Arc::downgrade(server);
    server.config.on_change(&["replica-read-only", "replica-serve-stale-data"], move |c| {
        if let Some(s) = weak.upgrade() {
            repl::update_gates_by(&s, c);
        }
        Ok(())
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["appendonly"], move |c| match weak.upgrade() {
        Some(s) => crate::aof::follow_appendonly(&s, c),
        None => Ok(()),
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["appendfsync", "aof-disable-auto-gc"], move |c| {
        if let Some(s) = weak.upgrade() {
            crate::aof::follow_policy(&s, c);
            crate::aof::collect_history(&s, c);
        }
        Ok(())
    })?;
    let weak = Arc::downgrade(server);
    server.config.on_change(&["min-replicas-to-write", "min-replicas-max-lag"], move |c| {
        if let Some(s) = weak.upgrade() {
            repl::primary::update_good_by(&s, c);
        }
        Ok(())
    })
}

fn serve(mut config: Config, daemon: bool) -> Result<(), String> {
    let dir = config.dir.clone();
    std::env::set_current_dir(&dir)
        .map_err(|e| format!("Can't chdir to '{}': {}", dir.display(), crate::config::os_reason(&e)))?;
    let descriptors = os::raise_descriptor_limit(config.maxclients + RESERVED_DESCRIPTORS);
    let most = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
    if most < config.maxclients {
        crate::log!(
            Warning,
            "Current maximum open files is {descriptors}. maxclients has been reduced from {} to {most} to compensate \
             for low ulimit. If you need higher maxclients increase 'ulimit -n'.",
            config.maxclients
        );
        config.maxclients = most;
    }
    let listeners = if config.port == 0 {
        Vec::new()
    } else {
        net::listen(&config.bind.0, config.port, config.tcp_backlog)
            .map_err(|e| format!("{e}. Failed listening on port {} (TCP), aborting.", config.port))?
    };
    let unix = match config.unixsocket.as_str() {
        "" => None,
        path => Some(net::listen_unix(path, config.unixsocketperm)?),
    };
    if listeners.is_empty() && unix.is_none() {
        crate::log!(Warning, "Nobody could reach this server: set 'port' and 'bind', or 'unixsocket'");
        return Err("Configured to not listen anywhere, exiting.".into());
    }
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            crate::log!(Notice, "Listening on {address} (TCP)");
        }
    }
    if unix.is_some() {
        crate::log!(Notice, "Listening on {} (Unix socket)", config.unixsocket);
    }
    crate::supervised::write_pidfile(&mut config, daemon);
    let dump = Arc::new(crate::dump::Settings::default());
    let engine = commands::engine(&config, dump.clone())
        .map_err(|e| format!("*** FATAL CONFIG FILE ERROR *** {e}"))?;
    let (port, io_threads) = (config.port, config.io_threads);
    let storage = storage(&config);
    let snapshot_budget = Budget::new(config.persistence_max_bandwidth);
    let paced_storage = Arc::new(Paced::new(storage.clone(), snapshot_budget.clone()));
    let commands = commands::Table::of(&engine);
    let ground = Ground::new(engine, ConfigHandle::new(config), (storage, paced_storage));
    let server = Arc::new(Server {
        ground,
        commands,
        dump,
        snapshot_budget,
        clients: Default::default(),
        repl: Replication::new(),
        persist: Persistence::default(),
        snapshots: Default::default(),
        aof: crate::aof::Aof::default(),
        migrate: Default::default(),
        shutdown: tokio::sync::Notify::new(),
        ending: Default::default(),
        pause: Default::default(),
    });
    follow(&server)?;
    logging::set_role(logging::Role::Primary);
    logging::initialized(port, server.config.load().always_show_logo);
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string());
    let mut workers = Vec::new();
    for i in 1..io_threads {
        let (to, from) = mpsc::unbounded_channel();
        workers.push(to);
        let (server, runtime) = (server.clone(), runtime()?);
        std::thread::Builder::new()
            .name(format!("io-{i}"))
            .spawn(move || {
                os::short_turns();
                runtime.block_on(net::worker(server, from));
            })
            .map_err(|e| e.to_string())?;
    }
    let (to, from) = mpsc::unbounded_channel();
    workers.push(to);
    let grown = server.grown.clone();
    // Replicas alone ask for it. Who wrote sees to the append-only file itself, and cron to what nobody waits for.
    server.engine.log().set_waker(move || grown.notify_waiters());
    // The memory of a server without data, which INFO tells from that of the data.
    crate::ground::memory::Memory::now();
    os::short_turns();
    server.set_gate(gate::LOADING, true);
    crate::supervised::loading();
    let outcome: Result<(), String> = runtime()?.block_on(async {
        tokio::spawn(cron::signals(server.clone()));
        // A file that cannot be loaded ends the server.
        let (to, mut loaded) = tokio::sync::oneshot::channel();
        let owner = server.clone();
        std::thread::spawn(move || to.send(persist::load_at_start(&owner)));
        // Little data is there before the first client is let in; while more is loaded they are told LOADING.
        let early = tokio::time::timeout(QUIET_LOAD, &mut loaded).await.ok();
        for l in listeners {
            tokio::spawn(net::accept(server.clone(), l, workers.clone()));
        }
        if let Some(l) = unix {
            tokio::spawn(net::accept_unix(server.clone(), l, workers.clone()));
        }
        let owner = server.clone();
        let load = async move {
            let outcome = match early {
                Some(outcome) => outcome,
                None => loaded.await,
            };
            outcome.unwrap_or_else(|_| Err("the loading thread panicked".into()))?;
            crate::aof::begin_service(&owner)?;
            let primary = owner.config.load().replicaof.0.clone();
            if primary.is_some() {
                repl::start_as_replica(&owner);
            }
            owner.set_gate(gate::LOADING, false);
            if let Some((host, port)) = primary {
                if owner.history.lock().role() == Role::Primary {
                    // Nothing to resume: no file said which history its data is of.
                    owner.history.lock().full_sync_began();
                }
                repl::follow(&owner, host, port);
            }
            logging::ready();
            tokio::spawn(crate::expiry::run(owner.clone()));
            crate::supervised::ready(owner.is_replica());
            tokio::spawn(cron::run(owner));
            std::future::pending().await
        };
        tokio::select! {
            () = net::worker(server.clone(), from) => Ok(()),
            end = load => end,
            () = server.shutdown.notified() => Ok(()),
        }
    });
    outcome?;
    crate::log!(Warning, "Sluice is now ready to exit, bye bye...");
    Ok(())
}
