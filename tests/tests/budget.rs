//! Bandwidth budgets: what is within one waits, what serves clients does not, and lifting the budget ends the wait.

use sluice_tests::data::{bulk, same_contents};
use sluice_tests::{Busy, Server, until};

/// Bytes a second at which the data below would take an hour.
const CRAWL: &str = "1000";

fn with_data(options: &str) -> Server {
    let server = Server::sluice(options);
    bulk(&mut server.client(), 4000, 1000);
    server
}

#[test]
fn a_snapshot_within_its_budget_waits_while_clients_are_served() {
    let server = with_data(&format!("--persistence-max-bandwidth {CRAWL}"));
    assert_eq!(server.number("persistence", "persistence_max_bandwidth"), 1000);
    assert!(server.say("BGSAVE").text().starts_with("Background saving"));
    until("the snapshot waits", || (server.number("persistence", "persistence_paced_ms") > 0).then_some(()));
    let busy = Busy::on(&server);
    busy.goes_on(1000);
    busy.stop();
    server.reports("persistence", "rdb_bgsave_in_progress", "1");
    assert_eq!(server.say("CONFIG SET persistence-max-bandwidth 0").text(), "OK");
    server.reports("persistence", "rdb_bgsave_in_progress", "0");
    server.reports("persistence", "rdb_last_bgsave_status", "ok");
}

#[test]
fn a_save_somebody_waits_for_is_not_paced() {
    let server = with_data(&format!("--persistence-max-bandwidth {CRAWL}"));
    assert_eq!(server.say("SAVE").text(), "OK");
    assert_eq!(server.number("persistence", "persistence_paced_ms"), 0);
}

#[test]
fn full_syncs_share_one_budget_whatever_carries_them() {
    for transport in ["disk", "socket", "io-uring"] {
        let primary = with_data(&format!("--repl-transport {transport} --repl-sync-max-bandwidth {CRAWL}"));
        assert_eq!(primary.number("sync", "sync_max_bandwidth"), 1000);
        let replica = Server::sluice("");
        replica.follow(&primary);
        until("the full sync waits", || (primary.number("sync", "sync_paced_ms") > 0).then_some(()));
        let busy = Busy::on(&primary);
        busy.goes_on(1000);
        busy.stop();
        assert_eq!(replica.info("replication", "master_link_status").as_deref(), Some("down"), "{transport}");
        assert_eq!(primary.say("CONFIG SET repl-sync-max-bandwidth 0").text(), "OK");
        replica.link_up();
        replica.same_as(&primary);
        same_contents(&mut replica.client(), &mut primary.client());
    }
}
