//! Group commit under `always`: how many connections one sync should serve.
//!
//! A sync serves whoever waits when it begins. Those it lets go come back with their next write within moments, so
//! where syncs are slow it pays to wait for them: one sync then serves all, instead of two that serve halves in turn,
//! and on a disk that is limited by bytes half as much of a journal is written. How many there are is seen from
//! the last two groups: halves that take turns count together, the same connections twice count once.

use super::writer::Wake;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A sync that takes longer than this for each connection it could serve is worth waiting for more of them.
const WORTH_EACH: Duration = Duration::from_micros(4);
/// Where nobody comes for this part of a sync's time, nobody is waited for any more.
const PAUSE_PART: u32 = 4;

/// A connection's place in the groups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Membership(u64);

/// The group that gathers, and what the last ones were like.
#[derive(Default)]
pub(super) struct Group {
    /// Its number.
    number: AtomicU64,
    /// Connections in it, and those of them that were not in the one before.
    parked: AtomicU64,
    fresh: AtomicU64,
    /// Connections in the one before, and how many can be expected in this one.
    last: AtomicU64,
    expected: AtomicU64,
    /// Microseconds the last sync took.
    took: AtomicU64,
    /// A connection gathers and syncs for the others.
    led: AtomicBool,
}

/// Who works for the others, until it is dropped; where that was not done by then (its connection ended), the writer's
/// thread does it.
pub(super) struct Lead<'a> {
    group: &'a Group,
    thread: &'a Wake,
    pub(super) done: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.group.led.store(false, Ordering::SeqCst);
        if !self.done {
            self.thread.wake();
        }
    }
}

impl Group {
    /// Joins the group that gathers.
    pub(super) fn join(&self, member: &mut Membership) {
        // From 1 on: a new connection is of none.
        let number = self.number.load(Ordering::Acquire) + 1;
        self.parked.fetch_add(1, Ordering::AcqRel);
        if member.0 + 1 != number {
            self.fresh.fetch_add(1, Ordering::AcqRel);
        }
        member.0 = number;
    }

    /// Takes it on oneself to work for all, unless somebody has.
    pub(super) fn lead<'a>(&'a self, thread: &'a Wake) -> Option<Lead<'a>> {
        (!self.led.swap(true, Ordering::SeqCst)).then_some(Lead { group: self, thread, done: false })
    }

    /// Whether more are expected, and worth waiting for.
    fn is_short(&self) -> bool {
        let expected = self.expected.load(Ordering::Acquire);
        self.parked.load(Ordering::Acquire) < expected
            && self.took() > WORTH_EACH * u32::try_from(expected).unwrap_or(u32::MAX)
    }

    fn took(&self) -> Duration {
        Duration::from_micros(self.took.load(Ordering::Acquire))
    }

    /// Closes the group: its sync begins. Returns how many are in it.
    pub(super) fn close(&self) -> u64 {
        let served = self.parked.swap(0, Ordering::AcqRel);
        if served > 0 {
            self.number.fetch_add(1, Ordering::AcqRel);
            let fresh = self.fresh.swap(0, Ordering::AcqRel);
            let last = self.last.swap(served, Ordering::AcqRel);
            self.expected.store(last.max(served - fresh.min(served)) + fresh, Ordering::Release);
        }
        served
    }

    /// The sync of a closed group took this long.
    pub(super) fn synced(&self, took: Duration) {
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// Waiting for those who are expected: for as long as a sync takes at the most, and only while they keep coming.
pub(super) struct Gathering<'a> {
    group: &'a Group,
    began: Instant,
    /// How many there were at the last look that saw a new one, and when that was.
    last: (u64, Instant),
}

impl<'a> Gathering<'a> {
    /// Begins to wait.
    pub(super) fn begin(group: &'a Group) -> Gathering<'a> {
        let now = Instant::now();
        Gathering { group, began: now, last: (group.parked.load(Ordering::Acquire), now) }
    }

    /// Whether to wait on.
    pub(super) fn goes_on(&mut self) -> bool {
        if !self.group.is_short() {
            return false;
        }
        let (parked, now) = (self.group.parked.load(Ordering::Acquire), Instant::now());
        if parked != self.last.0 {
            self.last = (parked, now);
        }
        let took = self.group.took();
        now - self.began < took && now - self.last.1 < took / PAUSE_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(group: &Group, members: &mut [Membership]) {
        members.iter_mut().for_each(|m| group.join(m));
        assert_eq!(group.close(), members.len() as u64);
        group.synced(Duration::from_millis(1));
    }

    #[test]
    fn halves_that_take_turns_are_expected_together_and_the_whole_only_once() {
        let (group, mut members) = (Group::default(), [Membership::default(); 50]);
        for _ in 0..3 {
            round(&group, &mut members[..25]);
            round(&group, &mut members[25..]);
        }
        assert_eq!(group.expected.load(Ordering::Relaxed), 50);
        for _ in 0..3 {
            round(&group, &mut members);
            assert_eq!(group.expected.load(Ordering::Relaxed), 50);
        }
        // Those who stay away are not waited for for long.
        round(&group, &mut members[..10]);
        round(&group, &mut members[..10]);
        assert_eq!(group.expected.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn nobody_waits_for_more_where_syncs_are_quick() {
        let (group, mut members) = (Group::default(), [Membership::default(); 50]);
        round(&group, &mut members);
        assert!(group.is_short());
        group.synced(Duration::from_micros(20));
        assert!(!group.is_short());
        assert!(!Gathering::begin(&group).goes_on());
        let thread = Wake::default();
        let lead = group.lead(&thread);
        assert!(lead.is_some() && group.lead(&thread).is_none());
        drop(lead);
        assert!(group.lead(&thread).is_some());
    }
}
