//! Iterators hold no lock between their items, and miss nothing that is there all the time.

use sluice_engine::{Db, Engine, Error, ManualClock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STAY: usize = 3_000;

/// Adds, or removes, something called by a name.
type Change = fn(&Db<'_>, &str, bool);
/// The names an iterator comes by.
type Names = fn(&Db<'_>) -> Vec<Vec<u8>>;

/// What is iterated over, by how it changes and how it is read.
const KINDS: [(&str, Change, Names); 4] = [
    (
        "keys",
        |db, name, add| {
            if add { db.set(name, "1").unwrap() } else { assert!(db.del(&[name]) <= 1) }
        },
        |db| db.scan().collect(),
    ),
    (
        "hash",
        |db, name, add| {
            if add { db.hset("hash", name, "1").map(|_| ()) } else { db.hdel("hash", &[name]).map(|_| ()) }
                .unwrap();
        },
        |db| db.hscan("hash").map(|pair| pair.unwrap().0).collect(),
    ),
    (
        "set",
        |db, name, add| {
            if add { db.sadd("set", &[name]) } else { db.srem("set", &[name]) }.unwrap();
        },
        |db| db.sscan("set").map(Result::unwrap).collect(),
    ),
    (
        "zset",
        |db, name, add| {
            if add { db.zadd("zset", &[(1.0, name)]) } else { db.zrem("zset", &[name]) }.unwrap();
        },
        |db| db.zscan("zset").map(|pair| pair.unwrap().0).collect(),
    ),
];

#[test]
fn what_stays_comes_once_while_others_come_and_go() {
    for (kind, change, names) in KINDS {
        let engine = Engine::default();
        let db = engine.db(0);
        (0..STAY).for_each(|n| change(&db, &format!("stays:{n}"), true));
        let done = AtomicBool::new(false);
        let scans = std::thread::scope(|scope| {
            // It grows to several times its size and shrinks again, as long as there are readers.
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    for add in [true, false] {
                        (0..2 * STAY).for_each(|n| change(&engine.db(0), &format!("comes:{n}"), add));
                    }
                }
            });
            let scans: Vec<Vec<Vec<u8>>> = (0..10).map(|_| names(&db)).collect();
            done.store(true, Ordering::Release);
            scans
        });
        for scan in scans {
            let mut seen: HashMap<&[u8], usize> = HashMap::new();
            scan.iter().for_each(|name| *seen.entry(name).or_default() += 1);
            for n in 0..STAY {
                assert_eq!(seen.get(format!("stays:{n}").as_bytes()), Some(&1), "{kind}: stays:{n}");
            }
        }
    }
}

#[test]
fn whoever_iterates_may_change_what_is_iterated_over() {
    for (kind, change, names) in KINDS {
        let engine = Engine::default();
        let db = engine.db(0);
        (0..STAY).for_each(|n| change(&db, &format!("n{n}"), true));
        assert_eq!(names(&db).len(), STAY, "{kind}");
        let removed = match kind {
            "keys" => db.scan().inspect(|key| assert_eq!(db.del(&[key]), 1)).count(),
            "hash" => {
                db.hscan("hash").filter(|f| db.hdel("hash", &[&f.as_ref().unwrap().0]) == Ok(1)).count()
            }
            "set" => db.sscan("set").filter(|m| db.srem("set", &[m.as_ref().unwrap()]) == Ok(1)).count(),
            _ => db.zscan("zset").filter(|m| db.zrem("zset", &[&m.as_ref().unwrap().0]) == Ok(1)).count(),
        };
        assert_eq!((removed, names(&db).len(), db.len()), (STAY, 0, 0), "{kind}");
    }
}

#[test]
fn a_list_comes_as_it_was_at_the_first_element() {
    let engine = Engine::default();
    let db = engine.db(0);
    let elements: Vec<String> = (0..STAY).map(|n| n.to_string()).collect();
    db.rpush("list", &elements).unwrap();
    let mut found = Vec::new();
    for element in db.lscan("list") {
        found.push(String::from_utf8(element.unwrap()).unwrap());
        db.lpush("list", &["new"]).unwrap();
        db.rpop("list").unwrap();
    }
    assert_eq!(found, elements);
    assert_eq!(db.llen("list"), Ok(STAY));
    assert_eq!(db.lscan("list").next(), Some(Ok(b"new".to_vec())));
    assert_eq!(db.lscan("none").next(), None);
}

#[test]
fn keys_whose_time_is_up_are_left_out_and_removed() {
    let clock = ManualClock::at(1);
    let engine = Engine::builder().clock(clock.clone()).build();
    engine.log().activate();
    let db = engine.db(3);
    for n in 0..500 {
        db.set(format!("k{n}"), "1").unwrap();
        if n % 2 == 0 {
            db.expire(format!("k{n}"), Duration::from_secs(1));
        }
    }
    clock.advance(Duration::from_secs(1));
    let mut log = engine.log().reader(engine.log().end()).unwrap();
    assert_eq!(db.scan().count(), 250);
    assert_eq!(db.len(), 250);
    let logged = log.read(usize::MAX).unwrap();
    assert_eq!(logged.windows(3).filter(|w| w == b"DEL").count(), 250);
    assert_eq!(
        logged.windows(5).filter(|w| w == b"MULTI").count(),
        0,
        "they have nothing to do with each other"
    );
}

#[test]
fn another_type_is_one_error_and_the_end_also_half_way() {
    let engine = Engine::default();
    let db = engine.db(0);
    db.set("text", "1").unwrap();
    let wrong = Err(Error::WrongType);
    assert_eq!(db.sscan("text").collect::<Vec<_>>(), std::slice::from_ref(&wrong));
    assert_eq!(db.lscan("text").collect::<Vec<_>>(), std::slice::from_ref(&wrong));
    db.sadd("set", &(0..STAY).map(|n| format!("m{n}")).collect::<Vec<_>>()).unwrap();
    let mut members = db.sscan("set");
    assert!(members.next().unwrap().is_ok());
    db.set("set", "a string").unwrap();
    let rest: Vec<_> = members.collect();
    assert!(rest.len() < STAY);
    assert_eq!(rest.last(), Some(&wrong));
    assert_eq!(rest.iter().filter(|item| item.is_err()).count(), 1);
}

#[test]
fn they_work_in_a_transaction_and_in_any_database() {
    let engine = Engine::default();
    for db in [0, 5] {
        let names: Vec<(String, &str)> = (0..1_000).map(|n| (format!("{db}:{n}"), "1")).collect();
        engine.db(db).set_many(&names).unwrap();
    }
    let found = engine.transaction(5, |db| {
        let keys: Vec<_> = db.scan().collect();
        db.select(0).unwrap().set("found", keys.len().to_string()).unwrap();
        assert_eq!(db.scan().count(), 1_000, "the other database does not matter");
        keys
    });
    assert!(found.len() == 1_000 && found.iter().all(|key| key.starts_with(b"5:")));
    assert_eq!(engine.db(0).get_with("found", |text| text == b"1000"), Ok(Some(true)));
}

#[test]
fn a_read_without_a_copy_sees_integers_and_refuses_other_types() {
    let engine = Engine::default();
    let db = engine.db(0);
    db.set("n", "-42").unwrap();
    db.hset("h", "n", "7").unwrap();
    db.hset("h", "text", "seven").unwrap();
    assert_eq!(db.get_with("n", <[u8]>::to_vec), Ok(Some(b"-42".to_vec())));
    assert_eq!(db.hget_with("h", "n", <[u8]>::to_vec), Ok(Some(b"7".to_vec())));
    assert_eq!(db.hget_with("h", "text", <[u8]>::len), Ok(Some(5)));
    assert_eq!(db.hget_with("h", "none", <[u8]>::len), Ok(None));
    assert_eq!(db.get_with("h", <[u8]>::len), Err(Error::WrongType));
    assert_eq!(engine.transaction(0, |db| db.get_with("n", <[u8]>::len)), Ok(Some(3)));
}
