//! INFO and ROLE beside a real redis-server: the same fields in the same order, in each role.

use sluice_tests::{Program, Server, Start, peers_here};

/// The field names of a section, and what kind of value each has.
fn fields(server: &Server, section: &str) -> Vec<String> {
    let text = server.say(&format!("INFO {section}")).text();
    text.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name.to_owned())).collect()
}

/// `slave0`'s own fields.
fn slave_line(server: &Server) -> Vec<String> {
    let line = server.info("replication", "slave0").expect("a replica is listed");
    line.split(',').map(|pair| pair.split('=').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn info_replication_has_redis_fields_in_each_role() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let both = [Program::Sluice, Program::Redis];
    // What a replica counts of its own, which Redis has no fields for, is looked for apart.
    const OWN: [&str; 3] =
        ["slave_unapplied_commands", "master_sync_failures", "master_sync_retry_in_seconds"];
    let fields = |server: &Server, section: &str| {
        let mut names = fields(server, section);
        names.retain(|n| !OWN.contains(&n.as_str()));
        names
    };
    // A star of two and a chain behind one of them, all of one kind.
    let shown = both.map(|program| {
        let start = || Start::new(program, "--min-replicas-to-write 0").up();
        let (head, middle, beside, tail) = (start(), start(), start(), start());
        let alone = fields(&head, "replication");
        middle.follow(&head);
        beside.follow(&head);
        middle.link_up();
        beside.link_up();
        tail.follow(&middle);
        tail.link_up();
        head.say("SET a 1");
        for (replica, primary) in [(&middle, &head), (&beside, &head), (&tail, &middle)] {
            replica.caught_up(primary);
        }
        tail.say("REPLICAOF 127.0.0.1 1");
        (
            alone,
            fields(&head, "replication"),
            slave_line(&head),
            fields(&middle, "replication"),
            fields(&beside, "replication"),
            fields(&tail, "replication"),
        )
    });
    assert_eq!(shown[0].0, shown[1].0, "a primary alone");
    assert_eq!(shown[0].1, shown[1].1, "a primary with two replicas");
    assert_eq!(shown[0].2, shown[1].2, "the line of a replica");
    assert_eq!(shown[0].3, shown[1].3, "a replica in the middle of a chain");
    assert_eq!(shown[0].4, shown[1].4, "a replica");
    assert_eq!(shown[0].5, shown[1].5, "a replica without its primary");
}

/// Sections other than `replication` may have fields less (what Sluice does not have) but name none otherwise.
#[test]
fn info_has_redis_fields_in_redis_order() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    for section in ["server", "clients", "memory", "persistence", "stats", "cpu", "keyspace", "cluster"] {
        let theirs = fields(&redis, section);
        let ours = fields(&sluice, section);
        let known: Vec<_> = ours.iter().filter(|f| theirs.contains(f)).collect();
        let in_order: Vec<_> = theirs.iter().filter(|f| ours.contains(f)).collect();
        assert_eq!(known, in_order, "order in section {section}");
        let missing: Vec<_> = theirs.iter().filter(|f| !ours.contains(f)).collect();
        assert!(missing.len() * 10 <= theirs.len(), "section {section} lacks {missing:?}");
    }
}

#[test]
fn config_get_knows_every_directive_of_redis_with_its_default() {
    if !peers_here(&["redis-server"]) {
        return;
    }
    let (sluice, redis) = (Server::sluice(""), Server::redis(""));
    let get = |server: &Server| {
        let reply = server.say("CONFIG GET *");
        reply
            .items()
            .chunks(2)
            .map(|pair| (pair[0].text(), pair[1].text()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (ours, theirs) = (get(&sluice), get(&redis));
    // Paths and ports are each server's own; the package sets a few defaults of its own.
    let own = ["port", "dir", "logfile", "pidfile", "jemalloc-bg-thread", "set-proc-title"];
    let mut differ = Vec::new();
    for (name, value) in theirs {
        if !own.contains(&name.as_str()) && ours.get(&name) != Some(&value) {
            differ.push(format!("{name}: {:?}, Redis {value:?}", ours.get(&name)));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
