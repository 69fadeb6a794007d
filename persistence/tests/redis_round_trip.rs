//! Against the real redis-server: what it writes we read, what we write it reads.

mod common;

use common::redis::{self, Redis, Reply, fill, fill_streams};
use common::*;
use sluice_engine::{CutSink, EntryMeta, ValueView};
use sluice_persistence::rdb::format::value_type;
use sluice_persistence::rdb::*;

/// The content of a running redis, asked for key by key.
fn content(redis: &mut Redis) -> Keys {
    let mut keys = Keys::new();
    let texts = |reply: Reply| reply.array().into_iter().map(Reply::text).collect::<Vec<_>>();
    let pairs = |items: Vec<Vec<u8>>| {
        items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>()
    };
    for db in [0, 5] {
        redis.say(&format!("SELECT {db}"));
        for name in texts(redis.say("KEYS *")) {
            let kind = redis.run(&[b"TYPE", &name]).text();
            let plain = match &kind[..] {
                b"string" => Plain::Str(redis.run(&[b"GET", &name]).text()),
                b"list" => Plain::List(texts(redis.run(&[b"LRANGE", &name, b"0", b"-1"]))),
                b"set" => Plain::Set(texts(redis.run(&[b"SMEMBERS", &name])).into_iter().collect()),
                b"hash" => Plain::Hash(pairs(texts(redis.run(&[b"HGETALL", &name]))).into_iter().collect()),
                b"zset" => Plain::ZSet(
                    pairs(texts(redis.run(&[b"ZRANGE", &name, b"0", b"-1", b"WITHSCORES"])))
                        .into_iter()
                        .map(|(member, score)| (member, String::from_utf8(score).unwrap().parse().unwrap()))
                        .collect(),
                ),
                b"stream" => {
                    let payload = redis.run(&[b"DUMP", &name]).text();
                    Plain::Opaque("stream".into(), payload[..payload.len() - PayloadFooter::BYTES].to_vec())
                }
                other => panic!("{}", other.escape_ascii()),
            };
            let expiry = match redis.run(&[b"PEXPIRETIME", &name]) {
                Reply::Int(-1) => None,
                Reply::Int(at) => Some(at),
                other => panic!("{other:?}"),
            };
            keys.insert((db, name), (plain, expiry));
        }
    }
    redis.say("SELECT 0");
    keys
}

/// Encodes what it is told, in the encodings it came in.
struct Transcoder(RdbEncoder);

impl Transcoder {
    fn key(&mut self, key: &Key<'_>, value_type: u8) {
        let lru = key.freq.map_or(0, u32::from);
        self.0.key(key.db, key.name, key.expire_at_ms, lru, value_type);
    }
}

impl RdbVisitor for Transcoder {
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.key(key, value_type::STRING);
        self.0.string(value);
        Ok(())
    }
    fn int(&mut self, key: &Key<'_>, value: i64) -> Result<(), Refusal> {
        self.key(key, value_type::STRING);
        self.0.int(value);
        Ok(())
    }
    fn packed(&mut self, key: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        let (kind, bytes) = match &value {
            Packed::Opaque(value) => {
                let meta = EntryMeta { db: key.db, key: key.name, expire_at_ms: key.expire_at_ms, lru: 0 };
                self.0.entry(&meta, ValueView::Opaque(value));
                return Ok(());
            }
            Packed::Hash(listpack) => (value_type::HASH_LISTPACK, listpack.as_bytes()),
            Packed::ZSet(listpack) => (value_type::ZSET_LISTPACK, listpack.as_bytes()),
            Packed::Set(intset) => (value_type::SET_INTSET, intset.as_bytes()),
        };
        self.key(key, kind);
        self.0.string(bytes);
        Ok(())
    }
    fn begin(&mut self, key: &Key<'_>, kind: Kind, count: u64) -> Result<(), Refusal> {
        let value_type = match kind {
            Kind::List => value_type::LIST_QUICKLIST_2,
            Kind::Hash => value_type::HASH,
            Kind::Set => value_type::SET,
            Kind::ZSet => value_type::ZSET_2,
        };
        self.key(key, value_type);
        self.0.length(count);
        Ok(())
    }
    fn element(&mut self, element: Element<'_>) -> Result<(), Refusal> {
        match element {
            Element::Item(item) => {
                self.0.length(format::quicklist_node::PLAIN);
                self.0.string(item);
            }
            Element::Node(node) => {
                self.0.length(format::quicklist_node::PACKED);
                self.0.string(node.as_bytes());
            }
            Element::Member(member) => self.0.string(member),
            Element::Field(field, value) => {
                self.0.string(field);
                self.0.string(value);
            }
            Element::Scored(member, score) => {
                self.0.string(member);
                self.0.score(score);
            }
        }
        Ok(())
    }
    fn end(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

#[test]
fn what_redis_saves_we_read_and_what_we_write_redis_loads() {
    if !redis::available("what_redis_saves_we_read_and_what_we_write_redis_loads") {
        return;
    }
    for compression in ["yes", "no"] {
        let mut real = redis::start(None, &["--rdbcompression", compression]).unwrap();
        fill(&mut real);
        fill_streams(&mut real);
        let expected = content(&mut real);
        let digest = real.digest();
        let saved = real.save();
        drop(real);
        let model = decode(&saved).unwrap();
        assert_eq!(model.keys.len(), expected.len());
        for (key, value) in &expected {
            assert_eq!(model.keys.get(key), Some(value), "{}", key.1.escape_ascii());
        }
        assert_eq!(model.aux[&b"redis-bits"[..]], b"64");
        for options in [
            EncoderOptions { compression: true, ..Default::default() },
            EncoderOptions { checksum: false, access: Access::Idle { clock: 7 }, ..Default::default() },
            EncoderOptions {
                access: Access::Freq,
                replication: Some(ReplicationPlace { stream_db: 0, id: "a".repeat(40), offset: 1 << 40 }),
                aof_base: true,
                db_sizes: vec![(0, expected.len() as u64 - 2, 3), (5, 2, 0)],
                used_memory: 1 << 33,
                ..Default::default()
            },
        ] {
            let mut transcoder = Transcoder(RdbEncoder::new(options));
            let mut written = Vec::new();
            let mut decoder = RdbDecoder::new(&saved[..]);
            while decoder.step(&mut transcoder).unwrap() != Step::Done {
                written.extend(transcoder.0.take());
            }
            written.extend(transcoder.0.finish());
            assert_eq!(decode(&written).unwrap().keys, expected);
            redis::check(&written).unwrap();
            let mut real = redis::start(Some(&written), &[]).expect("redis-server loads what we wrote");
            assert_eq!(real.digest(), digest);
        }
    }
}

#[test]
fn files_of_a_real_server_cut_or_flipped_anywhere_are_refused() {
    if !redis::available("files_of_a_real_server_cut_or_flipped_anywhere_are_refused") {
        return;
    }
    let mut real = redis::start(None, &[]).unwrap();
    for n in 0..6 {
        real.say(&format!("HSET h f{n} {n}"));
        real.say(&format!("ZADD z {n}.5 m{n}"));
        real.say(&format!("RPUSH l {n} text-of-{n}"));
        real.say(&format!("SADD s {n} m{n}"));
        real.say(&format!("SET k{n} v PX 10000000"));
        real.say(&format!("XADD x {}-0 f v{n}", n + 1));
    }
    real.say("XGROUP CREATE x g 0");
    real.say("XREADGROUP GROUP g c COUNT 3 STREAMS x >");
    let saved = real.save();
    for len in 0..saved.len() {
        assert!(decode(&saved[..len]).is_err(), "cut at {len}");
    }
    let mut flipped = saved.clone();
    for bit in (9 * 8)..saved.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}
