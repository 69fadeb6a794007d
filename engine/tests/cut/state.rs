//! What an engine holds, read by commands, in a form that compares.

use crate::DATABASES;
use crate::client::Client;
use std::collections::BTreeMap;

/// Type, expiry and content of a key.
#[derive(PartialEq, Eq, Clone, Debug)]
struct Held {
    kind: String,
    expires: String,
    content: Vec<Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct State(BTreeMap<(u32, Vec<u8>), Held>);

impl State {
    pub(crate) fn of(client: &mut Client) -> State {
        let mut state = BTreeMap::new();
        for db in 0..DATABASES {
            client.select(db);
            for key in client.strings(&[b"KEYS", b"*"]) {
                let text = |v: Vec<Vec<u8>>| String::from_utf8(v.concat()).unwrap();
                let kind = text(client.strings(&[b"TYPE", &key]));
                let expires = text(client.strings(&[b"PEXPIRETIME", &key]));
                let mut content = match kind.as_str() {
                    "string" => client.strings(&[b"GET", &key]),
                    "list" => client.strings(&[b"LRANGE", &key, b"0", b"-1"]),
                    "hash" => client.strings(&[b"HGETALL", &key]).chunks(2).map(|p| p.join(&b'=')).collect(),
                    "set" => client.strings(&[b"SMEMBERS", &key]),
                    "zset" => client.strings(&[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]),
                    other => panic!("{other}"),
                };
                if matches!(kind.as_str(), "hash" | "set") {
                    content.sort();
                }
                state.insert((db, key), Held { kind, expires, content });
            }
        }
        State(state)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Panics with the first difference, in few words: values may be large.
    pub(crate) fn assert_equal(&self, other: &State, what: &str) {
        for (id, mine) in &self.0 {
            let key = format!("{what}: key {:?} of database {}", String::from_utf8_lossy(&id.1), id.0);
            let Some(theirs) = other.0.get(id) else { panic!("{key} is missing in the second ({mine:.0?})") };
            assert_eq!(mine.kind, theirs.kind, "{key}: type");
            assert_eq!(mine.expires, theirs.expires, "{key}: expiry");
            assert_eq!(mine.content.len(), theirs.content.len(), "{key} ({}): size", mine.kind);
            let differs = mine.content.iter().zip(&theirs.content).position(|(a, b)| a != b);
            if let Some(i) = differs {
                let show = |s: &State| String::from_utf8_lossy(&s.0[id].content[i]).into_owned();
                panic!("{key} ({}): element {i} is {:?}, then {:?}", mine.kind, show(self), show(other));
            }
        }
        if let Some((id, held)) = other.0.iter().find(|(id, _)| !self.0.contains_key(*id)) {
            let key = String::from_utf8_lossy(&id.1);
            panic!("{what}: key {key:?} of database {} ({}) is in the second only", id.0, held.kind);
        }
    }
}
