//! Which cases to run, in which order.
//!
//! Servers and transports take turns on the same disk and number of replicas, so that a slow
//! drift of the machine touches all alike.

use crate::cli::SyncArgs;
use crate::disk::{Device, Disk};
use crate::error::{Error, Result};
use crate::servers::{self, Mode, Program};

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its place in the table; rounds of the same case share it.
    pub(crate) place: usize,
    pub(crate) round: u16,
    pub(crate) primary: Program,
    pub(crate) mode: Mode,
    pub(crate) replica: Program,
    pub(crate) disk: Disk,
    pub(crate) replicas: u16,
}

impl Case {
    /// In words, for the progress.
    pub(crate) fn describe(&self) -> String {
        let plural = if self.replicas == 1 { "replica" } else { "replicas" };
        format!(
            "{} {}, disk {}, {} {plural}",
            self.primary.name,
            self.mode.name,
            self.disk.label(),
            self.replicas
        )
    }
}

/// All cases, and what was left out and why.
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    pub(crate) notes: Vec<String>,
}

/// Makes the plan. Every program is found now, before anything is started.
pub(crate) fn plan(args: &SyncArgs) -> Result<Plan> {
    let modes = modes(args)?;
    let replica = match &args.replica_bin {
        Some(path) => Some(Program::named(path, "--replica-bin")?),
        None => None,
    };
    let disks = match &args.slow_disk {
        Some(dir) => vec![Disk::Real(Device::of(dir)?)],
        None => args.disk.iter().map(|&limit| Disk::Scratch(limit)).collect(),
    };
    let mut one_round = Vec::new();
    let mut unfair = Vec::new();
    for disk in &disks {
        for &replicas in &args.replicas {
            for (primary, mode) in &modes {
                if !disk.is_fair_to_peers() && primary.family == servers::Family::Redis {
                    unfair.push((primary.name.clone(), disk.label()));
                    continue;
                }
                let replica = replica.clone().unwrap_or_else(|| primary.clone());
                let (primary, mode, disk) = (primary.clone(), mode.clone(), disk.clone());
                one_round.push(Case {
                    place: one_round.len(),
                    round: 0,
                    primary,
                    mode,
                    replica,
                    disk,
                    replicas,
                });
            }
        }
    }
    unfair.dedup();
    let notes = unfair_note(unfair);
    if one_round.is_empty() {
        let why = notes.first().cloned().unwrap_or_else(|| "name a --transport or a --peer".into());
        return Err(Error::Usage(format!("nothing to measure: {why}")));
    }
    let cases = (1..=args.rounds)
        .flat_map(|round| one_round.iter().cloned().map(move |case| Case { round, ..case }))
        .collect();
    Ok(Plan { cases, notes })
}

fn modes(args: &SyncArgs) -> Result<Vec<(Program, Mode)>> {
    let mut modes = Vec::new();
    let wanted: Vec<_> =
        args.transport.iter().filter_map(|&transport| servers::sluice_mode(transport, args.delay)).collect();
    if !wanted.is_empty() {
        let sluice = Program::sluice(args.bin.as_deref())?;
        modes.extend(wanted.into_iter().map(|mode| (sluice.clone(), mode)));
    }
    for peer in &args.peer {
        let program = Program::named(peer, "--peer")?;
        modes.extend(servers::redis_modes(args.delay).map(|mode| (program.clone(), mode)));
    }
    Ok(modes)
}

fn unfair_note(mut unfair: Vec<(String, String)>) -> Vec<String> {
    unfair.sort();
    unfair.dedup();
    let Some((name, _)) = unfair.first() else { return Vec::new() };
    let disks: Vec<_> = unfair.iter().filter(|(n, _)| n == name).map(|(_, disk)| disk.as_str()).collect();
    vec![format!(
        "{name} is not measured on disk {}: that throttle is inside sluice-server; --slow-disk DIR is fair to both",
        disks.join(", ")
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn plan_of(line: &str) -> Result<Plan> {
        let words = ["sluice-bench", "sync"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Sync(args) => plan(&args),
            _ => unreachable!("the words say sync"),
        }
    }

    #[test]
    fn a_peer_runs_only_where_the_disk_is_the_same_for_it() {
        // Any program will do, nothing is started.
        let plan = plan_of("--transport none --peer true --disk unlimited,50 --replicas 1,4").unwrap();
        assert_eq!(plan.cases.len(), 4);
        assert!(plan.notes[0].contains("50 MB/s") && plan.notes[0].contains("--slow-disk"));
        assert!(plan_of("--transport none --peer true --disk 50").is_err());
    }

    #[test]
    fn rounds_interleave_the_cases() {
        let plan = plan_of("--transport none --peer true --disk unlimited --replicas 1 --rounds 2").unwrap();
        let order: Vec<_> = plan.cases.iter().map(|c| (c.round, c.place)).collect();
        assert_eq!(order, [(1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn nothing_to_measure_is_an_error_that_says_what_to_name() {
        let error = plan_of("--transport none").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("--transport") && error.contains("--peer"), "{error}");
    }
}
