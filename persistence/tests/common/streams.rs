//! Streams and modules' values put together by hand, sound or not.

use sluice_engine::internals::Listpack;
use sluice_persistence::rdb::format::value_type;
use sluice_persistence::rdb::length::{put, put_raw_string};

/// What a stream's value says.
#[derive(Clone)]
pub struct Stream {
    pub kind: u8,
    /// Ids, and the items of the listpacks, apart by spaces.
    pub nodes: Vec<(Vec<u8>, String)>,
    pub entries: u64,
    pub groups: Vec<Group>,
}

#[derive(Clone)]
pub struct Group {
    pub name: &'static str,
    pub pending: Vec<u64>,
    pub consumers: Vec<(&'static str, Vec<u64>)>,
}

pub fn id(n: u64) -> Vec<u8> {
    [n.to_be_bytes(), 0u64.to_be_bytes()].concat()
}

/// Two nodes, entries with the master's fields and with their own, a deleted one; two groups, one of them with entries
/// that two consumers have to acknowledge.
pub fn sound(kind: u8) -> Stream {
    Stream {
        kind,
        nodes: vec![
            (id(1000), "2 1 2 name age 0 2 0 0 Ada 36 5 3 1 0 old 7 5 0 70000 -5 1 colour blue 6".into()),
            (id(2000), "1 0 0 0 2 0 0 3".into()),
        ],
        entries: 3,
        groups: vec![
            Group { name: "empty", pending: vec![], consumers: vec![("idle", vec![])] },
            Group { name: "12", pending: vec![1, 2, 3], consumers: vec![("a", vec![1, 3]), ("7", vec![2])] },
        ],
    }
}

impl Stream {
    pub fn node(mut self, n: usize, items: &str) -> Stream {
        self.nodes[n].1 = items.into();
        self
    }

    pub fn group(mut self, change: impl Fn(&mut Group)) -> Stream {
        change(&mut self.groups[1]);
        self
    }

    /// The value, without its type.
    pub fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.nodes.len() as u64);
        for (id, items) in &self.nodes {
            put_raw_string(&mut out, id);
            let mut node = Listpack::new();
            items.split_whitespace().for_each(|item| node.push_back(item.as_bytes()));
            put_raw_string(&mut out, node.as_bytes());
        }
        let mut numbers = vec![self.entries, u64::MAX, 5];
        if self.kind != value_type::STREAM_LISTPACKS {
            numbers.extend([1000, 0, 1001, 0, 1 << 40]);
        }
        numbers.push(self.groups.len() as u64);
        numbers.iter().for_each(|n| put(&mut out, *n));
        self.groups.iter().for_each(|group| self.put_group(&mut out, group));
        out
    }

    fn put_group(&self, out: &mut Vec<u8>, group: &Group) {
        put_raw_string(out, group.name.as_bytes());
        put(out, 2000);
        put(out, 0);
        if self.kind != value_type::STREAM_LISTPACKS {
            put(out, u64::MAX);
        }
        put(out, group.pending.len() as u64);
        for n in &group.pending {
            out.extend(id(*n));
            out.extend(1_700_000_000_000u64.to_le_bytes());
            put(out, 1);
        }
        put(out, group.consumers.len() as u64);
        for (name, pending) in &group.consumers {
            put_raw_string(out, name.as_bytes());
            let times = if self.kind == value_type::STREAM_LISTPACKS_3 { 2 } else { 1 };
            (0..times).for_each(|_| out.extend(1_700_000_000_001u64.to_le_bytes()));
            put(out, pending.len() as u64);
            pending.iter().for_each(|n| out.extend(id(*n)));
        }
    }
}

/// The value of a module's type of this name: an item of every kind.
pub fn module(name: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |c: u8| alphabet.iter().position(|d| *d == c).unwrap() as u64;
    let mut out = vec![0x81];
    out.extend((name.bytes().fold(0, |id, c| id << 6 | digit(c)) << 10 | 3).to_be_bytes());
    out.extend([1, 5, 2, 0x40, 200, 3, 0, 0, 0x80, 0x3f, 4, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 5, 2, b'h', b'i']);
    out.extend([5, 0xc0, 77, 5, 0xc3, 5, 10, 0, b'a', 0xe0, 0, 0, 0]);
    out
}

/// One of each kind that is carried: its type, its value and the name of the type.
pub fn all() -> Vec<(u8, Vec<u8>, &'static str)> {
    use value_type::{MODULE_2, STREAM_LISTPACKS, STREAM_LISTPACKS_2, STREAM_LISTPACKS_3};
    let mut all: Vec<_> = [STREAM_LISTPACKS, STREAM_LISTPACKS_2, STREAM_LISTPACKS_3]
        .map(|kind| (kind, sound(kind).value(), "stream"))
        .into();
    all.push((MODULE_2, module("ReJSON-RL"), "ReJSON-RL"));
    all
}
