//! What a command is like, in flags: those that COMMAND INFO prints, and our own.

bitflags::bitflags! {
    /// Command flags, as COMMAND INFO prints them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change data.
        const WRITE = 1;
        /// Reads data only.
        const READONLY = 1 << 1;
        /// Refused when out of memory.
        const DENYOOM = 1 << 2;
        /// Administration.
        const ADMIN = 1 << 3;
        /// Publish and subscribe.
        const PUBSUB = 1 << 4;
        /// Not from scripts.
        const NOSCRIPT = 1 << 5;
        /// May block the client.
        const BLOCKING = 1 << 6;
        /// Allowed while loading.
        const LOADING = 1 << 7;
        /// Allowed on a replica with stale data.
        const STALE = 1 << 8;
        /// Not shown to MONITOR.
        const SKIP_MONITOR = 1 << 9;
        /// Not in the slow log.
        const SKIP_SLOWLOG = 1 << 10;
        /// Constant or logarithmic time.
        const FAST = 1 << 11;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 12;
        /// May replicate although it is no write (COMMAND INFO hides it, as Redis does).
        const MAY_REPLICATE = 1 << 13;
        /// Not inside MULTI.
        const NO_MULTI = 1 << 14;
        /// Key positions depend on the arguments.
        const MOVABLEKEYS = 1 << 15;
        /// Allowed while a script or module is busy.
        const ALLOW_BUSY = 1 << 16;
        /// Refused while loading asynchronously.
        const NO_ASYNC_LOADING = 1 << 17;
        /// Meets keys it does not name (SCAN, RANDOMKEY): the expired ones it removes are logged one by one.
        const ARBITRARY_KEYS = 1 << 18;
        /// Runs at once even inside MULTI.
        const IMMEDIATE = 1 << 19;
        /// Its first argument is the database that the commands behind it run in.
        const SELECTS_DB = 1 << 20;
        /// Changes each key it names for itself: none is read to change another.
        const EACH_FOR_ITSELF = 1 << 21;
        /// Refused, too, where writes are because a disk fails: whoever watches the server by it learns of that.
        const TELLS_OF_DISK = 1 << 22;
        /// Empties every database.
        const EMPTIES = 1 << 23;
    }
}

impl Flags {
    /// A constant-time read.
    pub const READ_FAST: Flags = Flags::READONLY.union(Flags::FAST);
    /// A constant-time write that frees memory or takes none.
    pub const WRITE_FAST: Flags = Flags::WRITE.union(Flags::FAST);
    /// A write that takes memory.
    pub const WRITE_OOM: Flags = Flags::WRITE.union(Flags::DENYOOM);
    /// A constant-time write that takes memory.
    pub const WRITE_OOM_FAST: Flags = Flags::WRITE_OOM.union(Flags::FAST);

    /// What may end up in the log.
    pub const LOGGED: Flags = Flags::WRITE.union(Flags::MAY_REPLICATE);

    /// The names COMMAND INFO prints, in Redis' order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Flags, &str); 17] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::NOSCRIPT, "noscript"),
            (Flags::BLOCKING, "blocking"),
            (Flags::LOADING, "loading"),
            (Flags::STALE, "stale"),
            (Flags::SKIP_MONITOR, "skip_monitor"),
            (Flags::SKIP_SLOWLOG, "skip_slowlog"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MULTI, "no_multi"),
            (Flags::MOVABLEKEYS, "movablekeys"),
            (Flags::ALLOW_BUSY, "allow_busy"),
            (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        ];
        NAMES.into_iter().filter(move |(f, _)| self.contains(*f)).map(|(_, n)| n)
    }
}

/// The flags of several commands together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagsOfMany {
    /// Those that one of them has.
    pub any: Flags,
    /// Those that all of them have.
    pub all: Flags,
}

impl Default for FlagsOfMany {
    fn default() -> FlagsOfMany {
        FlagsOfMany { any: Flags::empty(), all: Flags::all() }
    }
}

impl FlagsOfMany {
    /// One command more.
    pub fn add(&mut self, flags: Flags) {
        self.any |= flags;
        self.all &= flags;
    }
}
