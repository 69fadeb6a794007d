//! How much CPU a full sync's sender costs: 540 MB from memory over loopback, by each transport.
//!
//! `cargo run --release -p sluice-transport --example sender_speed [megabytes] [replicas]`

use bytes::Bytes;
use sluice_persistence::storage::{Disk, Storage};
use sluice_transport::fullsync::pool::{BufferPool, CHUNK_BYTES};
use sluice_transport::fullsync::uring::Uring;
use sluice_transport::fullsync::{
    ChunkSource, CutError, SyncControl, SyncPeer, SyncReport, WindowLimits, disk, diskless,
};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// A source as fast as memcpy: the encoder at its best.
struct Memory {
    left: usize,
    block: Vec<u8>,
    pool: BufferPool,
}

impl ChunkSource for Memory {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, CutError> {
        if self.left == 0 {
            return Ok(None);
        }
        let n = self.left.min(CHUNK_BYTES);
        let from = (self.left / CHUNK_BYTES * 4096) % (self.block.len() - n + 1);
        let mut buf = self.pool.take();
        buf.extend_from_slice(&self.block[from..from + n]);
        self.left -= n;
        Ok(Some(buf.freeze()))
    }
}

fn replicas(n: usize) -> std::io::Result<(Vec<SyncPeer>, Vec<JoinHandle<u64>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (mut peers, mut readers) = (Vec::new(), Vec::new());
    for id in 0..n as u64 {
        let socket = TcpStream::connect(listener.local_addr()?)?.into();
        let mut far = listener.accept()?.0;
        peers.push(SyncPeer { id, socket });
        readers.push(std::thread::spawn(move || {
            let (mut total, mut buf) = (0, vec![0; 256 << 10]);
            while let Ok(n @ 1..) = far.read(&mut buf) {
                total += n as u64;
            }
            total
        }));
    }
    Ok((peers, readers))
}

fn show(report: &SyncReport, readers: Vec<JoinHandle<u64>>) {
    let received: u64 = readers.into_iter().filter_map(|r| r.join().ok()).sum();
    println!(
        "{:9} {:5} ms  cpu {:4} ms  first byte {:3} ms  peak window {:5} KB  received {:5} MB  zero-copy {} copied {}",
        report.transport.word(),
        report.duration_ms,
        report.cpu_ms,
        report.first_byte_ms,
        report.peak_queue_bytes >> 10,
        received / 1_000_000,
        report.zero_copy_sends,
        report.copied_sends
    );
}

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let len = args.next().unwrap_or(540) * 1_000_000;
    let n = args.next().unwrap_or(1);
    let source = || Memory { left: len, block: vec![7; 8 << 20], pool: BufferPool::new() };
    let (control, limits) = (SyncControl::new(), WindowLimits::default());
    for _ in 0..3 {
        let (peers, readers) = replicas(n)?;
        show(&diskless::send(&mut source(), peers, limits, &control, &mut drop), readers);
        match Uring::new() {
            Ok(uring) => {
                let (peers, readers) = replicas(n)?;
                show(&uring.send(&mut source(), peers, limits, &control, &mut drop), readers);
            }
            Err(e) => println!("{e}"),
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("staged.rdb");
    let mut file = Disk.create(&path)?;
    let block = vec![7; 1 << 20];
    for _ in 0..len >> 20 {
        file.write_all(&block)?;
    }
    let staged = disk::StagedFile { file: Disk.open(&path)?, staged_ms: 0 };
    let (peers, readers) = replicas(n)?;
    show(&disk::send(&staged, peers, limits.timeout_ms, &control, &mut drop), readers);
    Ok(())
}
