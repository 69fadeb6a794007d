//! A change has a name: what a command did to a key, it says in one call.
//!
//! [`Ctx::changed`] counts the change (so that the command is logged), tells who watches the key and who waits for it, and names
//! the event ([`Event`]). A key that goes although nobody deleted it is the business of [`super::visibility`]. A command that merely names
//! what happened, as `lpush` creates a list before it pushes, calls [`Keys::notify`].

use super::events::Event;
use super::keys::{Ctx, Keys};
use super::shard::Shard;
use crate::hash::hash;
use std::sync::atomic::Ordering;

impl Ctx<'_> {
    /// Counts a change of `key`: the command will be logged, and who watches or waits for the key, or listens, learns of it.
    #[inline]
    pub fn changed(&mut self, key: &[u8], event: Event) {
        self.keys.fx.dirty += 1;
        self.keys.touched(self.keys.db, key, event);
    }

    /// Counts changes of `n` elements of `key`, perhaps of none.
    pub(crate) fn changed_elements(&mut self, key: &[u8], n: usize, event: Event) {
        if n > 0 {
            self.changed(key, event);
            self.add_dirty(n as u64 - 1);
        }
    }

    /// Counts the removal of `n` elements of `key`, perhaps of none: the key goes with its last one.
    pub(crate) fn removed_elements(&mut self, key: &[u8], n: usize, event: Event) {
        if n > 0 {
            let emptied = self.keys.remove_if_empty(key);
            self.changed_elements(key, n, event);
            if emptied {
                self.keys.notify(self.keys.db, key, Event::Del);
            }
        }
    }

    /// Deletes a key with all its `n` elements, and counts their removal.
    pub(crate) fn delete_emptied(&mut self, key: &[u8], n: usize, event: Event) {
        self.keys.delete(key);
        self.changed_elements(key, n, event);
        self.keys.notify(self.keys.db, key, Event::Del);
    }

    /// Deletes a live key, and counts that; true where there was one.
    pub(crate) fn delete(&mut self, key: &[u8]) -> bool {
        let there = self.keys.delete(key);
        if there {
            self.changed(key, Event::Del);
        }
        there
    }

    /// Counts `n` changes without a key (FLUSHALL), or more of the key that was named already.
    pub fn add_dirty(&mut self, n: u64) {
        self.keys.fx.dirty += n;
    }

    /// Changes counted so far by this command.
    pub fn dirty(&self) -> u64 {
        self.keys.fx.dirty
    }
}

impl Keys<'_> {
    /// A key of a database was changed along with another, whose change is counted.
    #[inline]
    pub fn touched(&mut self, db: u32, key: &[u8], event: Event) {
        self.signal(db, key);
        self.notify(db, key, event);
    }

    /// Tells watchers of a key in a database, and notes whether commands wait for it: it was changed, and that has no name.
    #[inline]
    pub fn signal(&mut self, db: u32, key: &[u8]) {
        if self.inner.blocked.load(Ordering::Relaxed) != 0 {
            self.note_ready(db, key);
        }
        if self.inner.watchers.load(Ordering::Relaxed) != 0 {
            self.tell_watchers(db, key);
        }
    }

    #[cold]
    fn tell_watchers(&mut self, db: u32, key: &[u8]) {
        let h = hash(key);
        let Shard { watched, dbs, .. } = self.shard(h);
        watched.changed(db, key, || dbs[db as usize].get_hashed(h, key).is_some());
    }

    /// Names what happened to a key, for whoever listens. It changes nothing.
    #[inline]
    pub fn notify(&mut self, db: u32, key: &[u8], event: Event) {
        self.fx.note(&self.inner.listening, db, key, event);
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::console::Console;
    use crate::keyspace::events::Class;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::time::Duration;

    /// A console whose events of these classes gather.
    fn heard(classes: Class) -> (Console, Arc<Mutex<Vec<String>>>) {
        let (c, told) = (Console::new(), Arc::<Mutex<Vec<String>>>::default());
        let to = told.clone();
        c.engine.listen(classes, move |h| {
            to.lock().push(format!("{} {} {}", h.db, String::from_utf8_lossy(h.key), h.event.name()));
        });
        (c, told)
    }

    #[test]
    fn only_the_classes_that_are_asked_for_are_told_and_nothing_once_nobody_listens() {
        let (mut c, told) = heard(Class::LIST | Class::MISS);
        c.run("SET k v");
        c.run("RPUSH l a");
        c.run("GET none");
        c.run("LPOP l");
        assert_eq!(*told.lock(), ["0 l rpush", "0 none keymiss", "0 l lpop"]);
        c.engine.listen_no_more();
        c.run("RPUSH l a");
        assert_eq!(told.lock().len(), 3);
        assert!(c.session.fx.events.is_empty());
    }

    #[test]
    fn keys_that_expire_although_no_command_comes_by_are_told() {
        let (mut c, told) = heard(Class::EXPIRED);
        c.run("SET k v PXAT 1000");
        c.engine.expire_cycle(Duration::from_secs(1));
        c.engine.set_replica(true);
        c.run("SET own v PXAT 1000");
        c.engine.expire_own(Duration::from_secs(1));
        assert_eq!(*told.lock(), ["0 k expired", "0 own expired"]);
    }

    #[test]
    fn a_typed_call_sends_what_the_command_sends() {
        let (c, told) = heard(Class::ALL | Class::NEW);
        let db = c.engine.db(1);
        db.set("k", "v").expect("a string");
        db.rpush("l", &["a"]).expect("a list");
        db.lpop("l").expect("a list");
        db.hset_many("h", &[("f", "v")]).expect("a hash");
        db.hdel("h", &["f"]).expect("a hash");
        db.rename("k", "j").expect("there is one");
        db.del(&["j"]);
        let expected = [
            "1 k new",
            "1 k set",
            "1 l new",
            "1 l rpush",
            "1 l lpop",
            "1 l del",
            "1 h new",
            "1 h hset",
            "1 h hdel",
            "1 h del",
            "1 j new",
            "1 k rename_from",
            "1 j rename_to",
            "1 j del",
        ];
        assert_eq!(*told.lock(), expected);
    }

    #[test]
    fn what_happened_is_logged_before_it_is_told() {
        let c = Console::new();
        let (log, ends) = (c.engine.log().clone(), Arc::<Mutex<Vec<u64>>>::default());
        let to = ends.clone();
        c.engine.listen(Class::ALL, move |_| to.lock().push(log.end()));
        c.engine.db(0).set("k", "v").expect("a string");
        assert_eq!(*ends.lock(), [c.engine.log().end()]);
    }
}
