//! Which of the two this server is, a primary or a replica, and who may act in it. What a change comes with is
//! [`crate::repl::role`]'s.

use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, Ordering};

/// The role, and the lock of those who act in it.
#[derive(Default)]
pub(crate) struct Roles {
    replica: AtomicBool,
    turn: Mutex<()>,
}

/// The right to act in the present role: nobody changes it meanwhile. Not to be held while waiting for anything.
pub(crate) struct Turn<'a> {
    _held: MutexGuard<'a, ()>,
}

impl Roles {
    /// Is this a replica?
    pub(crate) fn is_replica(&self) -> bool {
        self.replica.load(Ordering::Acquire)
    }

    /// A turn for a link's thread; none where that was superseded, which is asked when nobody else may act any more.
    pub(crate) fn turn_unless(&self, superseded: impl FnOnce() -> bool) -> Option<Turn<'_>> {
        let turn = self.change();
        (!superseded()).then_some(turn)
    }

    /// Does `act` as the primary; none on a replica.
    pub(crate) fn as_primary<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        if self.is_replica() {
            return None;
        }
        let _turn = self.turn.lock();
        (!self.is_replica()).then(act)
    }

    /// A turn for who changes the role.
    pub(crate) fn change(&self) -> Turn<'_> {
        Turn { _held: self.turn.lock() }
    }

    /// Says which of the two this server is from here on.
    pub(crate) fn set_replica(&self, _: &Turn<'_>, replica: bool) {
        self.replica.store(replica, Ordering::Release);
    }
}
