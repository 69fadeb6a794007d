//! Freeing what was removed, where that takes so long that nobody should wait for it: a million entries take a tenth of
//! a second, and whoever removes them holds locks.
//!
//! This is no way to remove something, but what happens when something large is dropped, whoever drops it: an entry, a
//! table, a shard. Hence it makes no difference how a value goes (deleted, overwritten, renamed over, expired, flushed,
//! given up by a cut or with its engine), and a new way to lose one needs no thought.
//!
//! One thread a process, begun when there is something for it, takes the garbage in its order. What waits for it is
//! memory that was in use before, and takes longer to fill than to free. Where [`QUEUE`] things wait nevertheless,
//! whoever drops more frees it himself.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// What has more elements than this is freed in the background.
pub(crate) const LAZY_FREE_ELEMENTS: usize = 1_000;
/// So is what takes more bytes than this in few pieces.
pub(crate) const LAZY_FREE_BYTES: usize = 1 << 20;
/// Dropped things that may wait for the thread.
const QUEUE: usize = 1 << 20;

/// Something dropped.
type Garbage = (Box<dyn Send>, u64);

/// The way to the thread; `None` where none could be had.
static THREAD: OnceLock<Option<Sender<Garbage>>> = OnceLock::new();
static WAITING: AtomicUsize = AtomicUsize::new(0);
static PENDING: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What is dropped here is freed here, and so is all that is in it.
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// Should something large that is dropped on this thread be left to the other one?
#[inline(never)]
pub(crate) fn defers() -> bool {
    // A thread that ends has no such cell any more, and frees what it has.
    IN_PLACE.try_with(|in_place| !in_place.get()).unwrap_or(false)
}

/// In a build that looks for leaks a thread that has dropped something large ends when it is freed. What the other thread
/// has in hand when the process ends would look like one: tables keep addresses in a form that no leak checker follows.
#[cfg(sluice_leak_check)]
mod leaving {
    use super::{Ordering, WAITING};

    struct Waits;

    impl Drop for Waits {
        fn drop(&mut self) {
            while WAITING.load(Ordering::Acquire) > 0 {
                std::thread::yield_now();
            }
        }
    }

    thread_local! {
        static WAITS: Waits = const { Waits };
    }

    /// This thread has dropped something.
    pub(super) fn note() {
        let _ = WAITS.try_with(|_| ());
    }
}

/// Frees something of so many elements, soon.
pub(crate) fn free(garbage: impl Send + 'static, objects: usize) {
    #[cfg(sluice_leak_check)]
    leaving::note();
    let garbage: Garbage = (Box::new(garbage), objects as u64);
    PENDING.fetch_add(garbage.1, Ordering::Relaxed);
    let room = WAITING.fetch_add(1, Ordering::Relaxed) < QUEUE;
    let left = match THREAD.get_or_init(begin) {
        Some(thread) if room => thread.send(garbage).err().map(|unsent| unsent.0),
        _ => Some(garbage),
    };
    if let Some(garbage) = left {
        free_here(garbage);
    }
}

fn free_here((garbage, objects): Garbage) {
    let before = IN_PLACE.try_with(|in_place| in_place.replace(true));
    drop(garbage);
    let _ = IN_PLACE.try_with(|in_place| in_place.set(before.unwrap_or(true)));
    WAITING.fetch_sub(1, Ordering::Release);
    FREED.fetch_add(objects, Ordering::Relaxed);
    PENDING.fetch_sub(objects, Ordering::Release);
}

fn begin() -> Option<Sender<Garbage>> {
    let (to, from) = channel::<Garbage>();
    let work = move || from.into_iter().for_each(free_here);
    std::thread::Builder::new().name("lazy-free".into()).spawn(work).ok()?;
    Some(to)
}

/// Counts what is freed from now on.
pub(crate) fn reset() {
    FREED.store(0, Ordering::Relaxed);
}

/// `(elements that wait to be freed, elements freed since the start)`.
pub(crate) fn counts() -> (u64, u64) {
    (PENDING.load(Ordering::Acquire), FREED.load(Ordering::Relaxed))
}
