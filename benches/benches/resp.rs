//! The request parser, and whole commands through an engine without a socket.
//!
//! `cargo bench -p sluice-bench --bench resp`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::Engine;
use sluice_engine::internals::{
    Request,
    resp::{Parsed, parse},
};
use std::hint::black_box;

const MAX_BULK: usize = 512 << 20;
/// Commands of one read at the yardstick's pipeline depth.
const PIPELINE: u64 = 16;

fn encoded(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn pipeline(command: impl Fn(u64) -> Vec<u8>) -> Vec<u8> {
    (0..PIPELINE).flat_map(command).collect()
}

fn get(n: u64) -> Vec<u8> {
    encoded(&[b"GET", format!("key:{n:012}").as_bytes()])
}

fn set(n: u64) -> Vec<u8> {
    encoded(&[b"SET", format!("key:{n:012}").as_bytes(), &[7; 64]])
}

/// Calls `each` with the arguments and the bytes of every command.
fn for_each_command(mut input: &[u8], mut each: impl FnMut(&[&[u8]], &[u8])) {
    while let Parsed::Command { args, used, .. } = parse(input, MAX_BULK, true) {
        each(&args, &input[..used]);
        input = &input[used..];
    }
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse a pipeline of 16");
    let inline = pipeline(|n| format!("GET key:{n:012}\r\n").into_bytes());
    for (name, input) in [("GET", pipeline(get)), ("SET", pipeline(set)), ("GET, inline", inline)] {
        group.throughput(Throughput::Elements(PIPELINE));
        group.bench_function(name, |b| {
            b.iter(|| for_each_command(black_box(&input), |args, _| _ = black_box(args.len())));
        });
    }
    group.finish();
}

fn executing(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse and run a pipeline of 16");
    for (name, log) in [("GET", false), ("SET", false), ("SET, logged", true)] {
        let engine = Engine::default();
        if log {
            engine.log().activate();
        }
        let mut session = engine.session();
        let input = if name == "GET" { pipeline(get) } else { pipeline(set) };
        let mut out = Vec::with_capacity(1 << 16);
        let mut run = |input: &[u8]| {
            out.clear();
            for_each_command(input, |args, raw| {
                let Some(row) = engine.lookup(args[0]) else { return };
                let request = Request { args, raw: Some(raw) };
                engine.call(&mut session, row, request, &mut out);
            });
            black_box(out.len());
        };
        run(&pipeline(set));
        group.throughput(Throughput::Elements(PIPELINE));
        group.bench_function(name, |b| b.iter(|| run(black_box(&input))));
    }
    group.finish();
}

criterion_group!(benches, parsing, executing);
criterion_main!(benches);
