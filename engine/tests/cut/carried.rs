//! Values that are carried, in a cut: small ones with their neighbours, long ones in pieces.

use crate::engine;
use crate::rebuild::{Image, opaque};
use sluice_engine::{Engine, Step, ValueView};
use std::collections::BTreeMap;

fn bytes(n: usize) -> Vec<u8> {
    // Every third is longer than a slice.
    vec![n as u8; if n.is_multiple_of(3) { 200_000 + n } else { 5 + n }]
}

fn filled() -> Engine {
    let engine = engine(2);
    let mut loader = engine.loader();
    for n in 0..60 {
        assert!(loader.value(0, format!("key:{n}").as_bytes(), opaque(bytes(n)), None, 0));
    }
    loader.finish();
    engine
}

/// Keys and their bytes.
fn contents(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    engine.exclusive(0, &mut Vec::new(), |cx| {
        for db in 0..cx.keys.databases() {
            cx.keys.each_table(db, |_, table| {
                for entry in table.iter() {
                    let bytes = match ValueView::of(entry) {
                        Some(ValueView::Opaque(value)) => value.as_bytes().to_vec(),
                        _ => b"another type".to_vec(),
                    };
                    found.insert(entry.key().to_vec(), bytes);
                }
            });
        }
    });
    found
}

#[test]
fn carried_values_are_delivered_as_of_the_cut_whatever_happens_to_their_keys() {
    let commands: [fn(usize) -> Vec<String>; 5] = [
        |n| vec!["DEL".into(), format!("key:{n}")],
        |n| vec!["SET".into(), format!("key:{n}"), "text".into()],
        |n| vec!["RENAME".into(), format!("key:{n}"), format!("moved:{n}")],
        |n| vec!["PEXPIREAT".into(), format!("key:{n}"), "4102444800000".into()],
        |n| vec!["COPY".into(), format!("key:{n}"), format!("key:{}", n + 1), "REPLACE".into()],
    ];
    for slice in [1, 1000, 1 << 20] {
        let engine = filled();
        let expected = contents(&engine);
        let mut cut = engine.begin_cut().expect("no other cut");
        let mut image = Image::new(&cut);
        let mut n = 0;
        while cut.step(&mut image, slice) == Step::More {
            image.take_pending();
            if n < 60 {
                engine.execute(&commands[n % commands.len()](n)).expect("the key is there");
                n += 1;
            }
        }
        image.check_complete();
        assert_eq!(contents(image.load().engine()), expected, "slices of {slice} bytes");
    }
}

#[test]
fn a_carried_value_that_waits_is_counted_with_its_bytes() {
    let engine = filled();
    let cut = engine.begin_cut().expect("no other cut");
    engine.execute(&["PEXPIREAT", "key:3", "4102444800000"]).expect("the key is there");
    // It shares them, but may be the last that holds them.
    assert!(cut.preimage_bytes() > 200_000, "{}", cut.preimage_bytes());
}
