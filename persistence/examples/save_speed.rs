//! Times saving an engine of random values to a folder, and loading it again:
//! `cargo run --release -p sluice-persistence --example save_speed [folder] [keys] [bytes-a-value] [compression yes|no]`

use sluice_engine::Engine;
use sluice_persistence::storage::{Disk, Storage};
use sluice_persistence::{LoadOptions, SaveOptions, load, save};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |arg| arg.parse());
    let (keys, size) = (number(1, 1_000_000)?, number(2, 512)?);
    let compression = args.get(3).is_none_or(|arg| arg == "yes");

    let mut x = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    })
    .take((1 << 20) + size)
    .collect();
    let engine = Engine::default();
    let mut loader = engine.loader();
    for n in 0..keys {
        let at = n.wrapping_mul(7919) % (noise.len() - size);
        loader.string(0, format!("key:{n:012}").as_bytes(), &noise[at..at + size], None, 0);
    }
    loader.finish();

    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let path = folder.join(format!("save-speed-{}.rdb", std::process::id()));
    let options = SaveOptions { compression, ..SaveOptions::default() };
    for _ in 0..3 {
        let saved = save(&engine, &storage, &path, &options, &mut |_| ControlFlow::Continue(()))?;
        let seconds = saved.elapsed.as_secs_f64();
        println!(
            "saved {} keys, {} MB in {:.3} s: {:.0} MB/s; the storage took {:.3} s",
            saved.keys,
            saved.bytes / 1_000_000,
            seconds,
            saved.bytes as f64 / 1e6 / seconds,
            saved.storage.as_secs_f64()
        );
    }
    for _ in 0..3 {
        let other = Engine::default();
        let mut loader = other.loader();
        let loaded = load(&mut loader, &storage, &path, &LoadOptions::default())?;
        loader.finish();
        let seconds = loaded.elapsed.as_secs_f64();
        println!(
            "loaded {} keys, {} MB in {:.3} s: {:.0} MB/s, {:.0} ns a key",
            loaded.report.keys,
            loaded.bytes / 1_000_000,
            seconds,
            loaded.bytes as f64 / 1e6 / seconds,
            seconds * 1e9 / loaded.report.keys as f64
        );
    }
    storage.remove(&path)?;
    Ok(())
}
