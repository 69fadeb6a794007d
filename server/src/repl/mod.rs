//! Replication: the primary's side, the replica's side, and what INFO shows of both.

use crate::conn::Conn;
use crate::state::Server;
use bytes::BytesMut;
use parking_lot::Mutex;
use sluice_transport::state::ReplicationState;
use tokio::net::TcpStream;

/// A connection that asked to become a replica.
pub(crate) struct Attach;

/// The state of replication.
pub(crate) struct Replication {
    pub(crate) state: Mutex<ReplicationState>,
}

impl Replication {
    pub(crate) fn forget(&self, _server: &Server, _client: u64) {}
}

pub(crate) async fn serve_replica(
    _conn: &mut Conn,
    _stream: &TcpStream,
    _input: BytesMut,
    _attach: Attach,
) -> std::io::Result<()> {
    Ok(())
}
