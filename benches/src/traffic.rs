//! What clients do while a replica is brought up: the probe's requests and the writer's.

use crate::dataset::{BIG_HASHES, Kind, Shape};
use crate::error::Result;
use crate::random::{Blob, Random};
use crate::resp::{self, Client, Reply};
use std::io::Write as _;
use std::sync::Arc;

/// Keys of a given file that are looked at to find some to read and overwrite.
const SAMPLED_KEYS: usize = 10_000;
/// Keys written beside a file that holds no strings.
const FRESH_KEYS: u64 = 1_000;

/// Appends the next request, encoded, each time it is called.
pub(crate) type Commands = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// The two streams of requests.
pub(crate) struct Traffic {
    /// What the probe sends.
    pub(crate) probe: Commands,
    /// What the writer sends.
    pub(crate) writer: Commands,
}

/// The traffic for a dataset that is now loaded in the server behind `client`.
pub(crate) fn over(shape: &Shape, blob: &Arc<Blob>, client: &mut Client) -> Result<Traffic> {
    let (probe, writer) = (Random::new(2), Random::new(3));
    Ok(match shape.kind {
        Kind::Strings | Kind::Tiny => {
            let keys = shape.keys;
            Traffic {
                probe: gets(probe, move |random, key| string_key(key, random.below(keys))),
                writer: sets(writer, blob, shape.size, move |random, key| {
                    string_key(key, random.below(keys))
                }),
            }
        }
        Kind::Mixed => {
            // Every even number is a string (see the dataset).
            let keys = shape.keys.div_ceil(2);
            Traffic {
                probe: gets(probe, move |random, key| string_key(key, random.below(keys) * 2)),
                writer: sets(writer, blob, shape.size, move |random, key| {
                    string_key(key, random.below(keys) * 2)
                }),
            }
        }
        Kind::Bighash => Traffic { probe: hsets(probe, blob, shape), writer: hsets(writer, blob, shape) },
        Kind::File => over_file(shape, blob, client, probe, writer)?,
    })
}

/// A file's keys are not known in advance: some of its strings are read and overwritten, or,
/// when it has none, keys beside it.
fn over_file(
    shape: &Shape,
    blob: &Arc<Blob>,
    client: &mut Client,
    probe: Random,
    writer: Random,
) -> Result<Traffic> {
    let mut found = sample_strings(client)?;
    if found.is_empty() {
        found = (0..FRESH_KEYS).map(|n| format!("sluice-bench:{n}").into_bytes()).collect();
        for key in &found {
            client.command(&[b"SET", key, b""])?;
        }
    }
    let found: Arc<[Vec<u8>]> = found.into();
    let pick = |found: &Arc<[Vec<u8>]>| {
        let found = Arc::clone(found);
        move |random: &mut Random, key: &mut Vec<u8>| {
            key.extend_from_slice(&found[random.below(found.len() as u64) as usize]);
        }
    };
    Ok(Traffic { probe: gets(probe, pick(&found)), writer: sets(writer, blob, shape.size, pick(&found)) })
}

fn sample_strings(client: &mut Client) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let reply = client.command(&[b"SCAN", &cursor, b"COUNT", b"1000", b"TYPE", b"string"])?;
        let Reply::Array(parts) = reply else { return Ok(found) };
        let [Reply::Bulk(Some(next)), Reply::Array(keys)] = parts.as_slice() else { return Ok(found) };
        found.extend(keys.iter().filter_map(|key| match key {
            Reply::Bulk(Some(key)) => Some(key.clone()),
            _ => None,
        }));
        cursor = next.clone();
        if cursor == b"0" || found.len() >= SAMPLED_KEYS {
            return Ok(found);
        }
    }
}

/// The name of string `n` of a generated dataset.
pub(crate) fn string_key(out: &mut Vec<u8>, n: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "key:{n:012}");
}

fn gets(mut random: Random, key: impl Fn(&mut Random, &mut Vec<u8>) + Send + 'static) -> Commands {
    let mut name = Vec::new();
    Box::new(move |out| {
        name.clear();
        key(&mut random, &mut name);
        resp::push(out, &[b"GET", &name]);
    })
}

fn sets(
    mut random: Random,
    blob: &Arc<Blob>,
    size: usize,
    key: impl Fn(&mut Random, &mut Vec<u8>) + Send + 'static,
) -> Commands {
    let blob = Arc::clone(blob);
    let mut name = Vec::new();
    Box::new(move |out| {
        name.clear();
        key(&mut random, &mut name);
        resp::push(out, &[b"SET", &name, blob.value(&mut random, size)]);
    })
}

fn hsets(mut random: Random, blob: &Arc<Blob>, shape: &Shape) -> Commands {
    let (blob, size, fields) = (Arc::clone(blob), shape.size, shape.keys);
    Box::new(move |out| {
        let hash = format!("hash:{}", random.below(BIG_HASHES));
        let field = format!("field:{:010}", random.below(fields));
        resp::push(out, &[b"HSET", hash.as_bytes(), field.as_bytes(), blob.value(&mut random, size)]);
    })
}
