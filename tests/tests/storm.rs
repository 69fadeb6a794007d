//! A storm: several writers on several threads, replicas of both kinds that are cut off, repointed, stopped and synced
//! again over changing transports, saves in between. When it is over everybody has the same data.

use sluice_tests::data::{Random, bulk, every_encoding, same_contents};
use sluice_tests::{Busy, Program, Server, Start, peers_here};

const WEATHER: usize = 20;

/// One thing that happens to `replica` or `primary`.
fn disturb(random: &mut Random, primary: &Server, replica: &Server) {
    match random.below(9) {
        0 => drop(primary.say("CLIENT KILL TYPE replica")),
        1 => {
            drop(primary.say(&format!(
                "CONFIG SET repl-transport {}",
                random.one_of(&["disk", "socket", "io-uring"])
            )))
        }
        // Refused while it loads.
        2 if !replica.client().ask("REPLICAOF NO ONE").is_error() => {
            replica.client().ask("SET only-here 1");
            replica.follow(primary);
        }
        2 => {}
        3 => drop(primary.client().ask("BGSAVE")),
        4 => drop(primary.client().ask("SAVE")),
        5 => {
            replica.signal("STOP");
            let mut c = primary.client();
            c.pipeline(&sluice_tests::data::writes(random.below(1 << 40), 500));
            replica.signal("CONT");
        }
        6 => drop(primary.say("FLUSHDB")),
        7 => bulk(&mut primary.client(), 300, 3000),
        _ => drop(primary.client().pipeline(&every_encoding())),
    }
}

fn storm(options: &str, seed: u64) {
    let primary = Server::sluice(&format!("--io-threads 2 --repl-backlog-size 256kb {options}"));
    primary.client().pipeline(&every_encoding());
    bulk(&mut primary.client(), 2000, 1000);
    let mut replicas = vec![
        Server::sluice("--repl-diskless-load swapdb"),
        Server::sluice("--repl-diskless-load disabled --io-threads 2"),
    ];
    if peers_here(&["redis-server"]) {
        replicas.push(Start::new(Program::Redis, "--repl-diskless-load swapdb").up());
    }
    replicas.iter().for_each(|r| r.follow(&primary));
    // One more behind the first replica: it sees that one's syncs and promotions from below.
    let tail = Server::sluice("--repl-diskless-load swapdb");
    tail.follow(&replicas[0]);
    let mut n = 0u64;
    let mut random = Random(seed);
    let huge = Busy::with(&primary, move |c| {
        n += 1;
        let commands: Vec<_> = (0..20)
            .map(|i| match i % 5 {
                0 => format!("HSET huge f{} {n}", (n * 31 + i * 7) % 3000),
                1 => format!("SADD hugeset m{}", (n * 17 + i) % 3000),
                2 => format!("ZADD hugezset {n} m{}", (n * 13 + i) % 3000),
                3 => format!("SREM hugeset m{}", (n * 11 + i) % 3000),
                _ => format!("HDEL huge f{}", (n * 29 + i) % 3000),
            })
            .map(|line| sluice_tests::words(&line))
            .collect();
        c.pipeline(&commands);
        20
    });
    let mixed = Busy::on(&primary);
    let blocks = Busy::with(&primary, |c| {
        c.pipeline(
            &["MULTI", "INCR block:a", "INCR block:b", "SADD block:s x", "EXEC"].map(sluice_tests::words),
        );
        5
    });
    for _ in 0..WEATHER {
        let replica = random.below(replicas.len() as u64) as usize;
        disturb(&mut random, &primary, &replicas[replica]);
        // A link that was cut is tried again after a second: every other time that is waited for.
        if random.below(2) == 0 {
            replicas[replica].link_up();
        }
        mixed.goes_on(random.below(1500));
        let seen = replicas[replica].client().ask("MGET block:a block:b");
        if let sluice_tests::Reply::Array(seen) = seen {
            assert_eq!(seen[0], seen[1], "seed {seed}: half a block on a replica");
        }
    }
    for busy in [huge, mixed, blocks] {
        busy.stop();
    }
    for replica in &replicas {
        replica.same_as(&primary);
    }
    tail.same_as(&replicas[0]);
    same_contents(&mut replicas[0].client(), &mut primary.client());
    primary.reports("persistence", "rdb_bgsave_in_progress", "0");
    let digest = primary.digest();
    primary.say("SAVE");
    let dir = primary.dir().clone();
    primary.kill();
    assert_eq!(Start::new(Program::Sluice, "").dir(&dir).up().digest(), digest);
}

/// `SLUICE_TEST_ROUNDS` takes so many seeds.
fn seeds() -> u64 {
    std::env::var("SLUICE_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn everybody_has_the_same_data_after_a_storm() {
    for seed in 0..seeds() {
        storm("", seed);
    }
}

/// The queue of old values and the window at their least, and a slow disk: writers and walkers wait all the time.
#[test]
fn everybody_has_the_same_data_after_a_storm_with_the_least_room() {
    for seed in 100..100 + seeds() {
        storm(
            "--cut-preimage-limit 1mb --repl-diskless-window 64kb --storage-throttle-rate 8mb --shards 2",
            seed,
        );
    }
}
