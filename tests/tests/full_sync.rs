//! Full syncs from a Sluice primary, over every transport, to Sluice and to Redis, while writes go on: the two ends
//! must come out equal.

use sluice_tests::data::{bulk, every_encoding, same_contents, write_some};
use sluice_tests::small_disk::SmallDisk;
use sluice_tests::{Busy, Program, Reply, Server, Start, peers_here, until};

const TRANSPORTS: [&str; 3] = ["disk", "socket", "io-uring"];

fn primary(options: &str) -> Server {
    let server = Server::sluice(options);
    let mut c = server.client();
    c.pipeline(&every_encoding());
    write_some(&mut c, 1, 1000);
    bulk(&mut c, 2000, 1000);
    server
}

/// Attaches a replica while writes go on, and compares the data when they have stopped.
#[track_caller]
fn sync_under_writes(primary: &Server, replica: &Server) {
    let busy = Busy::on(primary);
    busy.goes_on(100);
    replica.follow(primary);
    replica.link_up();
    busy.goes_on(100);
    busy.stop();
    replica.same_as(primary);
    same_contents(&mut replica.client(), &mut primary.client());
}

/// What INFO says the last full sync went over; io-uring falls back where the kernel has none.
#[track_caller]
fn went_over(primary: &Server, transport: &str, format: &str) {
    primary.reports("sync", "sync_status", "ok");
    let over = primary.info("sync", "sync_transport").unwrap();
    let fell_back = transport == "io-uring" && over == "socket" && primary.log().contains("falling back");
    assert!(over == transport || fell_back, "over {over}, not {transport}");
    assert_eq!(primary.info("sync", "sync_format").as_deref(), Some(format));
    assert!(primary.number("sync", "sync_bytes") > 2_000_000);
    let disk = primary.number("sync", "sync_disk_bytes");
    assert_eq!(disk > 0, transport == "disk", "{disk} bytes on disk by {transport}");
}

#[test]
fn our_pairs_by_disk() {
    for load in ["disabled", "swapdb"] {
        let primary = primary("--repl-transport disk");
        let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
        sync_under_writes(&primary, &replica);
        went_over(&primary, "disk", "rdb");
        primary.alive();
    }
}

#[test]
fn our_pairs_by_plain_rdb_streams() {
    for transport in ["socket", "io-uring"] {
        let primary = primary(&format!("--repl-transport {transport}"));
        let replica = Server::sluice("--repl-diskless-load disabled");
        sync_under_writes(&primary, &replica);
        went_over(&primary, transport, "rdb-stream");
    }
}

#[test]
fn our_pairs_by_one_stream_of_cut_and_log() {
    for transport in ["socket", "io-uring"] {
        for load in ["on-empty-db", "swapdb"] {
            let primary = primary(&format!("--repl-transport {transport}"));
            let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
            sync_under_writes(&primary, &replica);
            went_over(&primary, transport, "sluice");
        }
    }
}

#[test]
fn auto_follows_repl_diskless_sync() {
    let primary = primary("--repl-diskless-sync no");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.same_as(&primary);
    assert_eq!(primary.info("sync", "sync_transport").as_deref(), Some("disk"));
    primary.say("CONFIG SET repl-diskless-sync yes");
    let second = Server::sluice("");
    second.follow(&primary);
    second.same_as(&primary);
    assert_ne!(primary.info("sync", "sync_transport").as_deref(), Some("disk"));
}

#[test]
fn redis_syncs_from_us_over_every_transport() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for transport in TRANSPORTS {
        for load in ["disabled", "swapdb"] {
            let primary = primary(&format!("--repl-transport {transport}"));
            let replica = Server::redis(&format!("--repl-diskless-load {load}"));
            sync_under_writes(&primary, &replica);
            went_over(&primary, transport, if transport == "disk" { "rdb" } else { "rdb-stream" });
        }
    }
}

#[test]
fn replicas_of_both_kinds_gathered_in_the_window_share_one_cut() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for transport in TRANSPORTS {
        let primary = primary(&format!("--repl-transport {transport} --repl-diskless-sync-delay 2"));
        let replicas = [
            Server::sluice("--repl-diskless-load disabled"),
            Server::redis(""),
            Server::sluice("--repl-diskless-load disabled"),
        ];
        replicas.iter().for_each(|r| r.follow(&primary));
        for replica in &replicas {
            replica.same_as(&primary);
        }
        assert_eq!(primary.number("sync", "sync_replicas"), 3, "by {transport}");
        assert_eq!(primary.number("stats", "sync_full"), 3);
        assert_eq!(primary.number("replication", "connected_slaves"), 3);
    }
}

#[test]
fn a_full_sync_replaces_what_the_replica_had() {
    for (transport, load) in
        [("disk", "disabled"), ("socket", "swapdb"), ("socket", "on-empty-db"), ("socket", "disabled")]
    {
        let primary = primary(&format!("--repl-transport {transport}"));
        let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
        let mut c = replica.client();
        c.say("SET old 1");
        c.say("SELECT 9");
        c.say("SET old-in-9 1");
        replica.follow(&primary);
        replica.same_as(&primary);
        assert_eq!(c.ask("GET old-in-9"), Reply::Nil, "{transport} {load}");
    }
}

/// With swapdb the old data answers until the new is complete, where it is of the same history.
#[test]
fn a_swapdb_replica_serves_its_old_data_during_the_sync() {
    let primary = primary("--repl-transport socket --repl-diskless-window 64kb --repl-backlog-size 16kb");
    let replica = Server::sluice("--repl-diskless-load swapdb");
    primary.say("SET old 1");
    replica.follow(&primary);
    replica.same_as(&primary);
    // Away from its primary until the backlog does not reach back any more.
    replica.say("REPLICAOF 127.0.0.1 1");
    let mut c = primary.client();
    c.say("DEL old");
    bulk(&mut c, 1000, 100);
    let mut c = replica.client();
    assert_eq!(c.ask("GET old"), "1".into());
    replica.follow(&primary);
    until("the old data is replaced", || match c.ask("GET old") {
        Reply::Nil => Some(()),
        reply => {
            assert_eq!(reply, "1".into());
            None
        }
    });
    replica.same_as(&primary);
    assert_eq!(primary.info("stats", "sync_full").as_deref(), Some("2"));
}

/// Old data of another history has nothing to do with the new: clients are told LOADING, as Redis tells them.
#[test]
fn a_swapdb_replica_of_another_history_is_loading() {
    let primary = primary("--repl-transport socket --repl-diskless-sync-delay 0");
    primary.say("CONFIG SET rdb-key-save-delay 2000");
    let replica = Server::sluice("--repl-diskless-load swapdb");
    let mut c = replica.client();
    c.say("SET old 1");
    replica.follow(&primary);
    until("it loads", || {
        matches!(c.ask("GET old"), Reply::Error(e) if e.starts_with("LOADING")).then_some(())
    });
    let loading = |field: &str| replica.info("persistence", field).unwrap_or_default();
    assert_eq!((loading("loading").as_str(), loading("async_loading").as_str()), ("1", "0"));
    // Given up half way, the old data is there again.
    primary.say("CONFIG SET repl-diskless-sync-delay 1000");
    primary.say("CLIENT KILL TYPE replica");
    until("the load is given up", || (loading("loading") == "0").then_some(()));
    assert_eq!(c.ask("GET old"), "1".into());
    assert_eq!(c.ask("DBSIZE"), Reply::Int(1));
}

#[test]
fn a_slow_disk_and_huge_values_do_not_tear_the_state() {
    let primary = Server::sluice("--repl-transport disk --storage-throttle-rate 3mb");
    let mut c = primary.client();
    for from in (0..20_000).step_by(500) {
        let fields: Vec<String> = (from..from + 500).map(|n| format!("field-{n} {n}")).collect();
        c.say(&format!("HSET big {}", fields.join(" ")));
        c.say(&format!("SADD bigset {}", fields.join(" ")));
        c.say(&format!(
            "ZADD bigzset {}",
            (from..from + 500).map(|n| format!("{n} m{n}")).collect::<Vec<_>>().join(" ")
        ));
        c.say(&format!("RPUSH biglist {}", fields.join(" ")));
    }
    bulk(&mut c, 3000, 1000);
    for transport in TRANSPORTS {
        primary.say(&format!("CONFIG SET repl-transport {transport}"));
        let replica = Server::sluice("--repl-diskless-load swapdb");
        let mut n = 0u64;
        let busy = Busy::with(&primary, move |c| {
            n += 1;
            let i = (n * 7919) % 20_000;
            c.pipeline(&[
                sluice_tests::words(&format!("HSET big field-{i} changed-{n} new-{n} 1")),
                sluice_tests::words(&format!("HDEL big field-{}", (i * 3) % 20_000)),
                sluice_tests::words(&format!("SREM bigset field-{i}")),
                sluice_tests::words(&format!("ZADD bigzset {n} m{i}")),
                sluice_tests::words(&format!("LSET biglist {} changed-{n}", i % 1000)),
                sluice_tests::words("RPOPLPUSH biglist biglist"),
            ]);
            6
        });
        busy.goes_on(60);
        replica.follow(&primary);
        replica.link_up();
        busy.goes_on(60);
        busy.stop();
        replica.same_as(&primary);
    }
}

#[test]
fn flushes_swaps_and_renames_during_a_sync_end_up_equal() {
    for (transport, load) in [("disk", "disabled"), ("socket", "swapdb"), ("socket", "disabled")] {
        let primary = primary(&format!("--repl-transport {transport} --storage-throttle-rate 4mb"));
        let replica = Server::sluice(&format!("--repl-diskless-load {load}"));
        let mut n = 0;
        let busy = Busy::with(&primary, move |c| {
            n += 1;
            let lines = [
                format!("SET a:{n} {n}"),
                "SWAPDB 0 3".into(),
                format!("SET b:{n} {n}"),
                format!("RENAME b:{n} c:{n}"),
                format!("MOVE c:{n} {}", 4 + n % 3),
                format!("COPY a:{n} d:{n}"),
                if n % 40 == 0 { "FLUSHDB".into() } else { format!("SADD e:{} {n}", n % 9) },
            ];
            c.pipeline(&lines.map(|l| sluice_tests::words(&l)));
            7
        });
        replica.follow(&primary);
        replica.link_up();
        busy.goes_on(70);
        busy.stop();
        replica.same_as(&primary);
        same_contents(&mut replica.client(), &mut primary.client());
    }
}

#[test]
fn a_replica_that_dies_in_the_middle_leaves_the_primary_well() {
    for transport in TRANSPORTS {
        let primary = primary(&format!("--repl-transport {transport}"));
        bulk(&mut primary.client(), 10_000, 1000);
        let replica = Start::new(Program::Sluice, &format!("--replicaof 127.0.0.1 {}", primary.port)).spawn();
        until("a full sync begins", || {
            let begun = primary.number("stats", "sync_full") > 0;
            (begun || primary.number("replication", "connected_slaves") > 0).then_some(())
        });
        replica.kill();
        primary.reports("replication", "connected_slaves", "0");
        let second = Server::sluice("");
        second.follow(&primary);
        second.same_as(&primary);
        primary.say("SAVE");
    }
}

#[test]
fn a_primary_that_dies_in_the_middle_leaves_the_replica_waiting() {
    let primary = primary("--repl-transport disk --storage-throttle-rate 1mb");
    let replica = Server::sluice("--repl-diskless-load swapdb");
    replica.say("SET mine 1");
    replica.follow(&primary);
    until("the sync is under way", || (primary.number("replication", "connected_slaves") > 0).then_some(()));
    let (port, dir) = (primary.port, primary.dir().clone());
    primary.kill();
    assert_eq!(replica.say("GET mine").text(), "1", "the old data is kept");
    let again = Start::new(Program::Sluice, "--repl-transport socket").dir(&dir).port(port).up();
    again.say("SET fresh 1");
    replica.same_as(&again);
    assert_eq!(replica.say("GET fresh").text(), "1");
}

/// The primary's disk is full: a staged sync fails with a reason, a diskless one does not need it.
#[test]
fn a_full_disk_fails_a_staged_sync_and_no_other() {
    let start = Start::new(Program::Sluice, "--repl-transport disk --enable-protected-configs yes");
    let Some(small) = SmallDisk::mount(&start.folder().join("small"), "1m") else {
        eprintln!("skipped: mounting takes root");
        return;
    };
    let primary = start.up();
    let mut c = primary.client();
    c.say(&format!("CONFIG SET dir {}", small.path().display()));
    bulk(&mut c, 3000, 1000);
    let replica = Server::sluice("--repl-diskless-load swapdb");
    replica.follow(&primary);
    primary.logged("No space left on device");
    primary.alive();
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0, "nothing is left behind");
    primary.say("CONFIG SET repl-transport socket");
    replica.same_as(&primary);
}

/// The replica's disk is full: it says so, keeps what it has, and syncs once it may load from the socket.
#[test]
fn a_full_disk_on_the_replica_leaves_its_data() {
    let primary = primary("--repl-transport socket");
    let start = Start::new(Program::Sluice, "--enable-protected-configs yes");
    let Some(small) = SmallDisk::mount(&start.folder().join("small"), "1m") else {
        eprintln!("skipped: mounting takes root");
        return;
    };
    let replica = start.up();
    let mut c = replica.client();
    c.say(&format!("CONFIG SET dir {}", small.path().display()));
    c.say("SET mine 1");
    replica.follow(&primary);
    replica.logged("No space left on device");
    assert_eq!(c.say("GET mine").text(), "1");
    c.say("CONFIG SET repl-diskless-load swapdb");
    replica.same_as(&primary);
}

#[test]
fn enough_replicas_end_the_window_early() {
    let primary = primary("--repl-diskless-sync-delay 3600 --repl-diskless-sync-max-replicas 2");
    let replicas = [Server::sluice(""), Server::sluice("")];
    replicas.iter().for_each(|r| r.follow(&primary));
    for replica in &replicas {
        replica.same_as(&primary);
    }
    assert_eq!(primary.number("sync", "sync_replicas"), 2);
}

/// Frames may be compressed: fewer bytes, the same data.
#[test]
fn a_framed_sync_can_be_compressed() {
    let primary = Server::sluice("--repl-diskless-sync-delay 0 --repl-transport socket");
    let mut c = primary.client();
    for n in 0..2000 {
        c.say(&format!("SET text:{n} {}", "what repeats compresses ".replace(' ', "-").repeat(40)));
    }
    let sent = |setting: &str| {
        primary.say(&format!("CONFIG SET repl-compression {setting}"));
        let replica = Server::sluice("--repl-diskless-load swapdb");
        sync_under_writes(&primary, &replica);
        assert_eq!(primary.info("sync", "sync_format").as_deref(), Some("sluice"));
        primary.number("sync", "sync_bytes")
    };
    let (plain, packed) = (sent("no"), sent("lz4"));
    assert!(packed > 0 && packed < plain / 2, "{packed} of {plain}");
}
