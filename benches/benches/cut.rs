//! The forkless snapshot: beginning one, walking a keyspace, and what a write pays meanwhile.
//!
//! `cargo bench -p sluice-bench --bench cut`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::internals::Request;
use sluice_engine::{CutSink, Element, Engine, EntryMeta, HugeKind, Step, ValueView};
use std::hint::black_box;

const KEYS: u64 = 200_000;
const SIZE: usize = 512;
const FIELDS: u64 = 200_000;
/// The sink is emptied at this size, as a socket's window would.
const WINDOW: usize = 256 << 10;

/// Copies keys and values and throws them away: the least any consumer does.
#[derive(Default)]
struct Copies(Vec<u8>);

impl CutSink for Copies {
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        self.0.extend_from_slice(meta.key);
        if let ValueView::Str(bytes) = value {
            self.0.extend_from_slice(bytes);
        }
    }
    fn begin_huge(&mut self, meta: &EntryMeta<'_>, _: HugeKind, _: u64) {
        self.0.extend_from_slice(meta.key);
    }
    fn element(&mut self, element: Element<'_>) {
        match element {
            Element::Field(field, value) => {
                self.0.extend_from_slice(field);
                self.0.extend_from_slice(value);
            }
            Element::Member(member) | Element::Scored(member, _) => self.0.extend_from_slice(member),
            _ => {}
        }
    }
    fn end_huge(&mut self) {}
    fn pending(&self) -> usize {
        self.0.len()
    }
}

/// Walks a whole cut; returns the bytes it delivered.
fn walk(engine: &Engine) -> u64 {
    let mut cut = engine.begin_cut().expect("one cut at a time");
    let mut sink = Copies::default();
    let mut bytes = 0;
    loop {
        let step = cut.step(&mut sink, WINDOW);
        bytes += black_box(&sink.0).len() as u64;
        sink.0.clear();
        if step == Step::Done {
            return bytes;
        }
    }
}

fn strings() -> Engine {
    let engine = Engine::default();
    let mut loader = engine.loader();
    for n in 0..KEYS {
        loader.string(0, &key(n), &[7; SIZE], None, 0);
    }
    loader.finish();
    engine
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

/// Runs commands one after the other; panics on an error, so that no bench measures refusals.
fn runner(engine: &Engine) -> impl FnMut(&[&[u8]]) + use<> {
    let engine = engine.clone();
    let mut session = engine.session();
    let mut out = Vec::new();
    move |args| {
        let row = engine.lookup(args[0]).expect("a known command");
        out.clear();
        engine.call(&mut session, row, Request { args, raw: None }, &mut out);
        assert_ne!(out.first(), Some(&b'-'), "{}", String::from_utf8_lossy(&out));
    }
}

fn walking(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    group.sample_size(20);
    let engine = strings();
    group.throughput(Throughput::Bytes(walk(&engine)));
    group.bench_function("walk 200,000 strings of 512 bytes", |b| b.iter(|| walk(&engine)));

    let engine = Engine::default();
    let mut run = runner(&engine);
    for n in 0..FIELDS {
        run(&[b"HSET", b"hash", format!("field:{n:010}").as_bytes(), &[7; 32]]);
    }
    group.throughput(Throughput::Bytes(walk(&engine)));
    group.bench_function("walk a hash of 200,000 fields", |b| b.iter(|| walk(&engine)));
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut of 200,000 strings");
    let engine = strings();
    let mut run = runner(&engine);
    group.bench_function("begin and drop", |b| b.iter(|| drop(engine.begin_cut())));

    let mut n = 0u64;
    let mut overwrite = move || {
        n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        run(&[b"SET", &key(n % KEYS), &[7; SIZE]]);
    };
    group.bench_function("SET, no cut", |b| b.iter(&mut overwrite));
    group.throughput(Throughput::Elements(1000));
    // Each of these writes is the first to its key since the cut began, mostly: it hands over the value as it was.
    group.bench_function("1000 SETs handing over the values before", |b| {
        b.iter_batched_ref(
            || engine.begin_cut().expect("one cut at a time"),
            |_cut| (0..1000).for_each(|_| overwrite()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, walking, writing);
criterion_main!(benches);
