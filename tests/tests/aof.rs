//! The append-only file, from outside: what survives, who else can read it, and what happens when the disk fails.

use sluice_tests::data::{bulk, every_encoding, write_some};
use sluice_tests::small_disk::SmallDisk;
use sluice_tests::{Busy, Program, Reply, Server, Start, peers_here, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ON: &str = "--appendonly yes --auto-aof-rewrite-percentage 0";

/// Another server on the same folder, after this one has ended in an orderly way.
#[track_caller]
fn restart_as(program: Program, server: Server, options: &str) -> Server {
    let dir = server.dir().clone();
    assert!(server.terminate().success());
    Start::new(program, options).dir(&dir).up()
}

/// The same, after SIGKILL.
#[track_caller]
fn restart_after_kill(server: Server, options: &str) -> Server {
    let dir = server.dir().clone();
    server.kill();
    Start::new(Program::Sluice, options).dir(&dir).up()
}

#[track_caller]
fn rewrite(server: &Server) {
    server.say("BGREWRITEAOF");
    rewritten(server);
}

#[track_caller]
fn rewritten(server: &Server) {
    until("the end of the rewrite", || {
        (server.number("persistence", "aof_rewrite_in_progress") == 0
            && server.number("persistence", "aof_rewrite_scheduled") == 0)
            .then_some(())
    });
    assert_eq!(server.info("persistence", "aof_last_bgrewrite_status").as_deref(), Some("ok"));
}

fn folder(server: &Server) -> PathBuf {
    server.file("appendonlydir")
}

fn manifest(server: &Server) -> String {
    std::fs::read_to_string(folder(server).join("appendonly.aof.manifest")).unwrap_or_default()
}

/// The newest incremental file.
fn newest(folder: &Path) -> PathBuf {
    let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest")).expect("manifest");
    let line = manifest.lines().last().expect("a line");
    folder.join(line.split(' ').nth(1).expect("a name"))
}

fn fill(server: &Server, seed: u64) {
    let mut c = server.client();
    c.pipeline(&every_encoding());
    write_some(&mut c, seed, 1500);
}

#[test]
fn an_append_only_file_goes_to_redis_and_comes_back() {
    if !peers_here(&["redis-server", "redis-check-aof"]) {
        return;
    }
    for preamble in ["yes", "no"] {
        let options = format!("{ON} --aof-use-rdb-preamble {preamble}");
        let ours = Server::sluice(&options);
        fill(&ours, 1);
        rewrite(&ours);
        fill(&ours, 2);
        ours.say("SELECT 0");
        let digest = ours.digest();
        let path = folder(&ours).join("appendonly.aof.manifest");

        let theirs = restart_as(Program::Redis, ours, &options);
        assert_eq!(theirs.digest(), digest, "theirs of ours, preamble {preamble}");
        let checked = Command::new("redis-check-aof").arg(&path).output().expect("redis-check-aof");
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(said.ends_with("All AOF files and manifest are valid\n"), "{said}");
        fill(&theirs, 3);
        rewrite(&theirs);
        fill(&theirs, 4);
        let digest = theirs.digest();

        let ours = restart_as(Program::Sluice, theirs, &options);
        assert_eq!(ours.digest(), digest, "ours of theirs, preamble {preamble}");
        fill(&ours, 5);
        let digest = ours.digest();
        let ours = restart_as(Program::Sluice, ours, &options);
        assert_eq!(ours.digest(), digest);
    }
}

#[test]
fn what_always_acknowledges_survives_a_kill() {
    let options = format!("{ON} --appendfsync always");
    let server = Server::sluice(&options);
    let mut c = server.client();
    for n in 0..300 {
        assert_eq!(c.say(&format!("SET k{n} {n}")), Reply::Status("OK".into()));
    }
    c.say("MULTI");
    c.say("INCR counter");
    c.say("RPUSH list a b c");
    c.say("EXEC");
    let digest = server.digest();
    let server = restart_after_kill(server, &options);
    assert_eq!(server.digest(), digest);
}

#[test]
fn what_was_acknowledged_is_in_the_file_under_every_policy() {
    for policy in ["everysec", "no"] {
        let server = Server::sluice(&format!("{ON} --appendfsync {policy} --aof-write-wait 60000"));
        let mut c = server.client();
        let others = Busy::with(&server, |c| {
            c.pipeline(&std::array::from_fn::<_, 5, _>(|_| vec!["INCR", "others"]));
            5
        });
        let file = newest(&folder(&server));
        for n in 0..300 {
            if n == 150 {
                server.say("BGREWRITEAOF");
            }
            c.say(&format!("SET key value:{n}:"));
            let wanted = format!("value:{n}:");
            let holds = |file: &Path| {
                let bytes = std::fs::read(file).unwrap_or_default();
                bytes.windows(wanted.len()).any(|w| w == wanted.as_bytes())
            };
            // In this one, or the one that a rewrite went on in: a base may even have replaced it already.
            assert!(holds(&file) || holds(&newest(&folder(&server))) || n >= 150, "{policy}: {wanted}");
        }
        others.stop();
        let server = restart_after_kill(server, ON);
        assert_eq!(server.say("GET key"), "value:299:".into(), "{policy}");
    }
}

#[test]
fn a_write_that_the_disk_holds_up_keeps_replies_no_longer_than_told() {
    // Every operation on files takes longer than anything else here.
    let slow = "--storage-throttle-latency 1000000";
    let server = Server::sluice(&format!("{ON} --appendfsync no --aof-write-wait 20"));
    // The first base is written before the disk is slow.
    let dir = server.dir().clone();
    assert!(server.terminate().success());
    let server = Start::new(Program::Sluice, &format!("{ON} --appendfsync no --aof-write-wait 20 {slow}"))
        .dir(&dir)
        .up();
    let file = newest(&folder(&server));
    let mut c = server.client();
    let before = std::fs::metadata(&file).unwrap().len();
    // The first finds out how slow the disk is, on the worker; from then on it is a thread's to wait.
    c.say("SET first 1");
    c.say("SET second 1");
    let written = std::fs::metadata(&file).unwrap().len();
    c.say("SET third 1");
    assert!(written > before, "the first was written");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), written, "and the others answered before they were");
    until("the disk has taken it", || (server.number("persistence", "aof_buffer_length") == 0).then_some(()));
    let server = restart_after_kill(server, ON);
    assert_eq!(server.say("EXISTS first second third"), Reply::Int(3));
}

#[test]
fn switched_on_and_off_it_holds_what_there_is() {
    let server = Server::sluice("--auto-aof-rewrite-percentage 0");
    fill(&server, 7);
    server.say("CONFIG SET appendonly yes");
    rewritten(&server);
    assert_eq!(
        manifest(&server),
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
    );
    fill(&server, 8);
    let digest = server.digest();
    server.say("CONFIG SET appendonly no");
    assert_eq!(server.number("persistence", "aof_enabled"), 0);
    server.say("SET after off");
    let server = restart_after_kill(server, ON);
    assert_eq!(server.digest(), digest, "what was written before it was switched off, and nothing after");
    rewrite(&server);
    let names: Vec<_> = std::fs::read_dir(folder(&server))
        .expect("folder")
        .map(|e| e.expect("entry").file_name().into_string().expect("name"))
        .collect();
    assert!(names.iter().any(|name| name == "appendonly.aof.lock"), "{names:?}");
    assert_eq!(names.len(), 4, "base, log, manifest, and what locks them: {names:?}");
}

#[test]
fn rewrites_under_load_lose_nothing() {
    let server = Server::sluice(ON);
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..3)
        .map(|seed| {
            let (mut c, stop) = (server.client(), stop.clone());
            std::thread::spawn(move || {
                let mut turn = seed;
                while !stop.load(Ordering::Relaxed) {
                    turn += 3;
                    write_some(&mut c, turn, 200);
                }
            })
        })
        .collect();
    for preamble in ["yes", "no", "yes"] {
        server.say(&format!("CONFIG SET aof-use-rdb-preamble {preamble}"));
        rewrite(&server);
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.join().expect("a load");
    }
    let digest = server.digest();
    server.say("DEBUG LOADAOF");
    assert_eq!(server.digest(), digest);
    let server = restart_as(Program::Sluice, server, ON);
    assert_eq!(server.digest(), digest);
}

#[test]
fn a_torn_end_is_cut_back_to_the_last_whole_command_or_block() {
    let server = Server::sluice(ON);
    let mut c = server.client();
    c.say("SET a 1");
    c.say("MULTI");
    c.say("SET b 2");
    c.say("SET c 3");
    c.say("EXEC");
    let (dir, folder) = (server.dir().clone(), folder(&server));
    assert!(server.terminate().success());
    let path = newest(&folder);
    let whole = std::fs::read(&path).expect("log");
    let block = whole.windows(5).position(|w| w == b"MULTI").expect("a block") - 8;
    for cut in [1, 20, 40, whole.len() - block - 3] {
        std::fs::write(&path, &whole[..whole.len() - cut]).expect("write");
        let (status, said) =
            Start::new(Program::Sluice, &format!("{ON} --aof-load-truncated no")).dir(&dir).refused();
        assert!(!status.success());
        assert!(said.contains("Unexpected end of file reading the append only file"), "{said}");
        assert_eq!(std::fs::read(&path).expect("log").len(), whole.len() - cut, "left as it was");
        let server = Start::new(Program::Sluice, ON).dir(&dir).up();
        server.logged(&format!("at offset {block} !!! ({} bytes are cut off)", whole.len() - cut - block));
        assert_eq!(server.say("MGET a b c"), {
            let null = Reply::Nil;
            Reply::Array(vec![Reply::Bulk(b"1".to_vec()), null.clone(), null])
        });
        server.say("SET later 1");
        assert!(server.terminate().success());
        let server = Start::new(Program::Sluice, ON).dir(&dir).up();
        assert_eq!(server.say("DBSIZE"), Reply::Int(2));
        assert!(server.terminate().success());
    }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let dir = Arc::new(tempfile::tempdir().expect("folder"));
    let Some(disk) = SmallDisk::mount(&dir.path().join("appendonlydir"), "1m") else { return };
    let options = format!("{ON} --appendfsync everysec");
    let server = Start::new(Program::Sluice, &options).dir(&dir).up();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 600 << 10]).expect("ballast");
    let mut c = server.client();
    let value = "x".repeat(10_000);
    let refused = until("writes are refused", || match c.ask(&format!("APPEND big {value}")) {
        Reply::Error(text) => Some(text),
        _ => None,
    });
    assert_eq!(refused, "MISCONF Errors writing to the AOF file: No space left on device");
    assert_eq!(server.info("persistence", "aof_last_write_status").as_deref(), Some("err"));
    assert!(matches!(c.say("STRLEN big"), Reply::Int(_)), "reads go on");
    std::fs::remove_file(&ballast).expect("ballast");
    until("writes are taken again", || matches!(c.ask("SET healed 1"), Reply::Status(_)).then_some(()));
    assert_eq!(server.info("persistence", "aof_last_write_status").as_deref(), Some("ok"));
    let digest = server.digest();
    assert_eq!(c.say("WAITAOF 1 0 20000"), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    let server = restart_after_kill(server, &options);
    assert_eq!(server.digest(), digest);
    drop(server);
    drop(disk);
}

#[test]
fn a_full_disk_under_always_ends_the_server() {
    let dir = Arc::new(tempfile::tempdir().expect("folder"));
    let Some(disk) = SmallDisk::mount(&dir.path().join("appendonlydir"), "256k") else { return };
    let mut server = Start::new(Program::Sluice, &format!("{ON} --appendfsync always")).dir(&dir).up();
    let mut c = server.client();
    let value = vec![b'x'; 1 << 20];
    let _ = c.try_run(&[&b"SET"[..], b"big", &value]);
    assert_eq!(server.wait_for_end().code(), Some(1));
    server.logged("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...");
    drop(server);
    drop(disk);
}

#[test]
fn a_replica_rewrites_its_file_after_a_full_sync() {
    for load in ["disabled", "swapdb", "on-empty-db"] {
        let primary = Server::sluice("--repl-diskless-sync-delay 0");
        fill(&primary, 11);
        primary.say("SELECT 3");
        let replica = Server::sluice(&format!("{ON} --repl-diskless-load {load}"));
        replica.say("SET mine before");
        replica.follow(&primary);
        replica.link_up();
        rewritten(&replica);
        let mut c = primary.client();
        for line in ["SELECT 5", "SET x y", "RPUSH l 1"] {
            c.say(line);
        }
        replica.same_as(&primary);
        let digest = replica.digest();
        let replica = restart_as(Program::Sluice, replica, ON);
        assert_eq!(replica.digest(), digest, "repl-diskless-load {load}");
    }
}

#[test]
fn waitaof_waits_for_files_here_and_on_replicas() {
    let primary = Server::sluice(&format!("{ON} --repl-diskless-sync-delay 0"));
    let mut c = primary.client();
    let pair = |local, replicas| Reply::Array(vec![Reply::Int(local), Reply::Int(replicas)]);
    c.say("SET a 1");
    assert_eq!(c.say("WAITAOF 1 0 0"), pair(1, 0));
    assert_eq!(c.say("WAITAOF 1 1 10"), pair(1, 0));
    let replica = Server::sluice(ON);
    replica.follow(&primary);
    replica.link_up();
    rewritten(&replica);
    c.say("SET a 2");
    assert_eq!(c.say("WAITAOF 1 1 0"), pair(1, 1));
    let error = |reply| matches!(reply, Reply::Error(_));
    assert!(
        error(c.ask("WAITAOF 2 0 0")) && error(c.ask("WAITAOF 0 -1 0")) && error(c.ask("WAITAOF 0 0 -1"))
    );
    assert!(error(replica.client().ask("WAITAOF 0 0 0")));
    primary.say("CONFIG SET appendonly no");
    assert!(error(c.ask("WAITAOF 1 0 0")));
    assert_eq!(c.say("WAITAOF 0 1 0"), pair(0, 1));
}

#[test]
fn under_always_a_replica_sees_nothing_that_the_primary_could_lose() {
    let primary = Server::sluice(&format!("{ON} --appendfsync always --repl-diskless-sync-delay 0"));
    let replica = Server::sluice("");
    replica.follow(&primary);
    replica.link_up();
    let path = newest(&folder(&primary));
    // The file lags behind by this much; the log, which replicas are fed from, does not.
    primary.say("DEBUG AOF-FLUSH-SLEEP 300000");
    let mut c = primary.client();
    c.send(b"SET seen first\r\n").expect("sent");
    until("the replica has it", || (replica.say("GET seen") != Reply::Nil).then_some(()));
    let log = std::fs::read(&path).expect("log");
    assert!(log.windows(4).any(|w| w == b"seen"), "it is in the file before any replica has it");
    assert_eq!(c.reply().expect("a reply"), Reply::Status("OK".into()));
    // Another policy lets go of those who wait.
    c.send(b"SET seen second\r\n").expect("sent");
    primary.say("CONFIG SET appendfsync everysec");
    until("the replica has it", || (replica.say("GET seen").bytes() == b"second").then_some(()));
}

#[test]
fn an_old_single_file_moves_into_the_folder() {
    let dir = Arc::new(tempfile::tempdir().expect("folder"));
    std::fs::write(dir.path().join("appendonly.aof"), b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n")
        .expect("write");
    let server = Start::new(Program::Sluice, ON).dir(&dir).up();
    assert_eq!(server.say("GET a"), Reply::Bulk(b"1".to_vec()));
    assert!(!dir.path().join("appendonly.aof").exists());
    assert_eq!(
        manifest(&server),
        "file appendonly.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
    );
    rewrite(&server);
    assert_eq!(
        manifest(&server),
        "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
    );
}

#[test]
fn after_a_sync_that_failed_nothing_is_called_durable_before_it_is_written_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let fault = folder.path().join("syncs-fail");
    let options = format!("{ON} --appendfsync everysec --storage-syncs-fail-while {}", fault.display());
    let server = Server::sluice(&options);
    let mut c = server.client();
    bulk(&mut c, 500, 500);
    assert_eq!(c.say("WAITAOF 1 0 0"), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    std::fs::write(&fault, "").expect("the fault");
    c.say("SET doubtful 1");
    server.logged("Fail to fsync the AOF file");
    // From here on every sync succeeds; the next base takes its time.
    c.say("CONFIG SET persistence-max-bandwidth 1000");
    std::fs::remove_file(&fault).expect("the fault");
    until("a rewrite is under way", || {
        let begun = server.number("persistence", "current_save_keys_total") > 0;
        (begun && server.number("persistence", "aof_rewrite_in_progress") == 1).then_some(())
    });
    assert_eq!(c.say("WAITAOF 1 0 2500"), Reply::Array(vec![Reply::Int(0), Reply::Int(0)]));
    assert!(c.ask("SET refused 1").text().starts_with("MISCONF Errors writing to the AOF file"));
    c.say("CONFIG SET persistence-max-bandwidth 0");
    assert_eq!(c.say("WAITAOF 1 0 0"), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    until("writes are taken again", || (c.ask("SET healed 1").text() == "OK").then_some(()));
    assert_eq!(c.say("WAITAOF 1 0 0"), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    let digest = server.digest();
    assert_eq!(restart_after_kill(server, ON).digest(), digest);
}

#[test]
fn an_append_only_file_is_of_one_server_until_that_has_ended_or_let_go_of_it() {
    let first = Server::sluice(ON);
    first.say("SET a 1");
    let (status, log) = Start::new(Program::Sluice, ON).dir(first.dir()).refused();
    assert!(!status.success());
    let named = format!("{} is in use by another server", folder(&first).display());
    assert!(log.contains(&named), "{log}");
    let mut repair = Command::new(Program::Sluice.path());
    repair.args(["check-aof", "--fix"]).arg(folder(&first).join("appendonly.aof.manifest"));
    let repaired = repair.output().expect("it runs");
    assert!(String::from_utf8_lossy(&repaired.stdout).contains("is in use by a server"), "{repaired:?}");
    // Another name in the same folder is another file.
    let other = Start::new(Program::Sluice, &format!("{ON} --appendfilename other.aof --save ''"));
    let other = other.dir(first.dir()).up();
    assert_eq!(other.say("DBSIZE"), Reply::Int(0));
    other.kill();
    // Neither does one that is running get it.
    let second = Start::new(Program::Sluice, "--save ''").dir(first.dir()).up();
    assert!(second.client().ask("CONFIG SET appendonly yes").text().contains("Unable to turn on AOF"));
    assert!(second.client().ask("BGREWRITEAOF").is_error());
    first.say("SET b 1");
    let digest = first.digest();
    let first = restart_after_kill(first, ON);
    assert_eq!(first.digest(), digest);
    // What it finds then is what the other left there.
    rewrite(&first);
    first.say("CONFIG SET appendonly no");
    second.say("SET c 1");
    second.say("CONFIG SET appendonly yes");
    rewritten(&second);
    assert_eq!(second.say("WAITAOF 1 0 0").items()[0], Reply::Int(1));
    assert!(first.client().ask("CONFIG SET appendonly yes").is_error());
    second.kill();
    drop(first);
}
