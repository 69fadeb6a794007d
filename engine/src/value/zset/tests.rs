//! The sorted set against a model: a map of scores and an ordered set of (score, member).

use super::*;
use crate::entry::Entry;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SMALL: Packed = Packed { entries: 8, value: 16 };

#[derive(Default)]
struct Model {
    scores: BTreeMap<Vec<u8>, i64>,
    order: BTreeSet<(i64, Vec<u8>)>,
}

impl Model {
    fn insert(&mut self, member: &[u8], score: i64) -> Option<i64> {
        let before = self.scores.insert(member.to_vec(), score);
        if let Some(before) = before {
            self.order.remove(&(before, member.to_vec()));
        }
        self.order.insert((score, member.to_vec()));
        before
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(score, member.to_vec()))
    }

    fn pairs(&self) -> Vec<(Vec<u8>, f64)> {
        self.order.iter().map(|(score, member)| (member.clone(), *score as f64 / 4.0)).collect()
    }
}

fn pairs(set: &ZSet, ranks: Range<usize>, backward: bool) -> Vec<(Vec<u8>, f64)> {
    set.range(ranks, backward).map(|(member, score)| (member.to_vec(), score)).collect()
}

fn check(set: &ZSet, model: &Model) {
    let all = model.pairs();
    assert_eq!(set.len(), all.len());
    assert_eq!(pairs(set, 0..usize::MAX, false), all);
    let mut back = pairs(set, 0..usize::MAX, true);
    back.reverse();
    assert_eq!(back, all);
    for (rank, (member, score)) in all.iter().enumerate().step_by(1 + all.len() / 16) {
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.rank(member), Some(rank));
        assert_eq!(set.get(rank).map(|(m, s)| (m.to_vec(), s)), Some((member.clone(), *score)));
        let end = (rank + 5).min(all.len());
        assert_eq!(pairs(set, rank..end, false), all[rank..end]);
        let mut back = pairs(set, rank..end, true);
        back.reverse();
        assert_eq!(back, all[rank..end]);
        let below = all.iter().filter(|(_, s)| s < score).count();
        assert_eq!(set.partition_point(|_, s| s < *score), below);
    }
    assert!(set.get(all.len()).is_none());
    if let Some(table) = set.table() {
        assert_eq!(table.len(), all.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_an_ordered_set(
        entries in 0usize..200,
        ops in prop::collection::vec((0u8..20, 0u32..300, -8i64..40), 0..900),
    ) {
        let limits = Packed { entries, value: 16 };
        let (mut set, mut model) = (ZSet::new(), Model::default());
        for (op, member, score) in ops {
            // Some members are integers, which listpacks store as such.
            let member = if member % 3 == 0 { format!("m{member}") } else { member.to_string() }.into_bytes();
            match op {
                0..=11 => {
                    let before = model.insert(&member, score).map(|s| s as f64 / 4.0);
                    prop_assert_eq!(set.insert(&member, score as f64 / 4.0, limits), before);
                }
                12..=17 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                18 => {
                    let start = score.unsigned_abs() as usize % (set.len() + 1);
                    let gone = pairs(&set, start..start + 3, false);
                    prop_assert_eq!(set.remove_range(start..start + 3), gone.len());
                    gone.iter().for_each(|(member, _)| assert!(model.remove(member)));
                }
                _ => {
                    let copy = set.clone();
                    check(&copy, &model);
                    set = copy;
                }
            }
            prop_assert_eq!(set.len(), model.order.len());
        }
        check(&set, &model);
        let roomy = Packed { entries: 400, value: 16 };
        let mut small = ZSet::with_capacity(set.len(), roomy);
        set.iter().for_each(|(member, score)| assert!(small.insert_new(&member.to_vec(), score, roomy)));
        prop_assert_eq!(small.encoding(), "listpack");
        check(&small, &model);
        let again = ZSet::from_listpack(small.listpack().unwrap().clone(), limits).unwrap();
        check(&again, &model);
    }
}

#[test]
fn grows_large_at_the_limits_and_stays_so() {
    let mut set = ZSet::new();
    for i in 0..8 {
        set.insert(&[b'a' + i], f64::from(i), SMALL);
    }
    assert_eq!(set.encoding(), "listpack");
    set.insert(b"z", 1.0, SMALL);
    assert_eq!(set.encoding(), "skiplist");
    assert_eq!(set.remove_range(1..9), 8);
    assert_eq!(set.encoding(), "skiplist");
    let mut set = ZSet::new();
    set.insert(&[b'x'; 17], 0.0, SMALL);
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn scores_survive_both_encodings() {
    let scores = [
        f64::NEG_INFINITY,
        -1.5e300,
        -0.1,
        0.0,
        5e-324,
        0.1,
        1.0,
        4_503_599_627_370_497.0,
        1e16,
        1e17,
        f64::INFINITY,
    ];
    for entries in [0, 100] {
        let mut set = ZSet::new();
        for (i, score) in scores.iter().enumerate().rev() {
            set.insert(format!("{i}").as_bytes(), *score, Packed { entries, value: 64 });
        }
        assert_eq!(set.iter().map(|(_, score)| score).collect::<Vec<_>>(), scores);
    }
}

#[test]
fn a_listpack_from_outside_is_checked() {
    let lp = |items: &[&str]| {
        let mut lp = Listpack::new();
        items.iter().for_each(|item| lp.push_back(item.as_bytes()));
        lp
    };
    for bad in
        [&["a"][..], &["a", "x"], &["a", "nan"], &["a", "1", "b", "2", "a", "3"], &["7", "1", "7", "2"]]
    {
        assert!(ZSet::from_listpack(lp(bad), SMALL).is_err(), "{bad:?}");
    }
    let set = ZSet::from_listpack(lp(&["b", "2", "c", "-inf", "a", "2"]), SMALL).unwrap();
    let members: Vec<_> = set.iter().map(|(member, _)| member.to_vec()).collect();
    assert_eq!(members, [b"c", b"a", b"b"]);
    let many: Vec<String> = (0..9).flat_map(|i| [format!("m{i}"), i.to_string()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ZSet::from_listpack(lp(&many), SMALL).unwrap().encoding(), "skiplist");
}

#[test]
fn a_large_one_is_walked_in_order_after_a_hundred_thousand_changes() {
    let limits = Packed { entries: 0, value: 0 };
    let mut set = ZSet::new();
    for i in 0u32..100_000 {
        let n = i.wrapping_mul(2_654_435_761);
        set.insert(format!("m{}", n % 30_000).as_bytes(), f64::from(n % 1000), limits);
    }
    let all: Vec<_> = set.iter().map(|(m, s)| (s, m.to_vec())).collect();
    assert_eq!(all.len(), set.len());
    assert!(all.windows(2).all(|w| w[0] < w[1]));
    assert!(set.memory() < set.len() * 100, "{} a member", set.memory() / set.len());
}

#[test]
fn one_made_of_a_table_is_the_one_made_by_adding_and_changes_as_it_does() {
    for n in [0usize, 1, 7, 1_000, 20_000] {
        let name = |i: usize| format!("member:{i}").into_bytes();
        // Many of one score, and zeros of both signs.
        let score = |i: usize| if i.is_multiple_of(5) { -0.0 } else { (i * 7919 % 1_000) as f64 - 500.0 };
        let (mut table, mut added) = (Table::new(), ZSet::new_large(0));
        for i in 0..n {
            table.insert(Entry::score(&name(i), score(i)));
            assert!(added.insert_new(&name(i), score(i), SMALL));
        }
        let mut made = ZSet::from_table(table);
        let contents = |set: &ZSet| -> Vec<(Vec<u8>, u64)> {
            set.iter().map(|(member, score)| (member.to_vec(), score.to_bits())).collect()
        };
        assert_eq!((contents(&made), made.encoding()), (contents(&added), "skiplist"));
        for i in (0..n).step_by(3) {
            assert!(made.remove(&name(i)) && added.remove(&name(i)));
            assert_eq!(made.rank(&name(i + 1)), added.rank(&name(i + 1)));
            made.insert(&name(i + 1), i as f64, SMALL);
            added.insert(&name(i + 1), i as f64, SMALL);
        }
        assert_eq!(contents(&made), contents(&added));
    }
}
