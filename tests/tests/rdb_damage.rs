//! Damaged files stop the start with an error that names the offset, and are left as they are; a full disk fails a
//! save and leaves the old file.

use sluice_tests::data::{Random, every_encoding};
use sluice_tests::server::write;
use sluice_tests::small_disk::SmallDisk;
use sluice_tests::{Program, Server, Start};
use std::path::Path;

/// A good file with every encoding.
fn sample() -> Vec<u8> {
    let server = Server::sluice("--rdbcompression no");
    let small: Vec<_> =
        every_encoding().into_iter().filter(|args| args.iter().map(Vec::len).sum::<usize>() < 400).collect();
    server.client().pipeline(&small);
    server.say("SAVE");
    std::fs::read(server.file("dump.rdb")).unwrap()
}

/// Starts on `bytes` and checks that this is refused, told with an offset, and changes nothing.
#[track_caller]
fn refused(bytes: &[u8], what: &str) {
    let start = Start::new(Program::Sluice, "");
    let path = start.folder().join("dump.rdb");
    let folder = start.folder().to_owned();
    write(&path, bytes);
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut server = start.spawn();
    let status = server.wait_for_end();
    let log = server.log();
    assert_eq!(status.code(), Some(1), "{what}: {log}");
    assert!(log.to_lowercase().contains("offset") || log.contains("at byte"), "{what}: no offset in\n{log}");
    assert!(log.contains("dump.rdb"), "{what}: no file in\n{log}");
    assert!(std::fs::read(&path).unwrap() == bytes, "{what}: the file changed");
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before, "{what}: the file was written");
    assert_eq!(files(&folder), ["dump.rdb", "log"], "{what}: files left behind");
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn truncated_files_are_refused() {
    let good = sample();
    refused(b"", "an empty file");
    for len in
        [1, 5, 8, 9, 10, 50, good.len() / 3, good.len() / 2, good.len() - 9, good.len() - 8, good.len() - 1]
    {
        refused(&good[..len], &format!("cut at {len} of {}", good.len()));
    }
}

#[test]
fn flipped_bits_are_refused() {
    let good = sample();
    let mut random = Random(4);
    for _ in 0..20 {
        let bit = 9 * 8 + random.below((good.len() as u64 - 9) * 8) as usize;
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        refused(&bad, &format!("bit {bit} flipped"));
    }
}

#[test]
fn absurd_lengths_and_headers_are_refused_without_taking_memory() {
    let after = |tail: &[u8]| [b"REDIS0010", tail].concat();
    let huge = [0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let big32 = [0x80, 0xff, 0xff, 0xff, 0xff];
    let with = |head: &[u8], length: &[u8]| after(&[head, length, b"abc"].concat());
    refused(b"NOTREDIS0", "no magic");
    refused(b"REDIS9999\xff", "a version from the future");
    refused(b"REDISabcd\xff", "no version");
    refused(&with(&[0x00], &huge), "a key of 2^63 bytes");
    refused(&with(&[0x00], &big32), "a key of 4 GB");
    refused(&with(&[0x00, 0x01, b'k'], &huge), "a string of 2^63 bytes");
    for (kind, name) in [
        (1u8, "list"),
        (2, "set"),
        (4, "hash"),
        (5, "zset"),
        (18, "quicklist"),
        (11, "intset"),
        (16, "listpack"),
    ] {
        refused(&with(&[kind, 0x01, b'k'], &huge), &format!("a {name} of 2^63 elements"));
        refused(&with(&[kind, 0x01, b'k'], &big32), &format!("a {name} of 2^32 elements"));
    }
    refused(&with(&[0xfb], &huge), "a table of 2^63 keys, then nothing");
    refused(&with(&[0xfe], &huge), "database 2^63");
    refused(
        &after(&[0x00, 0xc3, 0x05, 0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        "LZF to 2^63 bytes",
    );
    refused(&after(&[0x2a, 0x01, b'k', 0x01, b'v']), "an unknown type");
    refused(&after(&[0xfe, 0x63, 0x00, 0x01, b'k', 0x01, b'v']), "database 99 of 16");
}

#[test]
fn a_disk_that_is_full_fails_save_and_leaves_the_old_file() {
    let start = Start::new(Program::Sluice, "--enable-protected-configs yes");
    let small = SmallDisk::mount(&start.folder().join("small"), "1m");
    // Without a mount, a limit on the size of files serves: the write fails all the same.
    let start = if small.is_some() { start } else { start.after("ulimit -f 1000; trap '' XFSZ") };
    let folder = small.as_ref().map_or(start.folder(), SmallDisk::path).to_owned();
    let server = start.up();
    let mut c = server.client();
    c.say(&format!("CONFIG SET dir {}", folder.display()));
    c.say("SET small 1");
    c.say("SAVE");
    let path = folder.join("dump.rdb");
    let good = std::fs::read(&path).unwrap();

    sluice_tests::data::bulk(&mut c, 2000, 1000);
    let error = c.ask("SAVE");
    assert!(error.is_error(), "{error:?}");
    assert!(std::fs::read(&path).unwrap() == good, "the old file is intact");
    server.alive();
    c.say("BGSAVE");
    server.reports("persistence", "rdb_bgsave_in_progress", "0");
    server.reports("persistence", "rdb_last_bgsave_status", "err");
    assert!(std::fs::read(&path).unwrap() == good, "the old file is intact");
    let reason = if small.is_some() { "No space left on device" } else { "File too large" };
    assert!(server.log().contains(reason), "{}", server.log());
    assert!(files(&folder).iter().all(|f| !f.starts_with("temp-")), "no leftovers: {:?}", files(&folder));

    // With save points, a failed save stops the writes until one succeeds.
    c.run(&["CONFIG", "SET", "save", "3600 1"]);
    assert!(c.ask("SET more 1").text().starts_with("MISCONF Redis is configured to save RDB snapshots"));
    assert_eq!(c.say("GET small").text(), "1");
    c.say("CONFIG SET stop-writes-on-bgsave-error no");
    c.say("FLUSHALL");
    c.say("SET small 2");
    c.say("SAVE");
    c.say("CONFIG SET stop-writes-on-bgsave-error yes");
    c.say("SET small 3");
    assert!(std::fs::read(&path).unwrap() != good);
}
