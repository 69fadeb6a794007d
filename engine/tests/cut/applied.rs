//! Followers by the front door: a cut taken in by `load_cut`, then the log by `apply`, in pieces that know no commands.

use crate::random::Random;
use crate::replay::Replay;
use crate::workload::Workload;
use crate::{DATABASES, Load, engine, seeds};
use sluice_engine::{ApplyError, Engine, Error, Follower, LogReader};

/// Applies what the log has now, split anywhere.
fn follow(engine: &Engine, follower: &mut Follower, log: &mut LogReader, random: &mut Random) {
    let end = log.offset() + log.lag();
    while log.offset() < end {
        let most = [1, 7, 300, 70_000][random.below(4)];
        assert_eq!(follower.offset(), log.offset());
        let bytes = log.read(most).expect("it goes on");
        engine.apply(follower, &bytes).expect("a log is applied");
    }
}

#[test]
fn a_follower_and_its_follower_are_equal_to_their_source_whatever_was_written_meanwhile() {
    check(Workload::of_every_type, 4_000);
    check(Workload::of_huge_values, 800);
}

fn check(workload: fn(Random) -> Workload, commands: usize) {
    for seed in seeds(2) {
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let source = engine([1, 4, 16][random.below(3)]);
        // What is not of the cut goes when it has come.
        let (copy, copy_of_copy) = (engine(4), engine(1));
        copy.db(2).set("left over", "1").unwrap();
        copy.log().activate();
        copy.log().set_backlog_size(1 << 30);
        let load = Load::start(&source, seed, 2, commands, workload);
        load.let_write(30_000);

        let (mut cut, mut log) = source.begin_cut_with_log().unwrap();
        let mut follower = copy.load_cut(&mut cut).expect("it has the databases");
        drop(cut);
        load.let_write(20_000);
        follow(&copy, &mut follower, &mut log, &mut random);
        let (mut cut, mut copys_log) = copy.begin_cut_with_log().unwrap();
        let mut second = copy_of_copy.load_cut(&mut cut).unwrap();
        while load.is_running() {
            load.let_write(random.below(20_000) as u64);
            follow(&copy, &mut follower, &mut log, &mut random);
            follow(&copy_of_copy, &mut second, &mut copys_log, &mut random);
        }
        let live = load.join();
        follow(&copy, &mut follower, &mut log, &mut random);
        assert_eq!(follower.applied(), source.log().end());
        assert_eq!(copy.log().end(), source.log().end(), "a follower's log is its source's");
        live.assert_equal(&Replay::new(copy.clone()).state(), &format!("seed {seed}: a follower"));

        follow(&copy_of_copy, &mut second, &mut copys_log, &mut random);
        assert_eq!(second.applied(), source.log().end());
        live.assert_equal(&Replay::new(copy_of_copy.clone()).state(), &format!("seed {seed}: its follower"));
    }
}

#[test]
fn an_error_tells_the_offset_of_the_command_and_stays() {
    let engine = Engine::builder().databases(DATABASES).build();
    let good: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let fails = |bad: &[u8]| {
        let mut follower = engine.follower(1_000, 0);
        let stream = [good, bad].concat();
        let mut result = Ok(());
        for byte in stream.chunks(1).chain([good]) {
            result = result.and_then(|()| engine.apply(&mut follower, byte));
        }
        let error = result.unwrap_err();
        assert_eq!(follower.applied(), 1_000 + good.len() as u64, "all before it is applied");
        assert_eq!(engine.apply(&mut follower, good), Err(error.clone()));
        error
    };
    let offset = 1_000 + good.len() as u64;
    let malformed = |e: ApplyError| matches!(e, ApplyError::Malformed { offset: at, .. } if at == offset);
    for bytes in [
        &b"PING\r\n"[..],
        b"*1\r\n$x\r\n",
        b"*0\r\n",
        b"\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$4\r\nPINGxx",
    ] {
        assert!(malformed(fails(bytes)), "{}", bytes.escape_ascii());
    }
    let unknown = ApplyError::Unknown { offset, name: "NOPE".into() };
    assert_eq!(fails(b"*1\r\n$4\r\nNOPE\r\n"), unknown);
    let refused = |name: &str, error| ApplyError::Refused { offset, name: name.into(), error };
    let select = fails(b"*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n");
    assert_eq!(select, refused("SELECT", Error::NoSuchDatabase));
    assert_eq!(
        select.to_string(),
        format!(
            "the command 'SELECT' at offset {offset} of the log was refused: ERR DB index is out of range"
        )
    );
    assert_eq!(fails(b"*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"), refused("INCR", Error::NotInteger));
    let block = b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n";
    let in_block = {
        let mut follower = engine.follower(0, 0);
        engine.apply(&mut follower, good).unwrap();
        engine.apply(&mut follower, block).unwrap_err()
    };
    let offset = (good.len() + block.len() - b"*1\r\n$4\r\nEXEC\r\n".len()) as u64;
    assert_eq!(in_block, ApplyError::Refused { offset, name: "EXEC".into(), error: Error::NotInteger });
}

#[test]
fn an_engine_that_was_promoted_applies_nothing_more() {
    let (source, copy) = (Engine::default(), Engine::default());
    let (mut cut, mut log) = source.begin_cut_with_log().unwrap();
    let mut follower = copy.load_cut(&mut cut).unwrap();
    source.db(0).set("before", "1").unwrap();
    copy.apply(&mut follower, &log.read(usize::MAX).unwrap()).unwrap();
    copy.set_replica(false);
    let offset = follower.applied();
    source.db(0).set("after", "1").unwrap();
    let refused = copy.apply(&mut follower, &log.read(usize::MAX).unwrap());
    assert_eq!(refused, Err(ApplyError::Promoted { offset }));
    assert_eq!(copy.db(0).get_many(&["before", "after"]), [Some(b"1".to_vec()), None]);
}

#[test]
fn a_cut_with_a_database_too_many_changes_nothing() {
    let (source, small) = (Engine::default(), Engine::builder().databases(1).build());
    source.db(3).set("far", "1").unwrap();
    source.db(0).set("near", "1").unwrap();
    small.db(0).set("mine", "1").unwrap();
    let mut cut = source.begin_cut().unwrap();
    assert_eq!(small.load_cut(&mut cut).unwrap_err(), Error::NoSuchDatabase);
    assert_eq!(small.db(0).get_many(&["mine", "near"]), [Some(b"1".to_vec()), None]);
}

#[test]
fn values_that_are_carried_and_what_is_kept_beside_the_keys_come_along() {
    let source = Engine::default();
    source.carry(b"libraries".as_slice());
    let mut loader = source.loader();
    for (key, len) in [("small", 10), ("large", 300_000)] {
        loader.value(0, key.as_bytes(), crate::rebuild::opaque(vec![7; len]), None, 0);
    }
    loader.finish();
    let copy = Engine::default();
    copy.load_cut(&mut source.begin_cut().unwrap()).unwrap();
    assert_eq!(&*copy.carried(), b"libraries");
    for key in ["small", "large"] {
        let value = |engine: &Engine| {
            engine.exclusive(0, &mut Vec::new(), |cx| {
                let entry = cx.keys.look(key.as_bytes()).expect("it is there");
                format!("{:?}", entry.payload())
            })
        };
        assert_eq!(value(&copy), value(&source));
    }
}
