//! Every fuzz target over its seeds and over damaged copies of them. `SLUICE_FUZZ_ROUNDS` makes it longer;
//! the same functions run under libFuzzer by `fuzz/run`.

use sluice_tests::data::Random;
use sluice_tests::fuzz::TARGETS;
use sluice_tests::fuzz::mutate::mutate;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Damaged copies for each target.
const ROUNDS: u64 = 3000;

#[test]
fn no_target_breaks_over_seeds_and_damaged_copies() {
    let rounds = std::env::var("SLUICE_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut broken = Vec::new();
    for target in TARGETS {
        let seeds = (target.seeds)();
        let accepted = seeds.iter().filter(|seed| (target.run)(seed)).count();
        assert!(accepted * 3 >= seeds.len(), "{}: {accepted} of {} seeds accepted", target.name, seeds.len());
        println!("{}: {accepted} of {} seeds accepted", target.name, seeds.len());
        let mut random = Random(rounds);
        let damaged = (0..rounds).map(|_| {
            let (one, other) = (random.one_of(&seeds).clone(), random.one_of(&seeds).clone());
            mutate(&one, &other, &mut random)
        });
        for (n, input) in seeds.iter().cloned().chain(damaged).enumerate() {
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                broken.push(format!("{} number {n}: {}", target.name, input.escape_ascii()));
                break;
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
