//! Intersection, union and difference of sets.
//!
//! The methods, and with them the encodings of the results, are those of Redis: an intersection walks the smallest
//! set, a difference takes whichever of two ways has less to do.

use super::Set;
use crate::encoding::LpValue;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Calls `found` with every member that all sets have, until it breaks. Walks the smallest set, which `sets` is
/// sorted by for the occasion; none at all is empty.
pub(crate) fn intersect<'a>(mut sets: Vec<&'a Set>, mut found: impl FnMut(LpValue<'a>) -> ControlFlow<()>) {
    sets.sort_by_key(|s| (s.len(), std::ptr::from_ref(*s)));
    // A set that is named again has nothing to add.
    sets.dedup_by(|a, b| std::ptr::eq(*a, *b));
    let Some((first, others)) = sets.split_first() else { return };
    for member in first.iter() {
        let everywhere = others.iter().all(|s| s.contains_value(member));
        if everywhere && found(member).is_break() {
            return;
        }
    }
}

/// The members of any of the sets. `limit` is `set-max-intset-entries`.
pub(crate) fn union(sets: &[Option<&Set>], limit: usize) -> Set {
    let mut all = Set::new();
    let mut seen = HashSet::new();
    let sets = sets.iter().flatten().filter(|s| seen.insert(std::ptr::from_ref(**s)));
    for member in sets.flat_map(|s| s.iter()) {
        all.add_value(member, limit);
    }
    all
}

/// The members of the first set that none of the others has. `limit` is `set-max-intset-entries`.
pub(crate) fn difference(sets: &[Option<&Set>], limit: usize) -> Set {
    let mut rest = Set::new();
    let Some((Some(first), others)) = sets.split_first() else { return rest };
    if others.iter().flatten().any(|s| std::ptr::eq(*s, *first)) {
        return rest;
    }
    let mut seen = HashSet::new();
    let mut others: Vec<&Set> =
        others.iter().flatten().copied().filter(|s| seen.insert(std::ptr::from_ref(*s))).collect();
    // Either look every member up in the others, which a hit cuts short on average half-way, or copy the first
    // set and remove the others' members.
    let existing = others.len() + 1;
    let looking_up = first.len().saturating_mul(existing) / 2;
    let removing = others.iter().map(|s| s.len()).sum::<usize>() + first.len();
    if looking_up <= removing {
        // The largest is the likeliest to have it.
        others.sort_by_key(|s| std::cmp::Reverse(s.len()));
        for member in first.iter() {
            if !others.iter().any(|s| s.contains_value(member)) {
                rest.add_value(member, limit);
            }
        }
        return rest;
    }
    for member in first.iter() {
        rest.add_value(member, limit);
    }
    for member in others.iter().flat_map(|s| s.iter()) {
        rest.remove_value(member);
        if rest.is_empty() {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const LIMIT: usize = 6;

    fn member() -> impl Strategy<Value = String> {
        prop_oneof![6 => (0i64..14).prop_map(|n| n.to_string()), 1 => "[a-c]"]
    }

    proptest! {
        #[test]
        fn they_are_those_of_the_models(
            models in prop::collection::vec(prop::option::of(prop::collection::btree_set(member(), 1..14)), 1..5)
        ) {
            let sets: Vec<Option<Set>> = models.iter().map(|m| m.as_ref().map(|m| {
                let mut s = Set::new();
                m.iter().for_each(|x| assert!(s.add(x.as_bytes(), LIMIT)));
                s
            })).collect();
            let sets: Vec<Option<&Set>> = sets.iter().map(Option::as_ref).collect();
            let text = |m: LpValue<'_>| String::from_utf8(m.to_vec()).unwrap();
            let contents = |s: &Set| s.iter().map(text).collect::<BTreeSet<_>>();

            let any: BTreeSet<String> = models.iter().flatten().flatten().cloned().collect();
            prop_assert_eq!(contents(&union(&sets, LIMIT)), any.clone());

            let mut rest = models[0].clone().unwrap_or_default();
            rest.retain(|x| !models[1..].iter().flatten().any(|m| m.contains(x)));
            prop_assert_eq!(contents(&difference(&sets, LIMIT)), rest);

            let all = sets.iter().flatten().copied().collect();
            let mut common = BTreeSet::new();
            intersect(all, |m| { common.insert(text(m)); ControlFlow::Continue(()) });
            let expected: BTreeSet<_> =
                any.into_iter().filter(|x| models.iter().flatten().all(|m| m.contains(x))).collect();
            prop_assert_eq!(common, expected);
        }
    }
}
