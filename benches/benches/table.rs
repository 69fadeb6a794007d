//! The table every keyspace and every big collection is made of: insert, get, remove.
//!
//! `cargo bench -p sluice-bench --bench table`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::internals::{Entry, Table};
use std::hint::black_box;

const KEYS: u64 = 1_000_000;
/// The keys of the yardstick: 16 bytes, with values of 64.
const VALUE: [u8; 64] = [7; 64];

fn key(n: u64) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

/// An order in which neighbours in time are no neighbours in memory.
fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS
}

fn filled(keys: &[Vec<u8>]) -> Table {
    let mut table = Table::new();
    for key in keys {
        table.insert(Entry::string(key, &VALUE, None));
    }
    table
}

fn table(c: &mut Criterion) {
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let absent: Vec<_> = (KEYS..KEYS + 1000).map(key).collect();
    let mut full = filled(&keys);
    let mut group = c.benchmark_group("table of 1,000,000");
    group.throughput(Throughput::Elements(1));

    let mut n = 0;
    group.bench_function("get", |b| {
        b.iter(|| {
            n += 1;
            black_box(full.get(&keys[scattered(n) as usize]).is_some())
        });
    });
    group.bench_function("get, absent", |b| {
        b.iter(|| {
            n += 1;
            black_box(full.get(&absent[n as usize % absent.len()]).is_some())
        });
    });
    group.bench_function("insert over an entry", |b| {
        b.iter(|| {
            n += 1;
            black_box(full.insert(Entry::string(&keys[scattered(n) as usize], &VALUE, None)))
        });
    });
    group.bench_function("remove and insert again", |b| {
        b.iter(|| {
            n += 1;
            let key = &keys[scattered(n) as usize];
            full.remove(key);
            black_box(full.insert(Entry::string(key, &VALUE, None)))
        });
    });
    group.finish();

    // Growth included: the price of an insert averaged over filling a table from nothing.
    let mut group = c.benchmark_group("table");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("fill with 100,000", |b| {
        b.iter_batched(|| (), |()| filled(&keys[..100_000]), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, table);
criterion_main!(benches);
