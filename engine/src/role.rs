//! The role as it is kept: a word that is read under any shard's lock and changed under all of them. What follows from it for a
//! client's command, and how it changes, is in [`crate::engine::role`].

use std::sync::atomic::{AtomicU8, Ordering};

bitflags::bitflags! {
    /// The bits of a role.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Role: u8 {
        /// Follows a primary, whose stream is the log.
        const REPLICA = 1;
        /// Refuses what clients write while it is a replica.
        const READ_ONLY = 1 << 1;
        /// Nothing changes but by a primary's stream: clients' writes wait, expired keys are hidden and stay.
        const HOLD_WRITES = 1 << 2;
    }
}

impl Role {
    /// Is this a replica?
    #[inline]
    pub(crate) fn is_replica(self) -> bool {
        self.contains(Role::REPLICA)
    }

    /// Does somebody else decide, or nobody for now, that an expired key goes?
    #[inline]
    pub(crate) fn keeps_expired(self) -> bool {
        self.intersects(Role::REPLICA.union(Role::HOLD_WRITES))
    }
}

/// The role an engine has.
#[derive(Debug, Default)]
pub(crate) struct RoleCell(AtomicU8);

impl RoleCell {
    /// The role. It holds for as long as the caller holds any shard's lock.
    #[inline]
    pub(crate) fn get(&self) -> Role {
        Role::from_bits_retain(self.0.load(Ordering::Acquire))
    }

    /// Changes it; the caller holds every shard's lock.
    pub(crate) fn set(&self, bits: Role, on: bool) {
        if on {
            self.0.fetch_or(bits.bits(), Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bits.bits(), Ordering::AcqRel);
        }
    }
}
