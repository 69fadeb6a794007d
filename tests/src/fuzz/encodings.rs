//! Packed encodings: accepted ones must hold together under every operation.

use sluice_engine::internals::{Intset, Listpack};
use sluice_persistence::rdb::lzf::{self, Compressor};
use sluice_persistence::rdb::ziplist::Ziplist;
use sluice_persistence::rdb::zipmap::Zipmap;

/// What is inserted and searched for: a string, an integer, nothing.
const TEXTS: [&[u8]; 3] = [b"needle", b"-70000", b""];

fn texts(lp: &Listpack) -> Vec<Vec<u8>> {
    lp.iter().map(|value| value.to_vec()).collect()
}

/// The bytes are a listpack or refused; changes to it behave as those of a plain list, and leave a listpack.
pub(super) fn listpack(input: &[u8]) -> bool {
    let Ok(lp) = Listpack::from_bytes(input.to_vec()) else { return false };
    let mut model = texts(&lp);
    assert_eq!(lp.len(), model.len());
    assert_eq!(lp.is_empty(), model.is_empty());
    let mut backward: Vec<_> = lp.iter().rev().map(|value| value.to_vec()).collect();
    backward.reverse();
    assert_eq!(backward, model);
    let spot = input.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    for (n, text) in TEXTS.into_iter().enumerate() {
        // Another spelling of an integer is another text: what is stored as 70000 is found as that alone.
        assert_eq!(lp.find(text, 0).is_some(), model.iter().any(|item| item == text));
        let mut changed = lp.clone();
        let index = if model.is_empty() { 0 } else { spot.wrapping_add(n) % model.len() };
        assert_eq!(changed.get(index as i64).map(|v| v.to_vec()), model.get(index).cloned());
        assert_eq!(changed.at(index as i64 - model.len() as i64), changed.at(index as i64));
        match changed.at(index as i64) {
            None => {
                changed.push_front(text);
                model.insert(0, text.to_vec());
            }
            Some(at) => {
                changed.insert_before(at, text);
                model.insert(index, text.to_vec());
                changed.push_back(text);
                model.push(text.to_vec());
                changed.replace(changed.at(index as i64 + 1).expect("it was moved by one"), b"12345");
                model[index + 1] = b"12345".to_vec();
                changed.remove_range(index as i64, 1);
                model.remove(index);
            }
        }
        assert_eq!(texts(&changed), model);
        let tail = changed.split_off(index);
        assert_eq!(texts(&tail), model[index..]);
        changed.append(&tail);
        let again =
            Listpack::from_bytes(changed.as_bytes().to_vec()).expect("a changed listpack is one still");
        assert_eq!(texts(&again), model);
        model = texts(&lp);
    }
    true
}

/// The bytes are an intset or refused; changes leave an intset.
pub(super) fn intset(input: &[u8]) -> bool {
    let Ok(set) = Intset::from_bytes(input.to_vec()) else { return false };
    let members: std::collections::BTreeSet<i64> = set.iter().collect();
    assert_eq!(members.len(), set.len());
    assert_eq!(set.bounds(), members.first().copied().zip(members.last().copied()));
    for value in [0, -1, 70_000, i64::MIN, i64::MAX].into_iter().chain(set.random(0x9e37_79b9_7f4a_7c15)) {
        let (mut changed, mut model) = (set.clone(), members.clone());
        assert_eq!(changed.contains(value), model.contains(&value));
        assert_eq!(changed.add(value), model.insert(value));
        assert!(changed.iter().eq(model.iter().copied()));
        Intset::from_bytes(changed.as_bytes().to_vec()).expect("a changed intset is one still");
        assert!(changed.remove(value));
        model.remove(&value);
        assert!(changed.iter().eq(model.iter().copied()));
        Intset::from_bytes(changed.as_bytes().to_vec()).expect("a changed intset is one still");
    }
    true
}

/// The bytes are a ziplist or refused.
pub(super) fn ziplist(input: &[u8]) -> bool {
    let Ok(ziplist) = Ziplist::parse(input) else { return false };
    assert_eq!(ziplist.iter().count(), ziplist.len());
    assert_eq!(ziplist.is_empty(), ziplist.iter().next().is_none());
    true
}

/// The bytes are a zipmap or refused.
pub(super) fn zipmap(input: &[u8]) -> bool {
    let Ok(zipmap) = Zipmap::parse(input) else { return false };
    assert_eq!(zipmap.iter().count(), zipmap.len());
    true
}

/// Decompressed to any length without harm; compressed and back the same.
pub(super) fn lzf(input: &[u8]) -> bool {
    let (len, packed) = input.split_at(input.len().min(2));
    let len = len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
    let mut out = b"kept".to_vec();
    let accepted = lzf::decompress(packed, len, &mut out).is_ok();
    assert!(!accepted || out.len() == len + 4);
    assert!(out.starts_with(b"kept"));
    let mut squeezed = Vec::new();
    if Compressor::new().compress(input, input.len(), &mut squeezed) {
        assert!(squeezed.len() <= input.len());
        let mut back = Vec::new();
        lzf::decompress(&squeezed, input.len(), &mut back).expect("what was compressed decompresses");
        assert_eq!(back, input);
    } else {
        assert!(squeezed.is_empty());
    }
    accepted
}
