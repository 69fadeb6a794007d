//! What a cut leaves behind.

use super::capture::huge_of;
use super::*;
use crate::Engine;
use crate::value::ValueView;
use std::sync::Arc;

/// Counts what it gets, and keeps nothing.
#[derive(Default)]
struct Count(usize);

impl CutSink for Count {
    fn entry(&mut self, _: &EntryMeta<'_>, _: ValueView<'_>) {
        self.0 += 1;
    }
    fn begin_huge(&mut self, _: &EntryMeta<'_>, _: HugeKind, _: u64) {}
    fn element(&mut self, _: Element<'_>) {
        self.0 += 1;
    }
    fn end_huge(&mut self) {}
    fn pending(&self) -> usize {
        self.0
    }
}

fn engine() -> Engine {
    let engine = Engine::default();
    let db = engine.db(0);
    for i in 0..2000 {
        db.set(format!("key:{i}"), "value").unwrap();
        db.hset("huge", format!("field:{i}"), "value").unwrap();
        db.hset("other", format!("field:{i}"), "value").unwrap();
    }
    engine
}

#[test]
fn a_cut_that_ends_at_any_moment_leaves_nothing_that_keeps_itself_alive() {
    let changes: [(&str, &[&str]); 6] = [
        ("flushed", &["FLUSHALL"]),
        ("swapped and flushed", &["SWAPDB", "0", "1"]),
        ("a huge value changed", &["HSET", "huge", "field:1", "new"]),
        ("a huge value removed", &["DEL", "huge"]),
        ("a huge value moved", &["RENAME", "huge", "other"]),
        ("many changed", &["MSET", "key:1", "a", "key:2", "b", "key:3", "c"]),
    ];
    for steps in [0, 1, 3, 20, usize::MAX] {
        for (what, command) in changes {
            let engine = engine();
            let mut cut = engine.begin_cut().unwrap();
            let shared = Arc::downgrade(&cut.shared);
            // Some of the walk before the change, and some behind it.
            assert_eq!(cut.step(&mut Count::default(), 50), Step::More);
            engine.execute(command).unwrap();
            if what == "swapped and flushed" {
                engine.execute(&["FLUSHALL"]).unwrap();
            }
            for _ in 0..steps {
                if cut.step(&mut Count::default(), 50) == Step::Done {
                    break;
                }
            }
            drop(cut);
            while engine.lazy_freed().0 > 0 {
                std::thread::yield_now();
            }
            // Huge values that were begun refer to it until the next cut, and that is all there may be.
            if let Some(shared) = shared.upgrade() {
                assert!(!what.contains("flushed"), "{what}, {steps} steps later");
                assert!(shared.queue.lock().is_empty() && shared.detached.lock().is_empty());
                let handed: usize = engine.exclusive(0, &mut Vec::new(), |cx| {
                    let states =
                        ["huge", "other"].map(|key| cx.keys.raw(key.as_bytes()).and_then(huge_of).cloned());
                    states.iter().flatten().map(|state| state.handed.lock().len()).sum()
                });
                assert_eq!(handed, 0, "{what}, {steps} steps later");
            }
        }
    }
}
