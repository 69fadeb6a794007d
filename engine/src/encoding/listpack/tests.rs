use super::*;
use proptest::prelude::*;

fn pack(texts: &[&[u8]]) -> Listpack {
    let mut lp = Listpack::new();
    texts.iter().for_each(|text| lp.push_back(text));
    lp
}

fn texts(lp: &Listpack) -> Vec<Vec<u8>> {
    lp.iter().map(|value| value.to_vec()).collect()
}

#[test]
fn the_layout_is_that_of_redis() {
    let lp = pack(&[b"a", b"127", b"-1", b"4096", b"01", b"", b"-8388609"]);
    let expected = b"\x1f\0\0\0\x07\0\x81a\x02\x7f\x01\xdf\xff\x02\xf1\x00\x10\x03\x8201\x03\x80\x01\xf3\xff\xff\x7f\xff\x05\xff";
    assert_eq!(lp.as_bytes(), expected);
}

#[test]
fn every_integer_width_survives() {
    let edges =
        [0, 127, 128, 4095, 4096, 0x7FFF, 0x8000, 0x7F_FFFF, 0x80_0000, 0x7FFF_FFFF, 0x8000_0000, i64::MAX];
    for value in edges.into_iter().flat_map(|edge| [edge, -edge, -edge - 1]) {
        let lp = pack(&[value.to_string().as_bytes()]);
        assert_eq!(lp.get(0), Some(LpValue::Int(value)));
        assert_eq!(Listpack::from_bytes(lp.as_bytes().to_vec()).as_ref(), Ok(&lp));
    }
}

#[test]
fn every_string_length_around_the_edges_survives() {
    for edge in [63usize, 126, 4095, 16_378, 2_097_146] {
        for len in edge - 1..=edge + 2 {
            let text = vec![b'x'; len];
            let mut lp = pack(&[b"before", &text, b"after"]);
            assert_eq!(lp.get(-2), Some(LpValue::Str(&text)));
            assert_eq!(Listpack::from_bytes(lp.as_bytes().to_vec()).as_ref(), Ok(&lp));
            assert_eq!(lp.iter().rev().count(), 3);
            lp.remove_range(1, 1);
            assert_eq!(lp, pack(&[b"before", b"after"]));
        }
    }
}

#[test]
fn more_elements_than_the_header_can_count() {
    let mut lp = Listpack::new();
    (0..65_540).for_each(|_| lp.push_back(b"1"));
    assert_eq!((lp.len(), lp.header_count()), (65_540, COUNT_UNKNOWN));
    assert_eq!(Listpack::from_bytes(lp.as_bytes().to_vec()).as_ref(), Ok(&lp));
    lp.remove_range(-10, 10);
    assert_eq!((lp.len(), lp.header_count()), (65_530, 65_530));
}

#[test]
fn a_field_is_not_found_among_the_values() {
    let lp = pack(&[b"f", b"v", b"v", b"17", b"17", b"f"]);
    assert_eq!(lp.find(b"v", 1), lp.at(2));
    assert_eq!(lp.find(b"17", 1), lp.at(4));
    assert_eq!(lp.find(b"f", 1), lp.at(0));
    assert_eq!(lp.find(b"x", 1), None);
    assert_eq!(lp.find_from(lp.at(1).unwrap(), b"f", 0), lp.at(5));
    assert_eq!(Listpack::new().find(b"", 0), None);
}

#[test]
fn damage_is_refused_with_its_offset() {
    for (bytes, offset) in [
        (&b""[..], 0),
        (b"\x06\0\0\0\0\0", 0),
        (b"\x08\0\0\0\0\0\xff", 0),
        (b"\x07\0\0\0\0\0\x00", 6),
        (b"\x07\0\0\0\x01\0\xff", 4),
        (b"\x09\0\0\0\x01\0\x01\x02\xff", 7),
        (b"\x09\0\0\0\x01\0\x82\x02\xff", 6),
        (b"\x09\0\0\0\x01\0\xf5\x01\xff", 6),
        (b"\x09\0\0\0\x01\0\xff\x01\xff", 6),
        (b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff", 6),
        (b"\x08\0\0\0\x01\0\x01\xff", 7),
    ] {
        assert_eq!(Listpack::from_bytes(bytes.to_vec()).unwrap_err().offset, offset, "{bytes:?}");
    }
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        4 => (-5000i64..5000).prop_map(|value| value.to_string().into_bytes()),
        4 => prop::collection::vec(prop::sample::select(&b"-01ab"[..]), 0..4),
        2 => prop::collection::vec(any::<u8>(), 60..130),
        1 => (4090usize..4100).prop_map(|len| vec![b'z'; len]),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(usize, Vec<u8>),
    InsertAfter(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    RemoveRun(usize, usize),
    SplitAndAppend(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => element().prop_map(Op::PushBack),
        4 => element().prop_map(Op::PushFront),
        2 => (any::<usize>(), element()).prop_map(|(i, e)| Op::InsertBefore(i, e)),
        2 => (any::<usize>(), element()).prop_map(|(i, e)| Op::InsertAfter(i, e)),
        2 => (any::<usize>(), element()).prop_map(|(i, e)| Op::Replace(i, e)),
        2 => (any::<usize>(), 0usize..5).prop_map(|(i, n)| Op::RemoveRun(i, n)),
        1 => any::<usize>().prop_map(Op::SplitAndAppend),
    ]
}

fn apply(op: Op, lp: &mut Listpack, model: &mut Vec<Vec<u8>>) {
    // Indices count for a non-empty list; on an empty one these operations have no place to name.
    let place = |i: usize| (!model.is_empty()).then(|| i % model.len().max(1));
    let at = |lp: &Listpack, i: usize| lp.at(i as i64).unwrap();
    match op {
        Op::PushBack(e) => {
            lp.push_back(&e);
            model.push(e);
        }
        Op::PushFront(e) => {
            lp.push_front(&e);
            model.insert(0, e);
        }
        Op::InsertBefore(i, e) => {
            let Some(i) = place(i) else { return };
            let pos = lp.insert_before(at(lp, i), &e);
            assert!(lp.value(pos).eq_bytes(&e));
            model.insert(i, e);
        }
        Op::InsertAfter(i, e) => {
            let Some(i) = place(i) else { return };
            let pos = lp.insert_after(at(lp, i), &e);
            assert!(lp.value(pos).eq_bytes(&e));
            model.insert(i + 1, e);
        }
        Op::Replace(i, e) => {
            let Some(i) = place(i) else { return };
            lp.replace(at(lp, i), &e);
            model[i] = e;
        }
        Op::RemoveRun(i, n) => {
            let Some(i) = place(i) else { return };
            let following = lp.remove_run(at(lp, i), n);
            let end = (i + n).min(model.len());
            model.drain(i..end);
            assert_eq!(following.map(|pos| lp.value(pos).to_vec()), model.get(i).cloned());
        }
        Op::SplitAndAppend(i) => {
            let i = i % (model.len() + 1);
            let tail = lp.split_off(i);
            assert_eq!((lp.len(), tail.len()), (i, model.len() - i));
            lp.append(&tail);
        }
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_list(ops in prop::collection::vec(op(), 0..60), needle in element()) {
        let (mut lp, mut model) = (Listpack::new(), Vec::new());
        for op in ops {
            apply(op, &mut lp, &mut model);
            prop_assert_eq!(lp.len(), model.len());
        }
        prop_assert_eq!(texts(&lp), &model[..]);
        let mut backward: Vec<_> = lp.iter().rev().map(|value| value.to_vec()).collect();
        backward.reverse();
        prop_assert_eq!(&backward, &model);
        let len = model.len() as i64;
        for i in -len - 1..=len {
            let index = if i < 0 { i + len } else { i };
            let expected = usize::try_from(index).ok().and_then(|index| model.get(index));
            prop_assert_eq!(lp.get(i).map(|value| value.to_vec()), expected.cloned());
        }
        for text in model.iter().chain([&needle]) {
            let found = model.iter().position(|other| other == text);
            prop_assert_eq!(lp.find(text, 0), found.and_then(|i| lp.at(i as i64)));
        }
        // The bytes are those a fresh one gets, and they validate.
        let fresh = pack(&model.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert_eq!(fresh.as_bytes(), lp.as_bytes());
        prop_assert_eq!(Listpack::from_bytes(lp.as_bytes().to_vec()), Ok(lp));
    }

    #[test]
    fn no_bytes_make_it_panic(entries in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = (entries.len() as u32 + 7).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0xFF, 0xFF]);
        bytes.extend_from_slice(&entries);
        bytes.push(END);
        if let Ok(lp) = Listpack::from_bytes(bytes) {
            prop_assert_eq!(lp.iter().count(), lp.iter().rev().count());
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_harmless(elements in prop::collection::vec(element(), 1..8), at: usize, bit in 0u32..8) {
        let lp = pack(&elements.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut bytes = lp.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(damaged) = Listpack::from_bytes(bytes) {
            prop_assert_eq!(damaged.iter().count(), damaged.len());
            prop_assert_eq!(damaged.iter().rev().count(), damaged.len());
        }
    }
}
