//! The modes: how a server persists, what it thereby promises, and what goes on when it is killed.

/// What must survive `kill -9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every acknowledged write (`appendfsync always`).
    Acknowledged,
    /// Every write acknowledged before WAITAOF confirmed a later one (`everysec`).
    Synced,
    /// Every write acknowledged before the last snapshot that became complete began.
    Saved,
    /// One moment, not before that of the start (`appendfsync no`).
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

/// All of them.
pub const MODES: &[Mode] = &[
    mode("rdb-bgsave", "", Promise::Saved).with(Disturbance::Bgsave),
    mode("rdb-save", "", Promise::Saved).with(Disturbance::Save),
    mode("rdb-points", "--save 1 1", Promise::Saved),
    mode("rdb-slow", "--storage-throttle-rate 16mb --cut-preimage-limit 1mb", Promise::Saved)
        .with(Disturbance::Bgsave),
    mode("rdb-load", "", Promise::Saved).with(Disturbance::Bgsave).loading(2),
    mode("rdb-full-sync", "--repl-transport disk --storage-throttle-rate 16mb", Promise::Saved)
        .with(Disturbance::Bgsave)
        .of(Shape::Primary),
    mode(
        "replica-disk",
        "--repl-diskless-load disabled --storage-throttle-rate 16mb --save 1 1",
        Promise::Moment,
    )
    .of(Shape::Replica),
    mode("power-rdb", "", Promise::Saved).with(Disturbance::Bgsave).power(60),
    mode("power-rdb-save", "", Promise::Saved).with(Disturbance::Save).power(60),
    mode("replica-socket", "--repl-diskless-load swapdb --save 1 1", Promise::Moment).of(Shape::Replica),
];

/// The mode of this name.
pub fn find(name: &str) -> Option<&'static Mode> {
    MODES.iter().find(|mode| mode.name == name)
}
