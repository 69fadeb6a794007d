//! Roles that change, and links that break, without a write lost or data sent twice: FAILOVER, REPLICAOF, restarts.

use sluice_tests::client::request;
use sluice_tests::{Busy, Program, Reply, Server, Start, until};

/// A primary with two replicas that follow it.
fn three(options: &str) -> [Server; 3] {
    let servers = [(); 3].map(|()| Server::sluice(options));
    for replica in &servers[1..] {
        replica.follow(&servers[0]);
        replica.link_up();
    }
    until("both are online", || {
        let online = |n: usize| {
            servers[0].info("replication", &format!("slave{n}")).is_some_and(|l| l.contains("state=online"))
        };
        (online(0) && online(1)).then_some(())
    });
    servers
}

fn syncs(servers: &[Server]) -> i64 {
    servers.iter().map(|s| s.number("stats", "sync_full")).sum()
}

#[test]
fn a_failover_under_writes_loses_none_of_them_and_costs_no_full_sync() {
    let servers = three("--repl-diskless-sync-delay 0");
    let before = syncs(&servers);
    let acknowledged = {
        let busy = Busy::with(&servers[0], {
            let mut n = 0u64;
            move |c| {
                // From the change of roles on the writes are refused; those that were answered OK must be there.
                let done = u64::from(!c.ask(&format!("SET w:{n} {n}")).is_error());
                n += done;
                done
            }
        });
        busy.goes_on(200);
        servers[0].say(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 20000", servers[1].port));
        until("the roles have changed", || {
            let done = servers[0].info("replication", "role")? == "slave"
                && servers[0].info("replication", "master_failover_state")? == "no-failover";
            done.then_some(())
        });
        busy.stop()
    };
    servers[2].follow(&servers[1]);
    servers[0].link_up();
    servers[2].link_up();
    assert_eq!(servers[1].info("replication", "role").as_deref(), Some("master"));
    servers[1].say("SET after 1");
    servers[0].same_as(&servers[1]);
    servers[2].same_as(&servers[1]);
    assert_eq!(servers[1].say("DBSIZE"), Reply::Int(acknowledged as i64 + 1));
    assert_eq!(syncs(&servers), before, "partial syncs only");
}

#[test]
fn a_failover_that_cannot_be_is_refused_or_ends_in_time() {
    let servers = three("");
    let mut c = servers[0].client();
    for (line, error) in [
        ("FAILOVER TO 127.0.0.1 1", "ERR FAILOVER target HOST and PORT is not a replica."),
        (
            "FAILOVER FORCE TIMEOUT 10",
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP to be specified.",
        ),
        ("FAILOVER TIMEOUT 0", "ERR FAILOVER timeout must be greater than 0"),
        ("FAILOVER ABORT", "ERR No failover in progress."),
        ("FAILOVER NOW", "ERR syntax error"),
    ] {
        assert_eq!(c.ask(line).text(), error, "{line}");
    }
    assert_eq!(
        servers[1].client().ask("FAILOVER").text(),
        "ERR FAILOVER is not valid when server is a replica."
    );
    let port = servers[1].port;
    servers[1].signal("STOP");
    c.say("SET a 1");
    c.say(&format!("FAILOVER TO 127.0.0.1 {port} TIMEOUT 300"));
    assert!(c.ask("REPLICAOF NO ONE").text().contains("not allowed while failing over"));
    assert_eq!(c.ask("GET a"), "1".into(), "reads go on");
    // A write waits, and is served when the time is over.
    c.say("SET a 2");
    assert_eq!(servers[0].info("replication", "role").as_deref(), Some("master"));
    c.say(&format!("FAILOVER TO 127.0.0.1 {port}"));
    c.say("FAILOVER ABORT");
    c.say("SET a 3");
    servers[1].signal("CONT");
    servers[1].same_as(&servers[0]);
}

#[test]
fn a_replica_that_lacks_writes_of_its_primary_takes_over_only_when_forced_to() {
    let servers = three("");
    let id = servers[0].info("replication", "master_replid").expect("an id");
    let beyond = servers[1].number("replication", "slave_repl_offset") + 1000;
    let ask = format!("PSYNC {id} {beyond} FAILOVER");
    assert!(servers[1].client().ask(&ask).text().contains("lacks writes"));
    assert_eq!(servers[1].info("replication", "role").as_deref(), Some("slave"));
    let mut forcing = servers[1].client();
    forcing.send(&request(&sluice_tests::client::words(&format!("{ask} FORCE")))).expect("sent");
    servers[1].reports("replication", "role", "master");
}

#[test]
fn a_replica_that_turns_to_a_sibling_keeps_its_own_replicas() {
    // primary - middle - leaf; the middle one is sent to nowhere and back: nothing was lost, nobody syncs anew.
    let [primary, middle, leaf] = [(); 3].map(|()| Server::sluice("--repl-diskless-sync-delay 0"));
    middle.follow(&primary);
    middle.link_up();
    leaf.follow(&middle);
    leaf.link_up();
    middle.say("REPLICAOF 127.0.0.1 1");
    primary.say("SET a 1");
    middle.follow(&primary);
    middle.link_up();
    leaf.same_as(&primary);
    assert_eq!((primary.number("stats", "sync_full"), middle.number("stats", "sync_full")), (1, 1));
    assert_eq!(middle.number("stats", "sync_partial_ok"), 0, "the leaf never left");
}

#[test]
fn a_link_is_a_client_that_can_be_listed_and_killed() {
    let primary = Server::sluice("--repl-diskless-sync-delay 0");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    let list = replica.say("CLIENT LIST TYPE master").text();
    assert!(list.contains(&format!("addr=127.0.0.1:{}", primary.port)) && list.contains("flags=M"), "{list}");
    assert_eq!(replica.say("CLIENT KILL TYPE master"), Reply::Int(1));
    until("it came back", || (primary.number("stats", "sync_partial_ok") == 1).then_some(()));
    primary.say("SET a 1");
    replica.same_as(&primary);
}

#[test]
fn a_restart_from_an_rdb_file_costs_no_full_sync_on_either_side() {
    for whose in ["primary", "replica"] {
        let options = "--repl-diskless-sync-delay 0 --save 3600 1 --repl-ping-replica-period 3600";
        let mut pair = [Server::sluice(options), Server::sluice(options)];
        pair[1].follow(&pair[0]);
        pair[1].link_up();
        let mut c = pair[0].client();
        c.say("DEBUG SET-ACTIVE-EXPIRE 0");
        for n in 0..50 {
            c.say(&format!("SET k{n} {n}"));
            c.say(&format!("SET gone{n} {n} PX 1"));
        }
        pair[1].caught_up(&pair[0]);
        let at = usize::from(whose == "replica");
        let (port, dir, primary) = (pair[at].port, pair[at].dir().clone(), pair[0].port);
        let more =
            if at == 1 { format!("{options} --replicaof 127.0.0.1 {primary}") } else { options.to_owned() };
        // The place is taken before the server there goes, and the port with it.
        let old = std::mem::replace(&mut pair[at], Server::sluice(""));
        assert!(old.terminate().success(), "{whose}");
        pair[at] = Start::new(Program::Sluice, &more).port(port).dir(&dir).up();
        let partial = |s: &Server| s.number("stats", "sync_partial_ok");
        until("it resumed", || (partial(&pair[0]) >= 1).then_some(()));
        pair[0].say("SET after 1");
        pair[1].same_as(&pair[0]);
        assert_eq!(pair[0].number("stats", "sync_full"), i64::from(at == 1), "{whose}: {}", pair[0].log());
        if at == 0 {
            assert_eq!(pair[0].number("persistence", "rdb_last_load_keys_expired"), 50);
        }
    }
}

#[test]
fn the_backlog_goes_after_its_time_and_its_history_with_it() {
    let primary = Server::sluice("--repl-diskless-sync-delay 0 --repl-backlog-ttl 1");
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    let old = primary.info("replication", "master_replid");
    replica.say("REPLICAOF 127.0.0.1 1");
    primary.reports("replication", "repl_backlog_active", "0");
    assert_ne!(primary.info("replication", "master_replid"), old);
    primary.say("SET a 1");
    replica.follow(&primary);
    replica.link_up();
    replica.same_as(&primary);
    assert_eq!((primary.number("stats", "sync_full"), primary.number("stats", "sync_partial_err")), (2, 2));
}

#[test]
fn the_log_held_for_a_full_sync_counts_against_the_replicas_limit() {
    let primary = Server::sluice(
        "--repl-diskless-sync-delay 0 --repl-backlog-size 16kb --client-output-buffer-limit replica 100kb 0 0",
    );
    let mut c = primary.client();
    c.say("DEBUG POPULATE 100 key 10000");
    primary.say("CONFIG SET rdb-key-save-delay 1000000");
    let replica = Server::sluice("");
    replica.follow(&primary);
    primary.reports("persistence", "rdb_bgsave_in_progress", "1");
    for n in 0..200 {
        c.say(&format!("SET new:{n} {}", "x".repeat(1000)));
    }
    primary.logged("scheduled to be closed ASAP for overcoming of output buffer limits");
    primary.say("CONFIG SET rdb-key-save-delay 0");
    replica.link_up();
    replica.same_as(&primary);
}
