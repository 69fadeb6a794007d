//! Times the RDB codec alone, on random values in memory:
//! `cargo run --release -p sluice-persistence --example rdb_speed [keys] [bytes-a-value]`

use sluice_persistence::rdb::checksum::Checksum;
use sluice_persistence::rdb::format::value_type;
use sluice_persistence::rdb::source::ReadSource;
use sluice_persistence::rdb::{EncoderOptions, Key, RdbDecoder, RdbEncoder, RdbVisitor, Refusal};
use std::hint::black_box;
use std::time::Instant;

/// Looks at what it is told, and keeps nothing.
#[derive(Default)]
struct Sink(u64);

impl RdbVisitor for Sink {
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        self.0 += (key.name.len() + value.len()) as u64;
        Ok(())
    }
}

fn timed<T>(what: &str, bytes: usize, keys: usize, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what:<34} {:7.0} MB/s {:7.1} ns/key {:7.1} ms",
        bytes as f64 / seconds / 1e6,
        seconds * 1e9 / keys as f64,
        seconds * 1e3
    );
    result
}

/// Encodes all keys, giving chunks of 1 MB to `consume`.
fn encode(keys: usize, size: usize, noise: &[u8], options: EncoderOptions, mut consume: impl FnMut(&[u8])) {
    let mut encoder = RdbEncoder::new(options);
    let mut chunk = Vec::new();
    for n in 0..keys {
        let at = n.wrapping_mul(7919) % (noise.len() - size);
        let name = format_name(n);
        encoder.key(0, &name, None, 0, value_type::STRING);
        encoder.string(&noise[at..at + size]);
        if encoder.pending() >= 1 << 20 {
            encoder.swap(&mut chunk);
            consume(&chunk);
        }
    }
    consume(&encoder.finish());
}

fn discard(chunk: &[u8]) {
    black_box(chunk);
}

/// `key:` and twelve digits, without the formatting machinery that would be timed along.
fn format_name(mut n: usize) -> [u8; 16] {
    let mut name = *b"key:000000000000";
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    name
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (keys, size) = (args.next().unwrap_or(1_000_000), args.next().unwrap_or(512));
    let mut x = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    })
    .take((1 << 20) + size)
    .collect();

    let bare = EncoderOptions { checksum: false, ..Default::default() };
    let mut rdb = Vec::with_capacity(keys * (size + 32) + 1024);
    encode(keys, size, &noise, EncoderOptions::default(), |chunk| rdb.extend_from_slice(chunk));
    let bytes = rdb.len();
    println!("{keys} keys of {size} random bytes, {} MB", bytes / 1_000_000);

    let mut copy = Vec::with_capacity(1 << 20);
    timed("memcpy in 1 MB chunks", bytes, keys, || {
        for chunk in rdb.chunks(1 << 20) {
            copy.clear();
            copy.extend_from_slice(chunk);
            black_box(&copy);
        }
    });
    timed("checksum", bytes, keys, || {
        let mut checksum = Checksum::new();
        rdb.chunks(1 << 20).for_each(|chunk| checksum.update(chunk));
        black_box(checksum.value())
    });
    timed("encode", bytes, keys, || encode(keys, size, &noise, bare.clone(), discard));
    timed("encode, checksum", bytes, keys, || {
        encode(keys, size, &noise, EncoderOptions::default(), discard);
    });
    timed("encode, try to compress", bytes, keys, || {
        let options = EncoderOptions { compression: true, ..bare.clone() };
        encode(keys, size, &noise, options, discard);
    });
    let decode = |what: &str, checksum: bool| {
        timed(what, bytes, keys, || {
            RdbDecoder::with_checksum(&rdb[..], checksum).run(&mut Sink::default()).expect("we wrote it")
        });
    };
    decode("decode in place", false);
    decode("decode in place, checksum", true);
    timed("decode a stream, checksum", bytes, keys, || {
        RdbDecoder::new(ReadSource::new(&rdb[..])).run(&mut Sink::default()).expect("we wrote it");
    });
}
