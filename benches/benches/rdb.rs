//! The RDB codec in memory: what encoding and decoding cost without a disk or a socket.
//!
//! `cargo bench -p sluice-bench --bench rdb`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::Engine;
use sluice_engine::internals::Loader;
use sluice_persistence::rdb::{
    Element, EncoderOptions, Key, Kind, Packed, RdbDecoder, RdbEncoder, RdbVisitor, Refusal,
};
use std::hint::black_box;

const KEYS: u64 = 100_000;
const SIZE: usize = 512;
/// The type byte of a plain string (RDB format, `RDB_TYPE_STRING`).
const STRING: u8 = 0;
/// A sink takes what is encoded in pieces of about this size.
const TAKE: usize = 64 << 10;

/// Bytes that do not compress.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(SIZE)
    .collect()
}

fn encode(items: &[(Vec<u8>, Vec<u8>)], options: EncoderOptions, mut each: impl FnMut(&[u8])) {
    let mut encoder = RdbEncoder::new(options);
    let mut spare = Vec::new();
    for (name, value) in items {
        encoder.key(0, name, None, 0, STRING);
        encoder.string(value);
        if encoder.pending() >= TAKE {
            encoder.swap(&mut spare);
            each(&spare);
        }
    }
    each(&encoder.finish());
}

/// Takes everything and keeps nothing.
struct Nothing(u64);

impl RdbVisitor for Nothing {
    fn string(&mut self, _: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.0 += value.len() as u64;
        Ok(())
    }
}

/// Loads strings, which is all the benched stream has, into an engine.
struct Strings(Loader);

impl RdbVisitor for Strings {
    fn db_size(&mut self, db: u32, keys: u64, _: u64) {
        self.0.reserve(db, keys as usize);
    }
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.0.string(key.db, key.name, value, key.expire_at_ms, 0);
        Ok(())
    }
    fn int(&mut self, _: &Key<'_>, _: i64) -> Result<(), Refusal> {
        Err("no integers here".into())
    }
    fn packed(&mut self, _: &Key<'_>, _: Packed) -> Result<(), Refusal> {
        Err("no collections here".into())
    }
    fn begin(&mut self, _: &Key<'_>, _: Kind, _: u64) -> Result<(), Refusal> {
        Err("no collections here".into())
    }
    fn element(&mut self, _: Element<'_>) -> Result<(), Refusal> {
        Err("no collections here".into())
    }
}

fn rdb(c: &mut Criterion) {
    let items: Vec<_> = (0..KEYS).map(|n| (format!("key:{n:012}").into_bytes(), value(n))).collect();
    let options = EncoderOptions { db_sizes: vec![(0, KEYS, 0)], ..EncoderOptions::default() };
    let mut stream = Vec::new();
    encode(&items, options.clone(), |chunk| stream.extend_from_slice(chunk));

    let mut group = c.benchmark_group("rdb of 100,000 strings of 512 bytes");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| encode(&items, options.clone(), |chunk| _ = black_box(chunk.len())));
    });
    group.bench_function("encode, no checksum", |b| {
        let options = EncoderOptions { checksum: false, ..options.clone() };
        b.iter(|| encode(&items, options.clone(), |chunk| _ = black_box(chunk.len())));
    });
    group.bench_function("encode, compressing", |b| {
        let options = EncoderOptions { compression: true, ..options.clone() };
        b.iter(|| encode(&items, options.clone(), |chunk| _ = black_box(chunk.len())));
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            let mut seen = Nothing(0);
            RdbDecoder::new(stream.as_slice()).run(&mut seen).expect("the stream was just encoded");
            black_box(seen.0)
        });
    });
    group.bench_function("load into an engine", |b| {
        b.iter_with_large_drop(|| {
            let engine = Engine::default();
            let mut loading = Strings(engine.loader());
            RdbDecoder::new(stream.as_slice()).run(&mut loading).expect("the stream was just encoded");
            assert_eq!(loading.0.finish(), KEYS);
            engine
        });
    });
    group.finish();
}

criterion_group!(benches, rdb);
criterion_main!(benches);
