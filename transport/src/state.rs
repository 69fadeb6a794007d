//! Which history this server is on: its replication ids and offset, and how they change.
//!
//! A primary has one id. When a replica is promoted it starts a new history that shares a past with
//! the old one, so it keeps the old id as the second, valid up to the offset of the promotion:
//! its former siblings can then resume from it. A replica that loses its primary keeps that
//! primary's id and its own offset (the "cached primary") to ask for a partial resync later.
//!
//! Offsets here count bytes of the log: offset `n` means "the first `n` bytes of this history".
//! On the wire `PSYNC` asks for the next byte, one higher; the conversion is done in
//! [`crate::replica`] and [`crate::primary`], nowhere else.

use crate::replid::ReplId;

/// Where a history may be resumed: what a replica offers in `PSYNC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The history.
    pub replid: ReplId,
    /// Bytes of it already applied.
    pub offset: u64,
}

/// The replication ids of a server, as `INFO replication` shows them.
///
/// The offset proper is the engine log's end; it is passed in where a transition needs it, so there
/// is one truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationState {
    replid: ReplId,
    replid2: ReplId,
    /// Offsets up to this one are shared with `replid2`; `None` prints as -1.
    second_offset: Option<u64>,
    role: Role,
}

/// Whether the server leads its history or follows a primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary; `resumable` says that our data is a prefix of `replid`'s history.
    Replica {
        /// False until the first full sync has completed, or after our data diverged.
        resumable: bool,
    },
}

impl Default for ReplicationState {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplicationState {
    /// A fresh primary with a history of its own.
    pub fn new() -> Self {
        Self { replid: ReplId::random(), replid2: ReplId::NONE, second_offset: None, role: Role::Primary }
    }

    /// A server that loaded an RDB whose aux fields name a history (`repl-id`): as a replica it may try
    /// a partial resync from there; as a primary it starts a new history that continues that one.
    pub fn restored(replid: ReplId, offset: u64, as_replica: bool) -> Self {
        let mut state = Self {
            replid,
            replid2: ReplId::NONE,
            second_offset: None,
            role: Role::Replica { resumable: true },
        };
        if !as_replica {
            state.promote(offset);
        }
        state
    }

    /// The current history (`master_replid`).
    pub fn replid(&self) -> ReplId {
        self.replid
    }

    /// The former history (`master_replid2`).
    pub fn replid2(&self) -> ReplId {
        self.replid2
    }

    /// `second_repl_offset` as INFO prints it: the first offset not shared with `replid2`, or -1.
    pub fn second_repl_offset(&self) -> i64 {
        self.second_offset.map_or(-1, |o| o as i64 + 1)
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// `REPLICAOF host port` on this server at log offset `offset`.
    ///
    /// A primary turned replica still offers its own history: if the new primary was its replica and was
    /// promoted, it knows our id as its second one and no full sync is needed.
    pub fn become_replica(&mut self) {
        if self.role == Role::Primary {
            self.role = Role::Replica { resumable: true };
        }
    }

    /// `REPLICAOF NO ONE` at log offset `offset`: a new history begins, the old id is kept as the second.
    pub fn promote(&mut self, offset: u64) {
        let Role::Replica { resumable } = self.role else { return };
        if resumable {
            self.replid2 = self.replid;
            self.second_offset = Some(offset);
        } else {
            self.replid2 = ReplId::NONE;
            self.second_offset = None;
        }
        self.replid = ReplId::random();
        self.role = Role::Primary;
    }

    /// What to offer in `PSYNC`, when our log ends at `offset`.
    pub fn resume_point(&self, offset: u64) -> Option<ResumePoint> {
        match self.role {
            Role::Replica { resumable: true } => Some(ResumePoint { replid: self.replid, offset }),
            _ => None,
        }
    }

    /// The primary answered `+FULLRESYNC`: our data is about to be replaced and is no prefix of anything.
    pub fn full_sync_began(&mut self) {
        self.role = Role::Replica { resumable: false };
    }

    /// A full sync was loaded completely. The primary's history is now ours; without an id (a peer that
    /// only knows `SYNC`) the history is ours alone and cannot be resumed.
    pub fn full_sync_done(&mut self, replid: Option<ReplId>) {
        self.replid = replid.unwrap_or_else(ReplId::random);
        self.replid2 = ReplId::NONE;
        self.second_offset = None;
        self.role = Role::Replica { resumable: replid.is_some() };
    }

    /// The primary answered `+CONTINUE`, perhaps with a new id, when our log ended at `offset`.
    /// Returns whether the id changed: our own replicas must then be told by being disconnected.
    pub fn continued(&mut self, new_id: Option<ReplId>, offset: u64) -> bool {
        self.role = Role::Replica { resumable: true };
        match new_id {
            Some(id) if id != self.replid => {
                self.replid2 = self.replid;
                self.second_offset = Some(offset);
                self.replid = id;
                true
            }
            _ => false,
        }
    }

    /// Our data was changed outside the history (DEBUG RELOAD of another file, FLUSHALL of a writable
    /// replica's own…) or a backlog was dropped: nobody may resume from us any more.
    pub fn new_history(&mut self) {
        self.replid = ReplId::random();
        self.replid2 = ReplId::NONE;
        self.second_offset = None;
        if let Role::Replica { resumable } = &mut self.role {
            *resumable = false;
        }
    }

    /// Whether a replica that has applied `offset` bytes of `replid` shares its whole past with us,
    /// leaving aside whether the log still holds the rest.
    pub fn shares(&self, replid: &ReplId, offset: u64) -> bool {
        *replid == self.replid
            || (!self.replid2.is_none()
                && *replid == self.replid2
                && self.second_offset.is_some_and(|limit| offset <= limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_keeps_the_old_id_up_to_its_offset() {
        let old = ReplId::random();
        let mut s = ReplicationState::new();
        s.become_replica();
        s.full_sync_began();
        s.full_sync_done(Some(old));
        assert_eq!(s.resume_point(70), Some(ResumePoint { replid: old, offset: 70 }));
        s.promote(100);
        assert_ne!(s.replid(), old);
        assert_eq!(s.replid2(), old);
        assert_eq!(s.second_repl_offset(), 101);
        assert!(s.shares(&old, 100));
        assert!(!s.shares(&old, 101));
        assert!(s.shares(&s.replid(), 5000));
        assert_eq!(s.resume_point(100), None);
    }

    #[test]
    fn a_half_done_full_sync_can_be_neither_resumed_nor_inherited() {
        let mut s = ReplicationState::new();
        let own = s.replid();
        s.become_replica();
        assert_eq!(
            s.resume_point(9),
            Some(ResumePoint { replid: own, offset: 9 }),
            "a demoted primary offers its history"
        );
        s.full_sync_began();
        assert_eq!(s.resume_point(9), None);
        s.promote(9);
        assert!(s.replid2().is_none());
        assert!(!s.shares(&own, 0));
        assert!(!s.shares(&ReplId::NONE, 0));
        assert_eq!(s.second_repl_offset(), -1);
    }

    #[test]
    fn continue_with_a_new_id_shifts_ours() {
        let (a, b) = (ReplId::random(), ReplId::random());
        let mut s = ReplicationState::restored(a, 40, true);
        assert!(!s.continued(None, 40));
        assert!(!s.continued(Some(a), 40));
        assert!(s.continued(Some(b), 50));
        assert_eq!((s.replid(), s.replid2(), s.second_repl_offset()), (b, a, 51));
    }

    #[test]
    fn a_primary_restored_from_a_file_continues_that_history() {
        let a = ReplId::random();
        let s = ReplicationState::restored(a, 40, false);
        assert_eq!(s.role(), Role::Primary);
        assert!(s.shares(&a, 40) && !s.shares(&a, 41));
    }
}
