//! Values that are carried: every command of another type refuses them, every command of keys takes them.

use sluice_engine::internals::{Opaque, TypeName, Value};
use sluice_engine::{Engine, ReplyValue, ValueView};

fn value(name: &str, bytes: Vec<u8>) -> Value {
    Value::Opaque(Opaque::new(TypeName::new(name).unwrap(), bytes).unwrap())
}

/// An engine with a stream at `s`, a module's value at `m` and a string.
fn engine() -> Engine {
    let engine = Engine::builder().shards(4).databases(4).build();
    let mut loader = engine.loader();
    assert!(loader.value(0, b"s", value("stream", vec![19, 1, 2, 3]), None, 0));
    assert!(loader.value(0, b"m", value("hellotype", vec![7, 9, 9]), None, 0));
    assert!(loader.string(0, b"text", b"t", None, 0));
    loader.finish();
    engine
}

fn ask(engine: &Engine, line: &str) -> ReplyValue {
    let words: Vec<&str> = line.split(' ').collect();
    engine.execute(&words).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn held(engine: &Engine, db: u32, key: &str) -> Option<Vec<u8>> {
    engine.exclusive(db, &mut Vec::new(), |cx| {
        let entry = cx.keys.peek(key.as_bytes())?;
        let Some(ValueView::Opaque(value)) = ValueView::of(entry) else { panic!("{key} is of another type") };
        Some(value.as_bytes().to_vec())
    })
}

#[test]
fn it_has_the_type_and_the_encoding_that_redis_tells() {
    let engine = engine();
    for (line, said) in [
        ("TYPE s", "stream"),
        ("TYPE m", "hellotype"),
        ("OBJECT ENCODING s", "stream"),
        ("OBJECT ENCODING m", "raw"),
    ] {
        assert_eq!(
            format!("{:?}", ask(&engine, line)),
            format!("{:?}", status_or_bulk(line, said)),
            "{line}"
        );
    }
    for (name, key) in [("stream", "s"), ("STREAM", "s"), ("hellotype", "m")] {
        let ReplyValue::Array(items) = ask(&engine, &format!("SCAN 0 COUNT 100 TYPE {name}")) else {
            panic!()
        };
        assert_eq!(items[1], ReplyValue::Array(vec![ReplyValue::Bytes(key.into())]), "{name}");
    }
}

fn status_or_bulk(line: &str, said: &str) -> ReplyValue {
    if line.starts_with("TYPE") { ReplyValue::Status(said.into()) } else { ReplyValue::Bytes(said.into()) }
}

#[test]
fn commands_of_other_types_refuse_it() {
    let engine = engine();
    for line in [
        "GET s",
        "APPEND s x",
        "INCR s",
        "SETRANGE s 1 x",
        "GETDEL s",
        "STRLEN s",
        "SETBIT s 1 1",
        "LPUSH s x",
        "LPOP s",
        "LRANGE s 0 1",
        "LMOVE s l LEFT LEFT",
        "HSET s f v",
        "HGETALL s",
        "HINCRBY s f 1",
        "SADD s x",
        "SMEMBERS s",
        "SUNION s text",
        "SINTERSTORE d s",
        "ZADD s 1 x",
        "ZRANGE s 0 1",
        "ZUNIONSTORE d 1 s",
        "ZDIFF 1 s",
        "SORT s",
        "SORT s STORE d",
        "HRANDFIELD s",
        "SRANDMEMBER s",
        "SPOP s",
        "ZPOPMIN s",
        "GETEX s",
        "SET s x GET",
    ] {
        for line in [line.to_string(), line.replace(" s", " m")] {
            let words: Vec<&str> = line.split(' ').collect();
            let refused = engine.execute(&words).expect_err(&line).to_string();
            assert!(refused.contains("WRONGTYPE"), "{line}: {refused}");
        }
    }
    assert_eq!(held(&engine, 0, "s").unwrap(), [19, 1, 2, 3]);
    assert_eq!(held(&engine, 0, "m").unwrap(), [7, 9, 9]);
}

#[test]
fn commands_of_keys_take_it() {
    let engine = engine();
    let int = |n| ReplyValue::Int(n);
    assert_eq!(ask(&engine, "EXISTS s m"), int(2));
    assert_eq!(ask(&engine, "PEXPIREAT s 4102444800000"), int(1));
    assert_eq!(ask(&engine, "COPY s copy"), int(1));
    ask(&engine, "RENAME s moved");
    assert_eq!(ask(&engine, "PEXPIRETIME moved"), int(4_102_444_800_000));
    assert_eq!(ask(&engine, "MOVE moved 2"), int(1));
    ask(&engine, "SWAPDB 2 3");
    assert_eq!(held(&engine, 3, "moved").unwrap(), [19, 1, 2, 3]);
    assert_eq!(held(&engine, 0, "copy").unwrap(), [19, 1, 2, 3]);
    assert_eq!(ask(&engine, "PERSIST copy"), int(1));
    assert_eq!(ask(&engine, "TOUCH copy m"), int(2));
    assert_eq!(ask(&engine, "OBJECT REFCOUNT m"), int(1));
    assert_eq!(ask(&engine, "DEL copy"), int(1));
    assert_eq!(ask(&engine, "UNLINK m"), int(1));
    assert_eq!(ask(&engine, "DBSIZE"), int(1));
    ask(&engine, "SET text other");
}
