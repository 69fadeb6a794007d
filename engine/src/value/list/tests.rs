use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn contents(list: &List) -> Vec<Vec<u8>> {
    list.iter().map(|value| value.to_vec()).collect()
}

fn numbers(n: usize, limit: NodeLimit) -> List {
    let mut list = List::new();
    (0..n).for_each(|i| list.push_back(i.to_string().as_bytes(), limit));
    list.spine.check();
    list
}

#[test]
fn node_limits_follow_the_directive() {
    let bytes = |size| NodeLimit::from_config(size).bytes;
    assert_eq!(
        [-1, -2, -3, -4, -5, -6, i64::MIN].map(bytes),
        [4096, 8192, 16384, 32768, 65536, 65536, 65536]
    );
    assert_eq!(NodeLimit::from_config(128), NodeLimit { bytes: 8192, entries: 128 });
    assert_eq!(NodeLimit::from_config(0).entries, 1);
    assert_eq!(numbers(10, NodeLimit::from_config(3)).node_count(), 4);
}

#[test]
fn nodes_stay_within_their_limit_and_large_elements_stand_alone() {
    let limit = NodeLimit::from_config(-1);
    let mut list = numbers(5_000, limit);
    let large = vec![b'x'; 5_000];
    assert!(list.insert(2_500, &large, limit));
    assert!(list.nodes().filter(|node| matches!(node, NodeView::Plain(text) if *text == large)).count() == 1);
    for node in list.nodes() {
        assert!(
            matches!(node, NodeView::Packed(lp) if lp.byte_len() <= 4096)
                || matches!(node, NodeView::Plain(_))
        );
    }
    assert!(list.set(2_500, b"small again", limit));
    assert!(list.nodes().all(|node| matches!(node, NodeView::Packed(_))));
    list.spine.check();
}

#[test]
fn a_snapshot_stands_still_and_shares_what_is_not_written() {
    let limit = NodeLimit::default();
    let mut list = numbers(100_000, limit);
    let before = contents(&list);
    let snapshot = list.snapshot();
    list.push_front(b"new", limit);
    list.push_back(b"new", limit);
    assert!(list.set(50_000, b"changed", limit));
    assert_eq!(list.remove(0, b"77"), 1);
    assert_eq!(contents(&snapshot), before);
    let addresses = |list: &List| -> Vec<*const u8> {
        let packed = list.nodes().filter_map(|node| match node {
            NodeView::Packed(listpack) => Some(listpack.as_bytes().as_ptr()),
            NodeView::Plain(_) => None,
        });
        packed.collect()
    };
    let old = addresses(&snapshot);
    let shared = addresses(&list).iter().filter(|address| old.contains(address)).count();
    assert!(shared >= old.len() - 3, "{shared} of {}", old.len());
}

#[test]
fn indices_are_found_in_lists_of_many_chunks() {
    let list = numbers(3_000, NodeLimit::from_config(5));
    assert_eq!(list.node_count(), 600);
    for i in 0..3_000 {
        assert_eq!(list.get(i), Some(LpValue::Int(i as i64)));
    }
    assert_eq!(list.get(3_000), None);
    assert_eq!(list.find(b"2999"), Some(2_999));
    assert_eq!(list.iter_back_from(2_999).count(), 3_000);
    assert_eq!(list.range(2_990, 100).count(), 10);
}

#[test]
fn loaded_nodes_are_taken_or_parted() {
    let limit = NodeLimit::from_config(4);
    let mut lp = Listpack::new();
    (0..4).for_each(|i| lp.push_back(i.to_string().as_bytes()));
    let mut list = List::new();
    list.push_packed_node(Listpack::new(), limit);
    list.push_packed_node(lp.clone(), limit);
    lp.push_back(b"x");
    list.push_packed_node(lp, limit);
    list.push_plain_node(vec![b'y'; 10_000], limit);
    list.push_plain_node(b"z".to_vec(), limit);
    let shape: Vec<_> = list
        .nodes()
        .map(|node| match node {
            NodeView::Packed(listpack) => listpack.len(),
            NodeView::Plain(_) => 0,
        })
        .collect();
    assert_eq!(shape, [4, 4, 1, 0, 1]);
    list.spine.check();
}

#[derive(Clone, Debug)]
enum Op {
    PushFront(Vec<u8>),
    PushBack(Vec<u8>),
    PopFront,
    PopBack,
    Set(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(i64, Vec<u8>),
    RemoveRange(usize, usize),
    Trim(usize, usize),
    Snapshot,
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0i64..8).prop_map(|value| value.to_string().into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (1_000usize..3_000).prop_map(|len| vec![b'x'; len]),
        1 => (4_070usize..4_100).prop_map(|len| vec![b'y'; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => element().prop_map(Op::PushFront),
        20 => element().prop_map(Op::PushBack),
        5 => Just(Op::PopFront),
        5 => Just(Op::PopBack),
        8 => (any::<usize>(), element()).prop_map(|(i, e)| Op::Set(i, e)),
        20 => (any::<usize>(), element()).prop_map(|(i, e)| Op::Insert(i, e)),
        3 => (-3i64..4, element()).prop_map(|(n, e)| Op::Remove(n, e)),
        2 => (any::<usize>(), 0usize..20).prop_map(|(i, n)| Op::RemoveRange(i, n)),
        1 => (0usize..10, 0usize..1000).prop_map(|(i, n)| Op::Trim(i, n)),
        1 => Just(Op::Snapshot),
    ]
}

fn remove_from_model(model: &mut VecDeque<Vec<u8>>, count: i64, text: &[u8]) -> usize {
    let mut indices: Vec<_> = (0..model.len()).filter(|&i| model[i] == text).collect();
    if count < 0 {
        indices.reverse();
    }
    if count != 0 {
        indices.truncate(count.unsigned_abs() as usize);
    }
    indices.sort_unstable();
    indices.iter().rev().for_each(|&i| drop(model.remove(i)));
    indices.len()
}

fn apply(op: Op, list: &mut List, model: &mut VecDeque<Vec<u8>>, limit: NodeLimit) {
    let len = model.len();
    match op {
        Op::PushFront(e) => {
            list.push_front(&e, limit);
            model.push_front(e);
        }
        Op::PushBack(e) => {
            list.push_back(&e, limit);
            model.push_back(e);
        }
        Op::PopFront => assert_eq!(list.pop_front(), model.pop_front()),
        Op::PopBack => assert_eq!(list.pop_back(), model.pop_back()),
        Op::Set(i, e) => {
            let i = i % (len + 1);
            assert_eq!(list.set(i, &e, limit), i < len);
            if let Some(place) = model.get_mut(i) {
                *place = e;
            }
        }
        Op::Insert(i, e) => {
            let i = i % (len + 2);
            assert_eq!(list.insert(i, &e, limit), i <= len);
            if i <= len {
                model.insert(i, e);
            }
        }
        Op::Remove(count, e) => assert_eq!(list.remove(count, &e), remove_from_model(model, count, &e)),
        Op::RemoveRange(i, n) => {
            let i = i % (len + 1);
            let end = (i + n).min(len);
            assert_eq!(list.remove_range(i, n), end - i);
            model.drain(i..end);
        }
        Op::Trim(start, count) => {
            list.trim(start, count);
            model.truncate(start + count);
            model.drain(..start.min(model.len()));
        }
        Op::Snapshot => {}
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_deque(
        ops in prop::collection::vec(op(), 0..300),
        size in prop::sample::select(&[-1i64, 1, 2, 3, 8][..]),
        start: usize,
    ) {
        let limit = NodeLimit::from_config(size);
        let (mut list, mut model) = (List::new(), VecDeque::new());
        let mut snapshots = Vec::new();
        for op in ops {
            if matches!(op, Op::Snapshot) {
                snapshots.push((list.snapshot(), model.clone()));
            }
            apply(op, &mut list, &mut model, limit);
            prop_assert_eq!(list.len(), model.len());
        }
        snapshots.push((list, model));
        for (list, model) in snapshots {
            list.spine.check();
            prop_assert_eq!(contents(&list), Vec::from(model.clone()));
            let start = start % (model.len() + 1);
            let tail: Vec<_> = list.iter_from(start).map(|value| value.to_vec()).collect();
            prop_assert!(tail.iter().eq(model.iter().skip(start)));
            let back: Vec<_> = list.iter_back_from(start).map(|value| value.to_vec()).collect();
            prop_assert!(start == model.len() || back.iter().eq(model.iter().take(start + 1).rev()));
            prop_assert_eq!(list.front().map(|value| value.to_vec()), model.front().cloned());
            prop_assert_eq!(list.back().map(|value| value.to_vec()), model.back().cloned());
            if let Some(text) = model.get(start) {
                prop_assert_eq!(list.find(text), model.iter().position(|other| other == text));
            }
        }
    }
}
