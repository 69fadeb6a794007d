//! The log of effects: appending, and reading behind the writers.
//!
//! `cargo bench -p sluice-bench --bench log`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::Log;
use std::hint::black_box;
use std::sync::Arc;

/// `SET key:NNNNNNNNNNNN` with a value of 64 bytes, as it stands in the log.
fn effect() -> Vec<u8> {
    let mut raw = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$64\r\n".to_vec();
    raw.extend_from_slice(&[b'x'; 64]);
    raw.extend_from_slice(b"\r\n");
    raw
}

fn append(c: &mut Criterion) {
    let raw = effect();
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    group.bench_function("append a SET", |b| {
        let log = Arc::new(Log::default());
        log.activate();
        b.iter(|| log.append_raw(black_box(&raw)));
    });
    for readers in [1, 4] {
        group.bench_function(format!("append a SET, {readers} readers keeping up"), |b| {
            let log = Arc::new(Log::default());
            log.activate();
            let mut readers: Vec<_> =
                (0..readers).map(|_| log.reader(log.end()).expect("the end is always there")).collect();
            let mut n = 0u32;
            b.iter(|| {
                log.append_raw(black_box(&raw));
                n += 1;
                // As a link does: a batch at a time.
                if n.is_multiple_of(64) {
                    for reader in &mut readers {
                        while !black_box(reader.read(64 << 10)).unwrap().is_empty() {}
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
