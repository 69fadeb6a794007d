//! Every directive that is called `full` in docs/directives.md has its effect shown by a test: here, or where the table says.

use sluice_tests::client::request;
use sluice_tests::{Program, Reply, Server, Start, until};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// A directive, the file of tests and the test that fails where it has no effect.
const SHOWN: &str = "
    port                            access            a_password_is_asked_for
    bind                            directives        only_the_bound_address_listens_and_the_log_names_it
    protected-mode                  access            protected_mode_turns_others_away
    tcp-backlog                     directives        the_system_is_asked_for_the_backlog_and_for_keep_alives
    tcp-keepalive                   directives        the_system_is_asked_for_the_backlog_and_for_keep_alives
    timeout                         access            idle_clients_are_closed_after_timeout
    maxclients                      access            clients_over_the_limit_are_told_and_closed
    unixsocket                      access            a_unix_socket_is_another_way_in
    unixsocketperm                  access            a_unix_socket_is_another_way_in
    client-query-buffer-limit       protocol          the_query_buffer_limit_closes_the_connection
    client-output-buffer-limit      replication_rules a_replica_that_does_not_read_is_dropped_at_its_limit_and_the_primary_lives
    proto-max-bulk-len              directives        limits_of_requests_and_databases_hold
    io-threads                      directives        threads_are_as_many_as_asked_for
    daemonize                       service           a_daemon_writes_its_pidfile_and_removes_it
    pidfile                         service           a_daemon_writes_its_pidfile_and_removes_it
    supervised                      service           systemd_is_told_when_the_server_is_ready_and_when_it_ends
    loglevel                        directives        the_log_goes_where_and_from_where_it_is_told
    logfile                         directives        the_log_goes_where_and_from_where_it_is_told
    crash-log-enabled               directives        a_crash_is_silent_where_told_so
    always-show-logo                directives        the_log_goes_where_and_from_where_it_is_told
    databases                       directives        limits_of_requests_and_databases_hold
    shutdown-timeout                directives        a_shutdown_waits_for_replicas_as_long_as_told
    shutdown-on-sigint              directives        signals_save_or_not_as_told
    shutdown-on-sigterm             directives        signals_save_or_not_as_told
    dir                             rdb               save_and_bgsave_survive_a_restart
    dbfilename                      directives        files_have_the_names_and_sums_that_are_told
    save                            rdb               save_points_save_by_themselves
    stop-writes-on-bgsave-error     rdb_damage        a_disk_that_is_full_fails_save_and_leaves_the_old_file
    rdbcompression                  directives        files_have_the_names_and_sums_that_are_told
    rdbchecksum                     directives        files_have_the_names_and_sums_that_are_told
    rdb-del-sync-files              directives        the_file_of_a_sync_stays_or_goes_as_told
    rdb-key-save-delay              full_sync         a_swapdb_replica_of_another_history_is_loading
    key-load-delay                  check_rdb         a_load_shows_its_progress_and_clients_are_told_to_wait
    appendonly                      aof               switched_on_and_off_it_holds_what_there_is
    appendfilename                  directives        the_append_only_file_is_as_told
    appenddirname                   directives        the_append_only_file_is_as_told
    appendfsync                     aof               what_was_acknowledged_is_in_the_file_under_every_policy
    no-appendfsync-on-rewrite       directives        no_sync_disturbs_a_snapshot_where_told_so
    auto-aof-rewrite-percentage     directives        the_append_only_file_is_as_told
    auto-aof-rewrite-min-size       directives        the_append_only_file_is_as_told
    aof-load-truncated              aof               a_torn_end_is_cut_back_to_the_last_whole_command_or_block
    aof-use-rdb-preamble            aof               an_append_only_file_goes_to_redis_and_comes_back
    aof-timestamp-enabled           directives        the_append_only_file_is_as_told
    aof-disable-auto-gc             directives        the_append_only_file_is_as_told
    replicaof                       configuration     flags_are_taken_in_every_form
    masteruser                      replication_rules masterauth_lets_a_replica_in_and_a_wrong_one_does_not
    masterauth                      replication_rules masterauth_lets_a_replica_in_and_a_wrong_one_does_not
    replica-serve-stale-data        replication_rules stale_data_is_refused_when_told_so
    replica-read-only               replication_rules a_replica_refuses_writes_unless_told_otherwise
    replica-ignore-maxmemory        maxmemory         a_replica_takes_what_its_primary_sends_unless_told_otherwise
    replica-ignore-disk-write-errors unapplied        a_replica_whose_disk_fails_ends_at_the_next_write_unless_it_is_to_ignore_that
    propagation-error-behavior      unapplied         what_happens_then_is_a_setting
    replica-priority                directives        a_replica_is_announced_as_told
    replica-announced               directives        a_replica_is_announced_as_told
    replica-announce-ip             directives        a_replica_is_announced_as_told
    replica-announce-port           directives        a_replica_is_announced_as_told
    repl-diskless-sync              full_sync         auto_follows_repl_diskless_sync
    repl-diskless-sync-delay        full_sync         replicas_of_both_kinds_gathered_in_the_window_share_one_cut
    repl-diskless-sync-max-replicas full_sync         enough_replicas_end_the_window_early
    repl-diskless-load              full_sync         a_swapdb_replica_serves_its_old_data_during_the_sync
    repl-ping-replica-period        replica_link      what_a_replica_relays_is_its_primarys_stream_alone_whomever_it_turns_to
    repl-timeout                    garbage_peers     a_primary_that_falls_silent_is_given_up_after_the_timeout
    repl-sync-slow-writers          resync            a_replica_behind_a_link_slower_than_the_writes_gets_through_its_first_sync_where_writers_wait
    active-expire-effort            ../../server/src/expiry more_effort_takes_more_time_and_leaves_fewer_expired_keys
    repl-backlog-size               resync            what_the_backlog_no_longer_has_takes_a_full_sync
    repl-backlog-ttl                roles             the_backlog_goes_after_its_time_and_its_history_with_it
    min-replicas-to-write           replication_rules min_replicas_to_write_needs_good_replicas
    min-replicas-max-lag            directives        a_replica_that_lags_is_no_good_one
    repl-transport                  full_sync         auto_follows_repl_diskless_sync
    repl-compression                full_sync         a_framed_sync_can_be_compressed
    repl-diskless-window            storm             everybody_has_the_same_data_after_a_storm_with_the_least_room
    cut-preimage-limit              storm             everybody_has_the_same_data_after_a_storm_with_the_least_room
    aof-write-wait                  aof               a_write_that_the_disk_holds_up_keeps_replies_no_longer_than_told
    shards                          storm             everybody_has_the_same_data_after_a_storm_with_the_least_room
    persistence-max-bandwidth       budget            a_snapshot_within_its_budget_waits_while_clients_are_served
    repl-sync-max-bandwidth         budget            full_syncs_share_one_budget_whatever_carries_them
    storage-throttle-rate           rdb               a_background_save_is_of_one_moment
    storage-throttle-latency        aof               a_write_that_the_disk_holds_up_keeps_replies_no_longer_than_told
    storage-syncs-fail-while        aof               after_a_sync_that_failed_nothing_is_called_durable_before_it_is_written_anew
    storage-power-cut-at            power_cut         a_snapshot_that_was_confirmed_outlasts_a_power_cut_at_any_operation
    storage-power-cut-seed          power_cut         a_snapshot_that_was_confirmed_outlasts_a_power_cut_at_any_operation
    requirepass                     access            a_password_is_asked_for
    enable-protected-configs        rdb_damage        a_disk_that_is_full_fails_save_and_leaves_the_old_file
    enable-debug-command            directives        debug_is_for_those_it_is_open_to
    maxmemory                       maxmemory         at_most_one_value_passes_the_limit_under_any_policy
    hash-max-listpack-entries       configuration     limits_of_encodings_follow_config_set
    hash-max-listpack-value         directives        values_of_hashes_and_nodes_of_lists_keep_to_their_limits
    list-max-listpack-size          directives        values_of_hashes_and_nodes_of_lists_keep_to_their_limits
    set-max-intset-entries          configuration     limits_of_encodings_follow_config_set
    zset-max-listpack-entries       directives        values_of_hashes_and_nodes_of_lists_keep_to_their_limits
    zset-max-listpack-value         configuration     limits_of_encodings_follow_config_set
    hll-sparse-max-bytes            hyperloglog       replies_and_bytes_are_those_of_redis
    slowlog-log-slower-than         directives        slow_commands_and_latencies_are_kept_as_told
    slowlog-max-len                 directives        slow_commands_and_latencies_are_kept_as_told
    latency-tracking                directives        slow_commands_and_latencies_are_kept_as_told
    latency-tracking-info-percentiles directives      slow_commands_and_latencies_are_kept_as_told
";

#[test]
fn every_directive_called_full_has_a_test_that_shows_its_effect() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(here.join("../docs/directives.md")).expect("the list of directives");
    let full: Vec<&str> = list
        .lines()
        .filter(|line| line.ends_with("| full |"))
        .map(|line| line.split('`').nth(1).expect("a name"))
        .collect();
    let rows =
        SHOWN.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
    let shown: BTreeMap<&str, (&str, &str)> = rows.map(|row| (row[0], (row[1], row[2]))).collect();
    let unshown: Vec<_> = full.iter().filter(|name| !shown.contains_key(*name)).collect();
    assert!(unshown.is_empty(), "called full, and no test shows what they do: {unshown:?}");
    for (name, (file, test)) in shown {
        assert!(full.contains(&name), "{name} is not called full");
        let source =
            std::fs::read_to_string(here.join("tests").join(format!("{file}.rs"))).unwrap_or_default();
        assert!(source.contains(&format!("fn {test}()")), "{name}: no test {test} in {file}.rs");
        assert!(
            source.contains(name) || file == "power_cut" || ["port", "dir"].contains(&name),
            "{file}.rs: no {name}"
        );
    }
}

fn reaches(address: &str, port: u16) -> bool {
    let address: SocketAddr = format!("{address}:{port}").parse().expect("an address");
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok()
}

#[test]
fn only_the_bound_address_listens_and_the_log_names_it() {
    let server = Start::new(Program::Sluice, "--bind 127.0.0.2").spawn();
    server.logged("Ready to accept connections");
    server.logged(&format!("Listening on 127.0.0.2:{} (TCP)", server.port));
    assert!(reaches("127.0.0.2", server.port) && !reaches("127.0.0.1", server.port));
}

/// What `ss` says of the sockets of a port.
fn sockets(port: u16, state: &str) -> String {
    let filter = format!("sport = :{port}");
    let out = std::process::Command::new("ss").args(["-Htno", "state", state, &filter]).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}

#[test]
fn the_system_is_asked_for_the_backlog_and_for_keep_alives() {
    let server = Server::sluice("--tcp-backlog 7 --tcp-keepalive 60 --bind 127.0.0.1");
    if sockets(server.port, "listening").is_empty() {
        eprintln!("skipped: ss is missing");
        return;
    }
    let listening = sockets(server.port, "listening");
    assert_eq!(listening.split_whitespace().nth(1), Some("7"), "{listening}");
    let client = server.client();
    until("a keep-alive timer", || {
        sockets(server.port, "established").contains("timer:(keepalive").then_some(())
    });
    drop(client);
    server.say("CONFIG SET tcp-keepalive 0");
    let mut later = server.client();
    later.say("PING");
    let port = later.local_port();
    let all = sockets(server.port, "established");
    let own = all.lines().find(|line| line.contains(&format!(":{port}"))).expect("the connection");
    assert!(!own.contains("keepalive"), "{own}");
}

#[test]
fn limits_of_requests_and_databases_hold() {
    let server = Server::sluice("--proto-max-bulk-len 1mb --databases 3");
    let mut c = server.client();
    assert_eq!(c.ask("SELECT 2").text(), "OK");
    assert!(c.ask("SELECT 3").text().contains("DB index is out of range"));
    c.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n").expect("sent");
    assert!(c.reply().expect("a reply").text().contains("invalid bulk length"));
}

#[test]
fn threads_are_as_many_as_asked_for() {
    let named = |server: &Server| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("io-")).count()
    };
    // The first worker is the main thread.
    assert_eq!((named(&Server::sluice("")), named(&Server::sluice("--io-threads 4"))), (0, 3));
}

#[test]
fn the_log_goes_where_and_from_where_it_is_told() {
    let log = |options: &str| {
        let server = Server::sluice(&format!("--logfile own.log {options}"));
        assert!(!server.log().contains("Ready to accept"), "it goes to the file alone");
        until("the log file", || {
            let text = std::fs::read_to_string(server.file("own.log")).ok()?;
            text.contains("Server initialized").then_some(text)
        })
    };
    assert!(log("--always-show-logo yes").contains("PID: "));
    let usual = log("");
    assert!(usual.contains("Running mode=") && !usual.contains("PID: "), "{usual}");
    assert!(!log("--loglevel warning").contains("Running mode="));
}

#[test]
fn a_crash_is_silent_where_told_so() {
    let mut server = Server::sluice("--crash-log-enabled no");
    server.client().send(&request(&["DEBUG", "SEGFAULT"])).expect("sent");
    server.wait_for_end();
    assert!(!server.log().contains("crashed by signal"), "{}", server.log());
}

#[test]
fn a_shutdown_waits_for_replicas_as_long_as_told() {
    for (timeout, waits) in [(1, true), (0, false)] {
        let mut primary = Server::sluice(&format!("--shutdown-timeout {timeout}"));
        let replica = Server::sluice("");
        replica.follow(&primary);
        replica.link_up();
        replica.signal("STOP");
        primary.say("SET k v");
        primary.signal("TERM");
        primary.wait_for_end();
        assert_eq!(primary.log().contains("Waiting for replicas before shutting down"), waits, "{timeout}");
        replica.signal("CONT");
    }
}

#[test]
fn signals_save_or_not_as_told() {
    for (options, signal, saves) in [
        ("--shutdown-on-sigterm save", "TERM", true),
        ("--shutdown-on-sigterm save", "INT", false),
        ("--shutdown-on-sigint save", "INT", true),
        ("--save 9999 9999 --shutdown-on-sigint nosave", "INT", false),
        ("--save 9999 9999 --shutdown-on-sigint nosave", "TERM", true),
    ] {
        let mut server = Server::sluice(options);
        server.say("SET k v");
        server.signal(signal);
        server.wait_for_end();
        assert_eq!(server.file("dump.rdb").exists(), saves, "{options}, SIG{signal}");
    }
}

#[test]
fn files_have_the_names_and_sums_that_are_told() {
    let saved = |options: &str| {
        let server = Server::sluice(&format!("--dbfilename own.rdb {options}"));
        server.client().run(&["SET", "k", &"x".repeat(10_000)]);
        server.say("SAVE");
        std::fs::read(server.file("own.rdb")).expect("the file")
    };
    let usual = saved("");
    assert!(usual.len() < 1000 && usual[usual.len() - 8..] != [0; 8]);
    assert!(saved("--rdbcompression no").len() > 10_000);
    let without = saved("--rdbchecksum no");
    assert_eq!(without[without.len() - 8..], [0; 8]);
}

#[test]
fn the_file_of_a_sync_stays_or_goes_as_told() {
    for (option, stays) in [("no", true), ("yes", false)] {
        let primary = Server::sluice(&format!("--repl-transport disk --rdb-del-sync-files {option}"));
        let replica = Server::sluice("");
        primary.say("SET k v");
        replica.follow(&primary);
        replica.same_as(&primary);
        until("the file stays or goes", || (primary.file("dump.rdb").exists() == stays).then_some(()));
    }
}

#[test]
fn the_append_only_file_is_as_told() {
    let server = Server::sluice(
        "--appendonly yes --appendfilename own.aof --appenddirname owndir --aof-timestamp-enabled yes \
         --aof-disable-auto-gc yes --auto-aof-rewrite-percentage 50 --auto-aof-rewrite-min-size 1gb",
    );
    let file = |name: &str| server.file("owndir").join(format!("own.aof.{name}"));
    let mut c = server.client();
    for i in 0..200 {
        c.run(&["SET", &format!("k{i}"), &"x".repeat(1000)]);
    }
    assert!(std::fs::read_to_string(file("1.incr.aof")).expect("the log").contains("#TS:"));
    assert!(file("manifest").exists() && !file("2.base.rdb").exists(), "below the least size");
    server.say("CONFIG SET auto-aof-rewrite-min-size 4kb");
    until("a rewrite by itself", || {
        let manifest = std::fs::read_to_string(file("manifest")).ok()?;
        manifest.contains("own.aof.2.base.rdb").then_some(())
    });
    server.reports("persistence", "aof_rewrite_in_progress", "0");
    assert!(file("1.incr.aof").exists(), "kept as history");
    server.say("CONFIG SET aof-disable-auto-gc no");
    until("history goes", || (!file("1.incr.aof").exists()).then_some(()));
}

#[test]
fn no_sync_disturbs_a_snapshot_where_told_so() {
    for (option, synced) in [("no", 1), ("yes", 0)] {
        let server = Server::sluice(&format!(
            "--appendonly yes --appendfsync everysec --rdb-key-save-delay 100000 --no-appendfsync-on-rewrite {option}"
        ));
        let mut c = server.client();
        for i in 0..600 {
            c.say(&format!("SET k{i} v"));
        }
        assert_eq!(c.ask("WAITAOF 1 0 0").items()[0], Reply::Int(1));
        c.ask("BGSAVE");
        server.reports("persistence", "rdb_bgsave_in_progress", "1");
        c.say("SET more v");
        assert_eq!(
            c.ask("WAITAOF 1 0 3000").items()[0],
            Reply::Int(synced),
            "no-appendfsync-on-rewrite {option}"
        );
        server.reports("persistence", "rdb_bgsave_in_progress", "1");
    }
}

#[test]
fn a_replica_is_announced_as_told() {
    let primary = Server::sluice("");
    let replica = Server::sluice(
        "--replica-announce-ip 10.1.2.3 --replica-announce-port 4321 --replica-priority 7 --replica-announced no",
    );
    replica.follow(&primary);
    replica.link_up();
    let line = until("the replica in INFO", || primary.info("replication", "slave0"));
    assert!(line.contains("ip=10.1.2.3,port=4321"), "{line}");
    assert_eq!(replica.info("replication", "slave_priority").as_deref(), Some("7"));
    assert_eq!(replica.info("replication", "replica_announced").as_deref(), Some("0"));
}

#[test]
fn a_replica_that_lags_is_no_good_one() {
    let primary = Server::sluice("--min-replicas-to-write 1 --min-replicas-max-lag 1");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    until("a good replica", || (!primary.client().ask("SET k v").is_error()).then_some(()));
    replica.signal("STOP");
    until("it lags", || primary.client().ask("SET k v").text().starts_with("NOREPLICAS").then_some(()));
    primary.say("CONFIG SET min-replicas-max-lag 1000");
    until("it is good again", || (!primary.client().ask("SET k v").is_error()).then_some(()));
    replica.signal("CONT");
}

#[test]
fn debug_is_for_those_it_is_open_to() {
    assert!(Server::sluice("--enable-debug-command no").client().ask("DEBUG SLEEP 0").is_error());
    assert_eq!(Server::sluice("--enable-debug-command local").say("DEBUG SLEEP 0").text(), "OK");
}

#[test]
fn values_of_hashes_and_nodes_of_lists_keep_to_their_limits() {
    let server = Server::sluice(
        "--hash-max-listpack-value 3 --zset-max-listpack-entries 2 --list-max-listpack-size 2",
    );
    let mut c = server.client();
    let mut encoding = |line: &str| {
        c.say("DEL k");
        c.say(line);
        c.say("OBJECT ENCODING k").text()
    };
    assert_eq!(encoding("HSET k f abc"), "listpack");
    assert_eq!(encoding("HSET k f abcd"), "hashtable");
    assert_eq!(encoding("ZADD k 1 a 2 b"), "listpack");
    assert_eq!(encoding("ZADD k 1 a 2 b 3 c"), "skiplist");
    encoding("RPUSH k 1 2 3 4 5");
    let object = server.say("DEBUG OBJECT k").text();
    assert!(object.contains("ql_nodes:3"), "{object}");
}

#[test]
fn slow_commands_and_latencies_are_kept_as_told() {
    let server = Server::sluice("--slowlog-log-slower-than -1 --latency-tracking-info-percentiles 12.5");
    let mut c = server.client();
    c.say("SET k v");
    assert_eq!(c.say("SLOWLOG LEN"), Reply::Int(0));
    assert!(
        server.info("latencystats", "latency_percentiles_usec_set").is_some_and(|v| v.starts_with("p12.5="))
    );
    c.say("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 3 latency-tracking no");
    for _ in 0..10 {
        c.say("GET k");
    }
    assert_eq!(c.say("SLOWLOG LEN"), Reply::Int(3));
    assert_eq!(server.info("latencystats", "latency_percentiles_usec_set"), None);
}
