//! A follower: applies the log, as a replica does.

use crate::client::Client;
use crate::state::State;
use sluice_engine::{Engine, Follower, LogReader};

pub(crate) struct Replay {
    engine: Engine,
    /// The database that the stream has selected where it begins.
    db: u32,
    /// From the first bytes on.
    follower: Option<Follower>,
}

impl Clone for Replay {
    fn clone(&self) -> Replay {
        Replay::new(self.engine.clone())
    }
}

impl Replay {
    pub(crate) fn new(engine: Engine) -> Replay {
        engine.set_replica(true);
        Replay { engine, db: 0, follower: None }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The stream goes on in this database.
    pub(crate) fn select(&mut self, db: u32) {
        self.db = db;
    }

    pub(crate) fn state(&mut self) -> State {
        let mut reader = Client::alone(&self.engine);
        reader.session.from_primary = true;
        State::of(&mut reader)
    }

    /// Applies the log from the reader's position to `end`, which must be the end of a command.
    pub(crate) fn read_to(&mut self, log: &mut LogReader, end: u64) {
        let begin = || self.engine.follower(log.offset(), self.db);
        let follower = self.follower.get_or_insert_with(begin);
        while log.offset() < end {
            let part = log.read((end - log.offset()) as usize).expect("it goes on");
            assert!(!part.is_empty(), "the log ends at {} before {end}", log.offset());
            self.engine.apply(follower, &part).expect("the log of an engine is applied");
        }
        assert_eq!(follower.applied(), end, "inside of a command");
    }
}
