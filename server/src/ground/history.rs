//! The place of the data in a history: that of this server's own, or of its primary's.

use parking_lot::Mutex;
use sluice_engine::Log;
use sluice_persistence::rdb::LoadReport;
use sluice_transport::replid::ReplId;
use sluice_transport::state::ReplicationState;

/// After the RDB file was loaded at the start: the history it stands in goes on, so that a restart costs our replicas,
/// or us as one, no full sync. Without such a place in a history the log is not needed yet.
pub(crate) fn restore(state: &Mutex<ReplicationState>, log: &Log, report: &LoadReport, replica: bool) {
    let replid = report.replication_id.as_ref().and_then(|id| ReplId::parse(id.as_bytes()));
    let (Some(replid), Some(offset)) = (replid, report.replication_offset) else {
        if report.replication_id.is_some() {
            crate::log!(Warning, "The RDB file's place in a history makes no sense: a new history begins");
        }
        // Nobody follows yet.
        log.deactivate();
        log.reset(0);
        return;
    };
    if replica {
        log.reset(offset);
        log.set_selected(report.replication_db.unwrap_or(0));
        log.activate();
    } else {
        // Deletions of expired keys are in the log already.
        log.rebase(offset);
    }
    *state.lock() = ReplicationState::restored(replid, offset, replica);
    crate::log!(
        Notice,
        "The RDB file stands at offset {offset} of history {replid}, which goes on from there"
    );
}
