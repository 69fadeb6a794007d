//! ROLE: this server's place in the replication tree.

use sluice_engine::internals::resp::Reply;

use super::info::{PrimaryLink, ReplicaLine};
use crate::commands::{Call, Flow, Handled};

pub(super) fn run(conn: &mut Call<'_, '_>, _: &[&[u8]], out: &mut Reply<'_>) -> Handled {
    let info = conn.server.replication_info();
    match &info.primary {
        Some(link) => replica(link, out),
        None => primary(info.offset, &info.replicas, out),
    }
    Ok(Flow::Next)
}

fn primary(offset: u64, replicas: &[ReplicaLine], out: &mut Reply<'_>) {
    let online: Vec<_> = replicas.iter().filter(|r| r.state == "online").collect();
    out.array(3);
    out.bulk(b"master");
    out.int(offset as i64);
    out.array(online.len());
    for replica in online {
        out.array(3);
        out.bulk(replica.ip.as_bytes());
        out.bulk_int(i64::from(replica.port));
        out.bulk_int(replica.offset as i64);
    }
}

fn replica(link: &PrimaryLink, out: &mut Reply<'_>) {
    out.array(5);
    out.bulk(b"slave");
    out.bulk(link.host.as_bytes());
    out.int(i64::from(link.port));
    out.bulk(link.state.as_bytes());
    out.int(if link.up { link.offset } else { -1 });
}
