//! A table against a map, growing, shrinking and being scanned meanwhile.

use super::Table;
use crate::entry::{Entry, Payload};
use crate::hash::hash;
use proptest::prelude::*;
use std::collections::HashMap;

fn key(i: u32) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

#[test]
fn grows_and_shrinks_back_to_nothing() {
    let mut t = Table::new();
    for i in 0..20_000 {
        assert!(!t.insert(Entry::int(&key(i), i as i64, None)));
    }
    assert_eq!(t.len(), 20_000);
    for i in 0..20_000 {
        assert!(matches!(t.get(&key(i)).unwrap().payload(), Payload::Int(v) if v == i as i64));
    }
    assert_eq!(t.iter().count(), 20_000);
    for i in 0..20_000 {
        assert!(t.remove(&key(i)));
    }
    assert_eq!(t.directory.len(), 0);
}

#[test]
fn scan_reports_everything_once_while_the_table_grows() {
    let mut t = Table::new();
    for i in 0..500 {
        t.insert(Entry::unit(&key(i)));
    }
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    let (mut cursor, mut next) = (0, 500);
    loop {
        cursor = t.scan(cursor, 10, |e| *seen.entry(e.key().to_vec()).or_default() += 1);
        for _ in 0..50 {
            t.insert(Entry::unit(&key(next)));
            next += 1;
        }
        if cursor == 0 {
            break;
        }
    }
    for i in 0..500 {
        assert_eq!(seen.get(&key(i)), Some(&1), "key {i}");
    }
}

#[test]
fn a_reserved_table_takes_its_entries_without_splitting() {
    let mut t = Table::new();
    t.reserve(10_000);
    let before = t.directory.len();
    for i in 0..10_000 {
        t.insert(Entry::unit(&key(i)));
    }
    assert!(t.directory.len() < before + before / 2, "{before} -> {}", t.directory.len());
}

proptest! {
    #[test]
    fn behaves_like_a_map(ops in prop::collection::vec((0u8..4, 0u32..400, any::<bool>()), 0..2000)) {
        let mut t = Table::new();
        let mut model: HashMap<Vec<u8>, (Vec<u8>, Option<i64>)> = HashMap::new();
        for (n, (op, k, ttl)) in ops.into_iter().enumerate() {
            let k = key(k);
            let v = n.to_string().into_bytes();
            let expire = ttl.then_some(n as i64);
            match op {
                0 | 1 => {
                    let was = model.insert(k.clone(), (v.clone(), expire)).is_some();
                    prop_assert_eq!(t.insert(Entry::string(&k, &v, expire)), was);
                }
                2 => prop_assert_eq!(t.remove(&k), model.remove(&k).is_some()),
                _ => {
                    let was = model.get_mut(&k).map(|m| m.1 = expire).is_some();
                    prop_assert_eq!(t.set_expire(hash(&k), &k, expire), was);
                }
            }
            prop_assert_eq!(t.len(), model.len());
            prop_assert_eq!(t.with_ttl(), model.values().filter(|m| m.1.is_some()).count());
        }
        for (k, (v, expire)) in &model {
            let e = t.get(k).unwrap();
            prop_assert!(matches!(e.payload(), Payload::Str(s) if s == v.as_slice()));
            prop_assert_eq!(e.expire(), *expire);
        }
        prop_assert_eq!(t.iter().count(), model.len());
    }
}

#[test]
fn room_that_was_reserved_in_vain_is_given_back_and_holds_nobody_up() {
    let mut t = Table::new();
    t.reserve(1_000_000);
    let reserved = t.directory.len();
    for i in 0..100 {
        t.insert(Entry::unit(&key(i)));
    }
    // A random entry is found, and a step of a scan sees a bounded part of the table.
    assert!(t.random().is_some());
    let (mut cursor, mut steps, mut seen) = (0, 0, 0);
    loop {
        cursor = t.scan(cursor, 10, |_| seen += 1);
        steps += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, 100);
    assert!(steps >= reserved / 100, "{steps} steps for {reserved} segments");
    let addresses = |t: &Table| {
        let mut all: Vec<usize> = t.iter().map(|e| e.key().as_ptr() as usize).collect();
        all.sort_unstable();
        all
    };
    let before = addresses(&t);
    t.fit();
    assert!(t.directory.len() <= 8, "{} segments for 100 entries", t.directory.len());
    assert_eq!(addresses(&t), before, "no entry moves in memory");
    assert!((0..100).all(|i| t.get(&key(i)).is_some()));
    (0..100).for_each(|i| assert!(t.remove(&key(i))));
    t.reserve(1_000_000);
    t.fit();
    assert_eq!(t.directory.len(), 0);
}

#[test]
fn a_table_that_is_well_filled_stays_as_it_is() {
    let mut t = Table::new();
    t.reserve(10_000);
    (0..10_000).for_each(|i| assert!(!t.insert(Entry::unit(&key(i)))));
    let before = t.directory.len();
    t.fit();
    assert_eq!(t.directory.len(), before);
}
