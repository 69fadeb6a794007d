//! The crash kit: servers under load, killed at random moments, and a checker that knows what had to survive.
//!
//! Every writer sends an endless list of **units**, single commands and whole MULTI blocks, which is a pure function
//! of the seed ([`work`]). So the state after n units is known, and what a server recovered is checked in three ways:
//!
//! - each writer's data must be *exactly* the state after some n: nothing half-applied, no block in part, no hole;
//! - n must reach what was promised ([`mode::Promise`]): every acknowledged write under `appendfsync always`; what
//!   WAITAOF confirmed under `everysec`; what was acknowledged before the last complete snapshot began;
//! - all writers must stand at one moment: if a unit survived, so did every unit (of anybody) that had been
//!   acknowledged before it was sent.
//!
//! A killed process loses what it had not given to the kernel, but not what the kernel had not given to the disk:
//! after `kill -9`, `always`, `everysec` and `no` differ by unwritten buffers only. The loss of unsynced bytes is met by
//! the modes with a [`PowerCut`](sluice_persistence::storage::PowerCut), and in memory by the persistence crate's tests.
//!
//! A seed fixes the units and the schedule (pipelines, delays, disturbances); the moment at which the kernel
//! ends the process cannot be repeated exactly.

mod ballast;
pub mod check;
pub mod cycle;
pub mod mode;
pub mod replicas;
pub mod report;
pub mod work;
pub mod writer;

pub use mode::{MODES, Mode};
pub use report::{Tally, table};

/// How to run a mode.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kills in each mode.
    pub kills: u32,
    /// Source of units and schedule.
    pub seed: u64,
    /// Writing connections.
    pub writers: usize,
    /// First port to use; any free ones if not given.
    pub port: Option<u16>,
}

/// Runs one mode. Failures are in the tally; a server that does not come back up panics with its log.
pub fn run(mode: &Mode, plan: &Plan) -> Tally {
    match mode.shape {
        mode::Shape::Alone | mode::Shape::Primary => cycle::run(mode, plan),
        mode::Shape::Replica => replicas::run(mode, plan),
    }
}

/// Names the seed when a panic passes through.
pub(crate) struct Announce(pub(crate) String);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("crash kit: {}", self.0);
        }
    }
}
