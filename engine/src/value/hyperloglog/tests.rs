use super::*;
use proptest::prelude::*;

const SPARSE_MAX: usize = 3000;

fn with(elements: &[&[u8]], sparse_max: usize) -> Draft {
    let mut draft = Draft::new();
    for element in elements {
        let (index, value) = place(element);
        draft.raise(index, value, sparse_max).expect("what we made is whole");
    }
    draft.forget_estimate();
    draft
}

/// A sparse value of these runs.
fn sparse(runs: &[u8]) -> Vec<u8> {
    [&b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80"[..], runs].concat()
}

fn registers(bytes: &[u8]) -> Result<Registers, Malformed> {
    let mut registers = Registers::default();
    registers.merge(HyperLogLog::parse(bytes)?)?;
    Ok(registers)
}

#[test]
fn the_bytes_are_those_of_redis() {
    // Taken from a redis-server 7.0.15.
    let three = with(&[b"a", b"b", b"c"], SPARSE_MAX);
    assert_eq!(three.as_bytes(), sparse(b"\x60\xf3\x80\x50\xb1\x84\x4b\xfb\x80\x42\x5a"));
    let four = with(&[b"", b"hello", b"a longer element, of more words", b"12345678"], SPARSE_MAX);
    assert_eq!(four.as_bytes(), sparse(b"\x57\x31\x84\x48\x18\x84\x44\xb2\x80\x45\x51\x88\x56\xab"));
    assert_eq!(four.view().estimate(), Ok(4));
    assert_eq!(Draft::new().as_bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
    assert_eq!(Draft::new().view().cached(), Some(0));
}

#[test]
fn neighbours_of_one_value_become_one_run() {
    let mut draft = Draft::new();
    for index in [5, 6, 7, 8, 9] {
        assert_eq!(draft.raise(index, 3, SPARSE_MAX), Ok(true));
        assert_eq!(draft.raise(index, 2, SPARSE_MAX), Ok(false));
    }
    let runs: Vec<_> = draft.view().runs().map(|run| (run.value, run.len)).collect();
    assert_eq!(runs, [(0, 5), (3, 4), (3, 1), (0, REGISTERS - 10)]);
    assert_eq!(draft.raise(6, 4, SPARSE_MAX), Ok(true));
    let runs: Vec<_> = draft.view().runs().map(|run| (run.value, run.len)).collect();
    assert_eq!(runs, [(0, 5), (3, 1), (4, 1), (3, 3), (0, REGISTERS - 10)]);
}

#[test]
fn a_register_beyond_32_makes_it_dense() {
    let mut draft = Draft::new();
    assert_eq!(draft.raise(REGISTERS - 1, 32, SPARSE_MAX), Ok(true));
    assert_eq!(draft.view().encoding(), Encoding::Sparse);
    assert_eq!(draft.raise(0, 33, SPARSE_MAX), Ok(true));
    assert_eq!(draft.view().encoding(), Encoding::Dense);
    assert_eq!(draft.as_bytes().len(), DENSE_LEN);
    assert_eq!(draft.view().register(0), Ok(33));
    assert_eq!(draft.view().register(REGISTERS - 1), Ok(32));
    assert_eq!(draft.view().register(1), Ok(0));
}

#[test]
fn damage_is_found_where_it_matters() {
    for foreign in [&b""[..], b"HYLL", b"HYLX\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff", &[0; DENSE_LEN]] {
        assert_eq!(HyperLogLog::parse(foreign).err(), Some(Malformed::Foreign));
    }
    let mut unknown = sparse(b"\x7f\xff");
    unknown[ENCODING_AT] = 2;
    assert_eq!(HyperLogLog::parse(&unknown).err(), Some(Malformed::Foreign));
    unknown[ENCODING_AT] = 0;
    assert_eq!(HyperLogLog::parse(&unknown).err(), Some(Malformed::Foreign));
    // Too few registers, none, too many, an XZERO cut off.
    for runs in [&b"\x7f\xfe"[..], b"", b"\x7f\xff\0", b"\x7f\xfe\x81", b"\x7f"] {
        let bytes = sparse(runs);
        let hll = HyperLogLog::parse(&bytes).expect("the header is good");
        assert_eq!(hll.estimate(), Err(Malformed::Corrupt), "{runs:?}");
        assert_eq!(registers(&bytes).err(), Some(Malformed::Corrupt));
        assert_eq!(Draft::of(hll).make_dense(), Err(Malformed::Corrupt));
    }
    let short = sparse(b"\x00");
    assert_eq!(Draft::of(HyperLogLog::parse(&short).unwrap()).raise(1, 1, 99), Err(Malformed::Corrupt));
}

#[test]
fn registers_no_hash_gives_are_counted_as_redis_counts_them() {
    let mut draft = Draft::new();
    draft.make_dense().unwrap();
    (0..REGISTERS).for_each(|index| dense_set(&mut draft.0, index, 63));
    // From a redis-server: PFCOUNT replies -9223372036854775808.
    assert_eq!(draft.view().estimate(), Ok(1 << 63));
}

#[test]
fn estimates_stay_within_five_standard_errors() {
    let mut draft = Draft::new();
    let mut check = 100u64;
    for n in 1..=300_000u64 {
        let (index, value) = place(format!("element {n}").as_bytes());
        draft.raise(index, value, SPARSE_MAX).unwrap();
        if n == check {
            let estimate = draft.view().estimate().unwrap();
            assert!(estimate.abs_diff(n) as f64 <= 5.0 * 0.0081 * n as f64, "{estimate} for {n}");
            check = check * 17 / 10;
        }
    }
}

#[test]
fn the_self_test_passes() {
    self_test().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn both_encodings_keep_the_greatest_of_every_register(
        sets in prop::collection::vec((0..REGISTERS, 1u8..=51), 0..600),
        crowd in prop::bool::ANY,
        sparse_max in prop_oneof![Just(0usize), Just(100), Just(3000)],
    ) {
        // In a crowd the runs touch, are split and joined.
        let sets: Vec<_> =
            sets.into_iter().map(|(i, v)| if crowd { (i % 40, v % 4 + 1) } else { (i, v) }).collect();
        let mut model = vec![0u8; REGISTERS];
        let (mut any, mut dense) = (Draft::new(), Draft::new());
        dense.make_dense().unwrap();
        for (index, value) in sets {
            let rises = value > model[index];
            model[index] = model[index].max(value);
            prop_assert_eq!(any.view().register(index).unwrap() < value, rises);
            prop_assert_eq!(any.raise(index, value, sparse_max), Ok(rises));
            prop_assert_eq!(dense.raise(index, value, sparse_max), Ok(rises));
            prop_assert!(any.view().encoding() == Encoding::Dense || any.as_bytes().len() <= sparse_max.max(18));
        }
        let kept = registers(any.as_bytes()).unwrap();
        prop_assert_eq!(kept.as_slice(), &model[..]);
        prop_assert_eq!(any.view().estimate(), dense.view().estimate());
        prop_assert_eq!(registers(dense.as_bytes()).unwrap().estimate(), dense.view().estimate().unwrap());
        any.make_dense().unwrap();
        prop_assert_eq!(any.as_bytes(), dense.as_bytes());
    }

    #[test]
    fn no_bytes_make_it_panic(
        runs in prop::collection::vec(any::<u8>(), 0..200),
        dense in prop::bool::ANY,
        whole in prop::bool::ANY,
        sets in prop::collection::vec((0..REGISTERS, 1u8..=51), 0..50),
    ) {
        let mut bytes = sparse(&runs);
        if dense {
            bytes.resize(DENSE_LEN, 0x5a);
            bytes[ENCODING_AT] = 0;
        } else if whole {
            // The right number of registers, where what came before had fewer.
            let have: usize = HyperLogLog::parse(&bytes).unwrap().runs().map(|run| run.len).sum();
            let mut rest = SmallVec::new();
            Run::write(0, REGISTERS.saturating_sub(have), &mut rest);
            bytes.extend_from_slice(&rest);
        }
        let hll = HyperLogLog::parse(&bytes).unwrap();
        let _ = (hll.cached(), hll.runs().count());
        prop_assert_eq!(hll.estimate().is_ok(), registers(&bytes).is_ok());
        let mut draft = Draft::of(hll);
        for (index, value) in sets {
            let _ = (hll.register(index), draft.raise(index, value, SPARSE_MAX), draft.view().estimate());
        }
        let _ = draft.make_dense();
    }

    #[test]
    fn any_string_is_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = HyperLogLog::parse(&bytes).map(|hll| hll.estimate());
    }
}
