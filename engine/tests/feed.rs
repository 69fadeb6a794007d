//! A feed tells what was written, whole and in order.

use sluice_engine::{Change, Engine, Feed, LogGone};

fn all(feed: &mut Feed) -> Vec<Change> {
    std::iter::from_fn(|| feed.read().expect("it goes on")).collect()
}

#[test]
fn changes_run_again_make_the_same_data() {
    let (source, copy) = (Engine::default(), Engine::default());
    let mut feed = source.feed();
    let big = vec![b'x'; 300_000];
    for n in 0..2_000u32 {
        let db = source.db(n % 5);
        db.hset("hash", format!("f{}", n % 700), n.to_string()).unwrap();
        db.rpush("list", &[n.to_string()]).unwrap();
        if n % 500 == 0 {
            db.set("big", &big).unwrap();
            source.transaction(n % 3, |db| db.incr_by("n", 1).and_then(|_| db.incr_by("m", 2))).unwrap();
        }
    }
    let mut sessions: Vec<_> = (0..5).map(|db| (db, copy.session())).collect();
    let mut end = 0;
    for change in all(&mut feed) {
        assert!(change.end > end, "offsets rise");
        end = change.end;
        if ["MULTI", "EXEC"].iter().any(|name| change.args[0] == name.as_bytes()) {
            continue;
        }
        let (db, session) = &mut sessions[change.db as usize];
        session.db = *db;
        copy.execute_in(session, &change.args).unwrap();
    }
    assert_eq!((feed.offset(), end), (source.log().end(), source.log().end()));
    for db in 0..5 {
        let (ours, theirs) = (copy.db(db), source.db(db));
        let sorted = |mut pairs: Vec<_>| {
            pairs.sort();
            pairs
        };
        assert_eq!(sorted(ours.hgetall("hash").unwrap()), sorted(theirs.hgetall("hash").unwrap()));
        assert_eq!(ours.lrange("list", 0, -1), theirs.lrange("list", 0, -1));
        assert_eq!(ours.get_many(&["big", "n", "m"]), theirs.get_many(&["big", "n", "m"]));
    }
}

#[test]
fn a_feed_that_begins_in_the_middle_of_a_follower_s_log_knows_the_database() {
    let (source, copy) = (Engine::default(), Engine::default());
    copy.log().activate();
    let (mut cut, mut log) = source.begin_cut_with_log().unwrap();
    let mut follower = copy.load_cut(&mut cut).unwrap();
    source.db(7).set("a", "1").unwrap();
    copy.apply(&mut follower, &log.read(usize::MAX).unwrap()).unwrap();
    let mut feed = copy.feed();
    assert_eq!(feed.read(), Ok(None));
    source.db(7).set("b", "2").unwrap();
    copy.apply(&mut follower, &log.read(usize::MAX).unwrap()).unwrap();
    let args = ["SET", "b", "2"].map(|word| word.as_bytes().to_vec()).to_vec();
    assert_eq!(feed.read(), Ok(Some(Change { db: 7, args, end: source.log().end() })));
    // It takes in another cut: its log goes on elsewhere.
    copy.load_cut(&mut Engine::default().begin_cut().unwrap()).unwrap();
    assert_eq!(feed.read(), Err(LogGone::Ended));
}
