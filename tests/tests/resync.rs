//! Links that break and topologies that change: partial resync, chains, stars, promotion, with Redis in the mix.

use sluice_tests::data::{bulk, write_some};
use sluice_tests::{Busy, Program, Reply, Server, Start, peers_here, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn full_syncs(server: &Server) -> i64 {
    server.number("stats", "sync_full")
}

fn partial_syncs(server: &Server) -> i64 {
    server.number("stats", "sync_partial_ok")
}

/// A primary with some data and backlog enough for any test.
fn primary() -> Server {
    let server = Server::sluice("--repl-backlog-size 64mb");
    write_some(&mut server.client(), 1, 500);
    server
}

fn replica_of(primary: &Server) -> Server {
    let replica = Server::sluice("--repl-backlog-size 64mb");
    replica.follow(primary);
    replica.same_as(primary);
    replica
}

#[test]
fn a_broken_link_continues_with_what_was_missed() {
    let primary = primary();
    let mut replicas = vec![replica_of(&primary)];
    if peers_here(&["redis-server"]) {
        let redis = Server::redis("");
        redis.follow(&primary);
        redis.same_as(&primary);
        replicas.push(redis);
    }
    let full = full_syncs(&primary);
    let busy = Busy::on(&primary);
    for _ in 0..3 {
        busy.goes_on(50);
        primary.say("CLIENT KILL TYPE replica");
        busy.goes_on(50);
        replicas.iter().for_each(Server::link_up);
    }
    busy.stop();
    for replica in &replicas {
        replica.same_as(&primary);
    }
    assert_eq!(full_syncs(&primary), full, "no full sync more");
    assert!(partial_syncs(&primary) >= 3);
}

#[test]
fn what_the_backlog_no_longer_has_takes_a_full_sync() {
    let primary = Server::sluice("--repl-backlog-size 16kb");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.same_as(&primary);
    // The replica stands still while the backlog moves on.
    replica.signal("STOP");
    primary.say("CLIENT KILL TYPE replica");
    write_some(&mut primary.client(), 9, 5000);
    replica.signal("CONT");
    replica.same_as(&primary);
    assert_eq!(full_syncs(&primary), 2);
    assert!(primary.number("stats", "sync_partial_err") >= 1);
}

#[test]
fn a_chain_and_a_star_end_up_equal_and_tell_who_follows_whom() {
    let head = primary();
    let middle = replica_of(&head);
    let tail = replica_of(&middle);
    let beside = replica_of(&head);
    let busy = Busy::on(&head);
    busy.goes_on(500);
    busy.stop();
    for replica in [&middle, &beside, &tail] {
        replica.same_as(&head);
    }
    assert_eq!(head.number("replication", "connected_slaves"), 2);
    assert_eq!(middle.number("replication", "connected_slaves"), 1);
    assert_eq!(middle.info("replication", "role").as_deref(), Some("slave"));
    let id = head.info("replication", "master_replid");
    for replica in [&middle, &tail, &beside] {
        assert_eq!(replica.info("replication", "master_replid"), id, "one history");
    }
    let line = head.info("replication", "slave0").unwrap();
    assert!(line.starts_with("ip=127.0.0.1,port=") && line.contains(",state=online,offset="), "{line}");
    let role = head.say("ROLE");
    assert_eq!(role.items()[0], "master".into());
    assert_eq!(role.items()[2].items().len(), 2);
    let role = tail.say("ROLE");
    assert_eq!(role.items()[0], "slave".into());
    assert_eq!(role.items()[2], Reply::Int(middle.port.into()));
    assert_eq!(role.items()[3], "connected".into());
}

#[test]
fn a_chain_with_redis_at_either_place() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    for order in [
        [Program::Redis, Program::Sluice, Program::Redis],
        [Program::Sluice, Program::Redis, Program::Sluice],
    ] {
        let [head, middle, tail] = order.map(|program| Start::new(program, "--repl-backlog-size 64mb").up());
        write_some(&mut head.client(), 4, 500);
        middle.follow(&head);
        middle.same_as(&head);
        tail.follow(&middle);
        tail.same_as(&middle);
        let busy = Busy::on(&head);
        busy.goes_on(300);
        head.say("CLIENT KILL TYPE replica");
        busy.goes_on(50);
        middle.link_up();
        busy.stop();
        middle.same_as(&head);
        tail.same_as(&head);
        assert_eq!(full_syncs(&middle), 1, "{order:?}: the tail was synced once");
    }
}

#[test]
fn a_promoted_replica_keeps_the_history_for_its_siblings() {
    let mut programs = vec![Program::Sluice];
    if peers_here(&["redis-server"]) {
        programs.push(Program::Redis);
    }
    for sibling in programs {
        let old = primary();
        let new = replica_of(&old);
        let sibling = Start::new(sibling, "--repl-backlog-size 64mb").up();
        sibling.follow(&old);
        sibling.same_as(&old);
        let old_id = old.info("replication", "master_replid");
        write_some(&mut old.client(), 2, 300);
        new.caught_up(&old);
        sibling.caught_up(&old);
        old.kill();

        new.say("REPLICAOF NO ONE");
        assert_eq!(new.info("replication", "role").as_deref(), Some("master"));
        assert_eq!(new.info("replication", "master_replid2"), old_id);
        assert_ne!(new.info("replication", "master_replid"), old_id);
        write_some(&mut new.client(), 3, 300);
        sibling.follow(&new);
        sibling.same_as(&new);
        assert_eq!(full_syncs(&new), 0, "the sibling continued");
        assert_eq!(partial_syncs(&new), 1);
    }
}

#[test]
fn a_primary_becomes_a_replica_of_its_own_replica_without_a_full_sync() {
    let old = primary();
    let new = replica_of(&old);
    write_some(&mut old.client(), 2, 300);
    new.caught_up(&old);
    new.say("REPLICAOF NO ONE");
    write_some(&mut new.client(), 3, 300);
    old.follow(&new);
    old.same_as(&new);
    assert_eq!(full_syncs(&new), 0, "it continued");
}

#[test]
fn writes_that_only_the_old_primary_has_are_given_up() {
    let old = primary();
    let new = replica_of(&old);
    new.say("REPLICAOF NO ONE");
    old.say("SET only-here 1");
    new.say("SET only-there 1");
    old.follow(&new);
    old.same_as(&new);
    assert_eq!(old.client().ask("GET only-here"), Reply::Nil);
    assert_eq!(full_syncs(&new), 1);
}

#[test]
fn repointing_a_middle_carries_its_replicas_along() {
    let (first, second) = (primary(), primary());
    let middle = replica_of(&first);
    let tail = replica_of(&middle);
    middle.follow(&second);
    middle.same_as(&second);
    tail.same_as(&middle);
    write_some(&mut second.client(), 5, 300);
    middle.same_as(&second);
    tail.same_as(&middle);
}

#[test]
fn a_replica_given_at_start_syncs_and_its_primary_may_come_later() {
    let port = sluice_tests::server::free_port();
    let replica = Server::sluice(&format!("--replicaof 127.0.0.1 {port}"));
    assert_eq!(replica.info("replication", "master_link_status").as_deref(), Some("down"));
    let primary = Start::new(Program::Sluice, "").port(port).up();
    primary.say("SET a 1");
    until("the replica finds it", || (replica.client().ask("GET a") == "1".into()).then_some(()));
    replica.same_as(&primary);
}

#[test]
fn a_replica_restarted_from_its_file_has_all_it_needs() {
    let primary = primary();
    let replica = replica_of(&primary);
    replica.say("SAVE");
    let dir = replica.dir().clone();
    assert!(replica.terminate().success());
    write_some(&mut primary.client(), 6, 300);
    let replica =
        Start::new(Program::Sluice, &format!("--replicaof 127.0.0.1 {}", primary.port)).dir(&dir).up();
    replica.same_as(&primary);
}

/// Processor time a server has used, in ticks of the kernel.
fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn the_replicas_of_a_replica_follow_it_into_histories_ahead_and_behind() {
    // The offsets of one are far ahead of the other's.
    let (ahead, behind) = (primary(), Server::sluice(""));
    write_some(&mut behind.client(), 2, 20);
    let middle = Server::sluice("");
    middle.follow(&behind);
    middle.same_as(&behind);
    let last = replica_of(&middle);
    for turn in 0..6 {
        let to = if turn % 2 == 0 { &ahead } else { &behind };
        middle.follow(to);
        middle.same_as(to);
        last.same_as(to);
        write_some(&mut to.client(), turn, 20);
        last.same_as(to);
    }
    // Nobody who followed the old ones is left behind, turning round and round.
    let before = ticks(&middle);
    for _ in 0..10 {
        let seen = middle.say("INFO server").text();
        assert!(seen.contains("redis_version"));
        last.caught_up(&behind);
    }
    assert!(ticks(&middle) - before < 100, "a worker of the replica in the middle spins");
    assert_eq!(middle.number("replication", "connected_slaves"), 1);
}

/// Stands between a replica and its primary, as a link that takes so many bytes a second from the primary.
fn slow_link(primary: u16, bytes_a_second: u64) -> u16 {
    const PIECE: u64 = 32 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for replica in listener.incoming() {
            let mut replica = replica.expect("a replica");
            let mut primary = TcpStream::connect(("127.0.0.1", primary)).expect("the primary");
            let (mut from, mut to) = (replica.try_clone().unwrap(), primary.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut piece = vec![0; PIECE as usize];
                while let Ok(n @ 1..) = primary.read(&mut piece) {
                    std::thread::sleep(Duration::from_micros(n as u64 * 1_000_000 / bytes_a_second));
                    if replica.write_all(&piece[..n]).is_err() {
                        break;
                    }
                }
                let _ = replica.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_replica_behind_a_link_slower_than_the_writes_gets_through_its_first_sync_where_writers_wait() {
    for options in ["--repl-transport disk", "--repl-diskless-sync-delay 0"] {
        let primary = Server::sluice(&format!(
            "{options} --save '' --repl-backlog-size 16kb --client-output-buffer-limit replica 16mb 0 0 \
             --repl-sync-slow-writers yes"
        ));
        bulk(&mut primary.client(), 3000, 1000);
        let busy = Busy::with(&primary, {
            let (value, mut n) = (vec![b'x'; 1000], 0);
            move |c| {
                let writes: Vec<_> = (0..20)
                    .map(|i| {
                        [b"SET".to_vec(), format!("busy:{}", (n + i) % 500).into_bytes(), value.clone()]
                            .to_vec()
                    })
                    .collect();
                n += 20;
                c.pipeline(&writes);
                20
            }
        });
        let port = slow_link(primary.port, 1_500_000);
        let replica = Server::sluice("--repl-diskless-load swapdb");
        replica.say(&format!("REPLICAOF 127.0.0.1 {port}"));
        until("writers wait", || (primary.number("sync", "sync_slow_writers_wait_ms") > 0).then_some(()));
        assert_eq!(primary.say("GET bulk:1").bytes().len(), 1000, "reads do not");
        replica.link_up();
        assert_eq!(full_syncs(&primary), 1, "{options}");
        busy.stop();
        replica.same_as(&primary);
        until("nobody waits any more", || {
            (primary.number("sync", "sync_slow_writers_wait_ms") == 0).then_some(())
        });
        assert!(primary.number("sync", "sync_slow_writers_waits") > 0);
        assert_eq!(full_syncs(&primary), 1, "{options}");
    }
}
