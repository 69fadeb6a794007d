//! Cuts of a replica: its log is its primary's, byte for byte, and a cut of it serves a replica of its own.

use crate::random::Random;
use crate::rebuild::Image;
use crate::replay::Replay;
use crate::workload::Workload;
use crate::{Load, engine, seeds};
use sluice_engine::Step;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_cut_of_a_replica_and_its_log_are_the_primarys_state() {
    for seed in seeds(3) {
        let mut random = Random::new(seed);
        let primary = engine(4);
        primary.log().activate();
        let mut from_start = primary.log().reader(0).unwrap();
        let live = Load::start(&primary, seed, 2, 3_000, Workload::of_every_type).join();

        let replica = engine(4);
        replica.log().activate();
        replica.log().set_backlog_size(1 << 30);
        let following = AtomicBool::new(true);
        let images = std::thread::scope(|scope| {
            let mut replay = Replay::new(replica.clone());
            let (end, following) = (primary.log().end(), &following);
            scope.spawn(move || {
                replay.read_to(&mut from_start, end);
                following.store(false, Ordering::Release);
            });
            let mut images = Vec::new();
            let following = || following.load(Ordering::Acquire);
            let let_follow = |bytes: usize| {
                let until = replica.log().end() + bytes as u64;
                while following() && replica.log().end() < until {
                    std::thread::yield_now();
                }
            };
            while following() && images.len() < 10 {
                let_follow(random.below(200_000));
                let mut cut = replica.begin_cut().unwrap();
                let mut image = Image::new(&cut);
                while cut.step(&mut image, 5_000) == Step::More {
                    image.take_pending();
                    let_follow(random.below(300));
                }
                image.check_complete();
                images.push((image, cut.stream_db()));
            }
            images
        });
        assert_eq!(replica.log().end(), primary.log().end(), "seed {seed}: offsets stay equal");
        for (image, stream_db) in &images {
            let mut loaded = image.load();
            loaded.select(*stream_db);
            loaded.read_to(&mut replica.log().reader(image.offset()).unwrap(), replica.log().end());
            live.assert_equal(&loaded.state(), &format!("seed {seed}: a replica's replica"));
        }
        let elsewhere = images.iter().filter(|(_, db)| *db != 0).count();
        eprintln!(
            "seed {seed}: {} cuts of a replica, {elsewhere} of them outside of database 0",
            images.len()
        );
    }
}
