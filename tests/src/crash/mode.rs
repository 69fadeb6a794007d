//! The modes: how a server persists, what it thereby promises, and what goes on when it is killed.

/// What must survive `kill -9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every acknowledged write: under `appendfsync always`, and under the others where the process alone ends and
    /// replies wait for their write, however long (`aof-write-wait`).
    Acknowledged,
    /// Every write acknowledged before WAITAOF confirmed a later one (`everysec`, without power).
    Synced,
    /// Every write acknowledged before the last snapshot that became complete began.
    Saved,
    /// One moment, not before that of the start (`appendfsync no`, without power).
    Moment,
}

impl Promise {
    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Promise::Acknowledged => "all acknowledged",
            Promise::Synced => "before last WAITAOF",
            Promise::Saved => "before last save",
            Promise::Moment => "one moment",
        }
    }
}

/// What disturbs the server, over and over, while it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// BGSAVE.
    Bgsave,
    /// SAVE.
    Save,
    /// BGREWRITEAOF.
    Rewrite,
    /// BGSAVE and BGREWRITEAOF in turn.
    Both,
    /// `appendonly` off and on again.
    Toggle,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A server alone.
    Alone,
    /// A primary, while a replica asks for full syncs again and again.
    Primary,
    /// A replica, during its full syncs and after.
    Replica,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Its name on the command line.
    pub name: &'static str,
    /// Options of the server that is killed.
    pub options: &'static str,
    /// What it promises with them.
    pub promise: Promise,
    /// What else goes on.
    pub disturbance: Disturbance,
    /// Who is killed.
    pub shape: Shape,
    /// One kill in so many comes while the server loads, 0 for none.
    pub kill_loading: u64,
    /// Not killed, but cut off from power (`storage-power-cut-at`) within so many operations on files, 0 for kills:
    /// what was not synced is then lost.
    pub power: u64,
}

const fn mode(name: &'static str, options: &'static str, promise: Promise) -> Mode {
    Mode {
        name,
        options,
        promise,
        disturbance: Disturbance::None,
        shape: Shape::Alone,
        kill_loading: 0,
        power: 0,
    }
}

impl Mode {
    const fn with(mut self, disturbance: Disturbance) -> Mode {
        self.disturbance = disturbance;
        self
    }

    const fn of(mut self, shape: Shape) -> Mode {
        self.shape = shape;
        self
    }

    const fn power(mut self, operations: u64) -> Mode {
        self.power = operations;
        self
    }

    const fn loading(mut self, one_in: u64) -> Mode {
        self.kill_loading = one_in;
        self
    }
}

const ALWAYS: &str = "--appendonly yes --appendfsync always";
const ALWAYS_PLAIN: &str = "--appendonly yes --appendfsync always --aof-use-rdb-preamble no";
const EVERYSEC: &str = "--appendonly yes --appendfsync everysec";
const EVERYSEC_PLAIN: &str = "--appendonly yes --appendfsync everysec --aof-use-rdb-preamble no";
const NO: &str = "--appendonly yes --appendfsync no";
const EVERYSEC_WRITTEN: &str = "--appendonly yes --appendfsync everysec --aof-write-wait 60000";
const EVERYSEC_PLAIN_WRITTEN: &str =
    "--appendonly yes --appendfsync everysec --aof-use-rdb-preamble no --aof-write-wait 60000";
const NO_WRITTEN: &str = "--appendonly yes --appendfsync no --aof-write-wait 60000";

/// All of them.
pub const MODES: &[Mode] = &[
    // Snapshots.
    mode("rdb-bgsave", "", Promise::Saved).with(Disturbance::Bgsave),
    mode("rdb-save", "", Promise::Saved).with(Disturbance::Save),
    mode("rdb-points", "--save 1 1", Promise::Saved),
    mode("rdb-slow", "--storage-throttle-rate 16mb --cut-preimage-limit 1mb", Promise::Saved)
        .with(Disturbance::Bgsave),
    mode("rdb-load", "", Promise::Saved).with(Disturbance::Bgsave).loading(2),
    mode("rdb-full-sync", "--repl-transport disk --storage-throttle-rate 16mb", Promise::Saved)
        .with(Disturbance::Bgsave)
        .of(Shape::Primary),
    // The append-only file, with a base as RDB or as commands.
    mode("aof-always", ALWAYS, Promise::Acknowledged),
    mode("aof-always-plain", ALWAYS_PLAIN, Promise::Acknowledged),
    mode("aof-everysec", EVERYSEC_WRITTEN, Promise::Acknowledged),
    mode("aof-no", NO_WRITTEN, Promise::Acknowledged),
    mode("aof-always-rewrite", ALWAYS, Promise::Acknowledged).with(Disturbance::Rewrite),
    mode("aof-plain-rewrite", ALWAYS_PLAIN, Promise::Acknowledged).with(Disturbance::Rewrite),
    mode("aof-everysec-rewrite", EVERYSEC_PLAIN_WRITTEN, Promise::Acknowledged).with(Disturbance::Rewrite),
    mode("aof-no-rewrite", NO_WRITTEN, Promise::Acknowledged).with(Disturbance::Rewrite),
    mode("aof-always-threads", "--appendonly yes --appendfsync always --io-threads 4", Promise::Acknowledged)
        .with(Disturbance::Rewrite),
    mode(
        "aof-everysec-threads",
        "--appendonly yes --appendfsync everysec --aof-write-wait 60000 --io-threads 4",
        Promise::Acknowledged,
    ),
    mode("aof-waitaof", EVERYSEC_PLAIN, Promise::Synced).with(Disturbance::Rewrite),
    mode(
        "aof-slow-rewrite",
        "--appendonly yes --appendfsync always --storage-throttle-rate 16mb --cut-preimage-limit 1mb",
        Promise::Acknowledged,
    )
    .with(Disturbance::Rewrite),
    mode(
        "aof-auto-rewrite",
        "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 5 --auto-aof-rewrite-min-size 64kb",
        Promise::Acknowledged,
    ),
    mode(
        "aof-timestamps",
        "--appendonly yes --appendfsync always --aof-timestamp-enabled yes --aof-use-rdb-preamble no",
        Promise::Acknowledged,
    )
    .with(Disturbance::Rewrite),
    mode("aof-and-rdb", ALWAYS, Promise::Acknowledged).with(Disturbance::Both),
    mode("aof-load", ALWAYS, Promise::Acknowledged).with(Disturbance::Rewrite).loading(2),
    mode("aof-toggle", EVERYSEC, Promise::Moment).with(Disturbance::Toggle),
    mode(
        "aof-full-sync",
        "--appendonly yes --appendfsync always --repl-transport disk",
        Promise::Acknowledged,
    )
    .of(Shape::Primary),
    // Replicas.
    mode(
        "replica-disk",
        "--repl-diskless-load disabled --storage-throttle-rate 16mb --save 1 1",
        Promise::Moment,
    )
    .of(Shape::Replica),
    mode("replica-socket", "--repl-diskless-load swapdb --save 1 1", Promise::Moment).of(Shape::Replica),
    mode("replica-aof-disk", "--repl-diskless-load disabled --appendonly yes", Promise::Moment)
        .of(Shape::Replica),
    mode("replica-aof", "--repl-diskless-load swapdb --appendonly yes", Promise::Moment).of(Shape::Replica),
    // Power cuts: unsynced bytes and names are lost.
    mode("power-rdb", "", Promise::Saved).with(Disturbance::Bgsave).power(60),
    mode("power-rdb-save", "", Promise::Saved).with(Disturbance::Save).power(60),
    mode("power-always", ALWAYS, Promise::Acknowledged).power(1500),
    mode("power-always-rewrite", ALWAYS, Promise::Acknowledged).with(Disturbance::Rewrite).power(1000),
    mode("power-plain-rewrite", ALWAYS_PLAIN, Promise::Acknowledged).with(Disturbance::Rewrite).power(1000),
    mode("power-everysec", EVERYSEC, Promise::Synced).power(100_000),
    mode("power-everysec-rewrite", EVERYSEC, Promise::Synced).with(Disturbance::Rewrite).power(100_000),
    mode("power-no-rewrite", NO, Promise::Moment).with(Disturbance::Rewrite).power(1000),
    mode("power-toggle", EVERYSEC, Promise::Moment).with(Disturbance::Toggle).power(600),
    mode("power-replica-aof", "--repl-diskless-load swapdb --appendonly yes", Promise::Moment)
        .of(Shape::Replica)
        .power(100),
    mode("power-replica-disk", "--repl-diskless-load disabled --save 1 1", Promise::Moment)
        .of(Shape::Replica)
        .power(30),
];

/// The mode of this name.
pub fn find(name: &str) -> Option<&'static Mode> {
    MODES.iter().find(|mode| mode.name == name)
}
