//! The sections of INFO that need no more than counters: server, clients, stats, cpu, commands, errors, keyspace.

use std::sync::atomic::Ordering;

use super::{Sources, Text};
use crate::client::registry::kind;
use crate::latency::Histogram;
use crate::os::unix_micros;
use crate::os::{self, Usage};

pub(super) fn server(s: &Sources<'_>, t: &mut Text) {
    let up = s.started.elapsed().as_secs();
    let now = unix_micros();
    t.section("Server");
    t.field("redis_version", crate::version::REDIS_VERSION);
    t.field("redis_git_sha1", "00000000");
    t.field("redis_git_dirty", 0);
    t.field("redis_build_id", "0");
    t.field("redis_mode", "standalone");
    t.field("sluice_version", env!("CARGO_PKG_VERSION"));
    t.field("os", os::system_name());
    t.field("arch_bits", usize::BITS);
    t.field("monotonic_clock", "POSIX clock_gettime");
    t.field("multiplexing_api", "epoll");
    t.field("atomicvar_api", "rust");
    t.field("process_id", std::process::id());
    t.field("process_supervised", "no");
    t.field("run_id", s.run_id);
    t.field("tcp_port", s.port);
    t.field("server_time_usec", now);
    t.field("uptime_in_seconds", up);
    t.field("uptime_in_days", up / 86_400);
    t.field("hz", s.config.hz);
    t.field("configured_hz", s.config.hz);
    t.field("lru_clock", (now / 1_000_000) & 0xff_ffff);
    let executable = std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default();
    t.field("executable", executable);
    let file = s.config.file.as_deref().map(|p| p.display().to_string()).unwrap_or_default();
    t.field("config_file", file);
    if let Some(ms) = s.shutdown_left {
        t.field("shutdown_in_milliseconds", ms);
    }
    t.flag("io_threads_active", s.config.io_threads > 1);
}

pub(super) fn clients(s: &Sources<'_>, t: &mut Text) {
    let (mut connected, mut blocked, mut input, mut output) = (0, 0, 0, 0);
    for client in s.clients.all() {
        input = input.max(client.input_bytes.load(Ordering::Relaxed));
        output = output.max(client.output());
        blocked += usize::from(client.is_blocked());
        connected += usize::from(!client.is(kind::REPLICA));
    }
    t.section("Clients");
    t.field("connected_clients", connected);
    t.field("cluster_connections", 0);
    t.field("maxclients", s.config.maxclients);
    t.field("client_recent_max_input_buffer", input);
    t.field("client_recent_max_output_buffer", output);
    t.field("blocked_clients", blocked);
    t.field("tracking_clients", 0);
    t.field("clients_in_timeout_table", 0);
}

pub(super) fn stats(s: &Sources<'_>, t: &mut Text) {
    let c = s.stats;
    let shards = s.shards;
    let kbps = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    t.section("Stats");
    t.field("total_connections_received", c.connections_received.get());
    t.field("total_commands_processed", c.commands_processed.get());
    t.field("instantaneous_ops_per_sec", c.ops.lock().mean());
    t.field("total_net_input_bytes", c.net_input_bytes.get());
    t.field("total_net_output_bytes", c.net_output_bytes.get());
    t.field("total_net_repl_input_bytes", c.net_repl_input_bytes.get());
    t.field("total_net_repl_output_bytes", c.net_repl_output_bytes.get());
    t.field("instantaneous_input_kbps", kbps(c.input_rate.lock().mean()));
    t.field("instantaneous_output_kbps", kbps(c.output_rate.lock().mean()));
    t.field("instantaneous_input_repl_kbps", kbps(c.repl_input_rate.lock().mean()));
    t.field("instantaneous_output_repl_kbps", kbps(c.repl_output_rate.lock().mean()));
    t.field("rejected_connections", c.rejected_connections.get());
    t.field("sync_full", c.sync_full.get());
    t.field("sync_partial_ok", c.sync_partial_ok.get());
    t.field("sync_partial_err", c.sync_partial_err.get());
    t.field("expired_keys", shards.expired);
    t.field("expired_stale_perc", "0.00");
    t.field("expired_time_cap_reached_count", 0);
    t.field("expire_cycle_cpu_milliseconds", 0);
    t.field("evicted_keys", 0);
    t.field("evicted_clients", 0);
    t.field("total_eviction_exceeded_time", 0);
    t.field("current_eviction_exceeded_time", 0);
    t.field("keyspace_hits", shards.hits);
    t.field("keyspace_misses", shards.misses);
    t.field("pubsub_channels", 0);
    t.field("pubsub_patterns", 0);
    t.field("pubsubshard_channels", 0);
    // There is no fork: a snapshot is a cut.
    t.field("latest_fork_usec", 0);
    // There are none: what they would be for is counted.
    t.field("total_forks", s.stats.background_jobs.get());
    t.field("migrate_cached_sockets", s.migrate_sockets);
    t.field("slave_expires_tracked_keys", s.engine.own_expiries());
    for name in ["hits", "misses", "key_hits", "key_misses"] {
        t.field(&format!("active_defrag_{name}"), 0);
    }
    t.field("total_active_defrag_time", 0);
    t.field("current_active_defrag_time", 0);
    t.field("tracking_total_keys", 0);
    t.field("tracking_total_items", 0);
    t.field("tracking_total_prefixes", 0);
    t.field("unexpected_error_replies", c.unexpected_error_replies.get());
    t.field("total_error_replies", c.error_replies.get());
    t.field("dump_payload_sanitizations", 0);
    t.field("total_reads_processed", c.reads_processed.get());
    t.field("total_writes_processed", c.writes_processed.get());
    t.field("io_threaded_reads_processed", 0);
    t.field("io_threaded_writes_processed", 0);
    t.field("reply_buffer_shrinks", 0);
    t.field("reply_buffer_expands", 0);
}

pub(super) fn cpu(_: &Sources<'_>, t: &mut Text) {
    let (system, user) = os::cpu_time(Usage::Process);
    let (child_system, child_user) = os::cpu_time(Usage::Children);
    let (thread_system, thread_user) = os::cpu_time(Usage::Thread);
    t.section("CPU");
    for (name, time) in [
        ("used_cpu_sys", system),
        ("used_cpu_user", user),
        ("used_cpu_sys_children", child_system),
        ("used_cpu_user_children", child_user),
        ("used_cpu_sys_main_thread", thread_system),
        ("used_cpu_user_main_thread", thread_user),
    ] {
        t.field(name, format!("{:.6}", time.as_secs_f64()));
    }
}

pub(super) fn modules(_: &Sources<'_>, t: &mut Text) {
    t.section("Modules");
}

pub(super) fn commandstats(s: &Sources<'_>, t: &mut Text) {
    t.section("Commandstats");
    for row in s.engine.commands() {
        let name = row.command.name;
        let subcommands = s.stats.subcommands.of(name);
        for (sub, c) in &subcommands {
            command_line(t, &format!("{name}|{sub}"), [c.calls, c.micros * 1000, c.rejected, c.failed]);
        }
        let stats = s.engine.command_stats(row.id);
        let counts =
            [&stats.calls, &stats.nanos, &stats.rejected, &stats.failed].map(|c| c.load(Ordering::Relaxed));
        if subcommands.is_empty() && counts[0] + counts[2] + counts[3] > 0 {
            command_line(t, name, counts);
        }
    }
}

fn command_line(t: &mut Text, name: &str, [calls, nanos, rejected, failed]: [u64; 4]) {
    let mean = if calls == 0 { 0.0 } else { nanos as f64 / 1000.0 / calls as f64 };
    t.field(
        &format!("cmdstat_{name}"),
        format!(
            "calls={calls},usec={},usec_per_call={mean:.2},rejected_calls={rejected},failed_calls={failed}",
            nanos / 1000
        ),
    );
}

pub(super) fn errorstats(s: &Sources<'_>, t: &mut Text) {
    t.section("Errorstats");
    for (code, count) in s.stats.errors.lock().iter() {
        t.field(&format!("errorstat_{code}"), format!("count={count}"));
    }
}

pub(super) fn latencystats(s: &Sources<'_>, t: &mut Text) {
    t.section("Latencystats");
    if !s.config.latency_tracking {
        return;
    }
    let percents = &s.config.latency_tracking_info_percentiles.0;
    let mut line = |name: &str, histogram: &Histogram| {
        if let Some(found) = histogram.percentiles(percents) {
            let parts =
                percents.iter().zip(found).map(|(p, nanos)| format!("p{p}={:.3}", nanos as f64 / 1000.0));
            t.field(&format!("latency_percentiles_usec_{name}"), parts.collect::<Vec<_>>().join(","));
        }
    };
    let mut parents = Vec::new();
    s.stats.latency.each_sub(|command, sub, histogram| {
        line(&format!("{command}|{sub}"), histogram);
        parents.push(command.to_owned());
    });
    for row in s.engine.rows().filter(|row| !parents.iter().any(|p| p == row.command.name)) {
        if let Some(histogram) = s.stats.latency.of(row.id) {
            line(row.command.name, histogram);
        }
    }
}

pub(super) fn cluster(_: &Sources<'_>, t: &mut Text) {
    t.section("Cluster");
    t.field("cluster_enabled", 0);
}

pub(super) fn keyspace(s: &Sources<'_>, t: &mut Text) {
    t.section("Keyspace");
    for (db, (keys, expires)) in s.databases.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
        t.field(&format!("db{db}"), format!("keys={keys},expires={expires},avg_ttl=0"));
    }
}
