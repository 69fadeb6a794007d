//! Puts what a decoder reads into an engine.

use super::values::{self, TWICE};
use super::visitor::{Element, Key, Kind, Packed, RdbVisitor, Refusal, Skipped};
use sluice_engine::internals::{ElementBatch, Loader, MAX_OFFSET, Value};

/// Keys a stream may make us prepare room for, over all databases: a count in a stream is only a claim.
const RESERVE_MAX: u64 = 1 << 24;
/// Bytes of the smallest key there is: type, and lengths of name and value.
const KEY_BYTES_MIN: u64 = 3;

/// Most bytes of functions and module data that are kept to be written back.
const CARRIED_MAX: usize = 64 << 20;
/// Collections without elements that the report names.
const EMPTY_KEYS_NAMED: usize = 10;

/// What a stream said beside its keys, and what was left out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Keys loaded.
    pub keys: u64,
    /// Keys left out because they had expired.
    pub expired: u64,
    /// Collections without elements, left out.
    pub empty: u64,
    /// Names of the first few of those.
    pub empty_keys: Vec<Vec<u8>>,
    /// Function libraries: this server runs none, and carries them.
    pub functions: u64,
    /// Names of modules whose data beside the keys is carried.
    pub modules: Vec<String>,
    /// Those, as they stand, to be [carried](sluice_engine::Engine::carry) by the engine once the load is complete.
    pub carried: Vec<u8>,
    /// The writer's version (`redis-ver`).
    pub redis_version: Option<String>,
    /// When the stream was written, in seconds of Unix time (`ctime`).
    pub created: Option<u64>,
    /// Memory the writer used (`used-mem`).
    pub used_memory: Option<u64>,
    /// Replication id the stream belongs to (`repl-id`).
    pub replication_id: Option<String>,
    /// Replication offset the stream stands for (`repl-offset`).
    pub replication_offset: Option<u64>,
    /// Database selected at that offset (`repl-stream-db`).
    pub replication_db: Option<u32>,
    /// The stream is the first part of an append-only file (`aof-base`, or `aof-preamble` before 7.0).
    pub aof_base: bool,
}

impl LoadReport {
    /// Adds what another thread loaded of the same stream.
    pub(super) fn add(&mut self, other: LoadReport) {
        self.keys += other.keys;
        self.expired += other.expired;
        self.empty += other.empty;
        let room = EMPTY_KEYS_NAMED - self.empty_keys.len().min(EMPTY_KEYS_NAMED);
        self.empty_keys.extend(other.empty_keys.into_iter().take(room));
    }
}

/// An [`RdbVisitor`] that fills an engine through its [`Loader`].
#[derive(Debug)]
pub struct EngineVisitor<'a> {
    loader: &'a mut Loader,
    /// Keys that expired before this are left out, in milliseconds of Unix time.
    drop_expired_before: Option<i64>,
    /// LRU clock of the keys whose last access the stream does not say.
    clock: u32,
    /// Keys that room may still be reserved for, over all databases: what a stream claims is not what it holds.
    room: u64,
    report: LoadReport,
    building: Option<Building>,
    /// Elements of a large hash or set that wait to be put in together.
    waiting: ElementBatch,
}

/// A collection whose elements are being told.
#[derive(Debug)]
struct Building {
    db: u32,
    key: Vec<u8>,
    expire_at_ms: Option<i64>,
    lru: u32,
    /// None: it had expired, so its elements go nowhere.
    value: Option<Value>,
}

const LRU_MASK: u32 = (1 << 24) - 1;

impl<'a> EngineVisitor<'a> {
    /// Fills `loader`. A primary leaves out what had expired at `drop_expired_before` (now); a replica, which is
    /// told of each expiry, takes everything.
    pub fn new(loader: &'a mut Loader, drop_expired_before: Option<i64>) -> Self {
        let clock = (sluice_engine::internals::now_ms() / 1000) as u32 & LRU_MASK;
        Self {
            loader,
            drop_expired_before,
            clock,
            room: RESERVE_MAX,
            report: LoadReport::default(),
            building: None,
            waiting: ElementBatch::default(),
        }
    }

    /// The stream is so many bytes long: room is reserved for no more keys than they can hold.
    pub fn within(mut self, bytes: u64) -> Self {
        self.limit_room(bytes);
        self
    }

    pub(super) fn limit_room(&mut self, bytes: u64) {
        self.room = self.room.min(bytes / KEY_BYTES_MIN);
    }

    /// Puts what was read so far into the engine's tables: before anything else looks at them.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        if self.loader.flush() { Ok(()) } else { Err("a key twice".into()) }
    }

    /// What there was beside the keys, so far.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// What there was beside the keys.
    pub fn into_report(self) -> LoadReport {
        self.report
    }

    #[inline]
    fn expired(&self, key: &Key<'_>) -> bool {
        matches!((key.expire_at_ms, self.drop_expired_before), (Some(at), Some(now)) if at < now)
    }

    /// Leaves a key out. Whoever had it before learns of that from the log.
    #[cold]
    fn drop_expired(&mut self, db: u32, key: &[u8]) {
        self.report.expired += 1;
        self.loader.expired(db, key);
    }

    #[inline]
    fn lru(&self, key: &Key<'_>) -> u32 {
        // How often a key was used says nothing about when: nothing here counts uses, so it is as if just used.
        let idle = key.idle_secs.unwrap_or(0).min(LRU_MASK.into()) as u32;
        self.clock.wrapping_sub(idle) & LRU_MASK
    }

    /// Counts a key, or says why it was not taken.
    #[inline]
    fn taken(&mut self, db: u32, taken: bool) -> Result<(), Refusal> {
        if taken {
            self.report.keys += 1;
            return Ok(());
        }
        Err(self.why_not(db))
    }

    #[cold]
    fn why_not(&self, db: u32) -> Refusal {
        let databases = self.loader.databases();
        if db >= databases {
            return format!("database {db} does not exist: this server has {databases} (see `databases`)")
                .into();
        }
        "the same key was there before".into()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl RdbVisitor for EngineVisitor<'_> {
    fn aux(&mut self, name: &[u8], value: &[u8]) {
        let report = &mut self.report;
        match name {
            b"redis-ver" | b"valkey-ver" => report.redis_version = Some(text(value)),
            b"ctime" => report.created = number(value),
            b"used-mem" => report.used_memory = number(value),
            b"repl-id" => report.replication_id = Some(text(value)),
            b"repl-offset" => {
                report.replication_offset = number(value).filter(|offset| *offset <= MAX_OFFSET);
            }
            b"repl-stream-db" => report.replication_db = number(value),
            b"aof-base" | b"aof-preamble" => report.aof_base = value == b"1",
            // Unknown facts are to be ignored (rdb.c): they come from newer writers.
            _ => {}
        }
    }

    fn db_size(&mut self, db: u32, keys: u64, _expiring: u64) {
        let keys = keys.min(self.room);
        self.room -= keys;
        self.loader.reserve(db, keys as usize);
    }

    fn skipped(&mut self, what: Skipped<'_>) {
        match what {
            Skipped::Function => self.report.functions += 1,
            Skipped::ModuleAux(name) => self.report.modules.push(name),
            Skipped::Empty(key) => {
                self.report.empty += 1;
                if self.report.empty_keys.len() < EMPTY_KEYS_NAMED {
                    self.report.empty_keys.push(key.to_vec());
                }
            }
        }
    }

    fn foreign(&mut self, item: &[u8]) -> Result<(), Refusal> {
        if self.report.carried.len() + item.len() > CARRIED_MAX {
            return Err(format!("functions and module data of more than {CARRIED_MAX} bytes").into());
        }
        self.report.carried.extend_from_slice(item);
        Ok(())
    }

    #[inline]
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        if self.expired(key) {
            self.drop_expired(key.db, key.name);
            return Ok(());
        }
        let lru = self.lru(key);
        let taken = self.loader.string(key.db, key.name, value, key.expire_at_ms, lru);
        self.taken(key.db, taken)
    }

    fn int(&mut self, key: &Key<'_>, value: i64) -> Result<(), Refusal> {
        if self.expired(key) {
            self.drop_expired(key.db, key.name);
            return Ok(());
        }
        let lru = self.lru(key);
        let taken = self.loader.int(key.db, key.name, value, key.expire_at_ms, lru);
        self.taken(key.db, taken)
    }

    fn packed(&mut self, key: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        if self.expired(key) {
            self.drop_expired(key.db, key.name);
            return Ok(());
        }
        let lru = self.lru(key);
        let value = values::from_packed(value, self.loader.limits())?;
        let taken = self.loader.value(key.db, key.name, value, key.expire_at_ms, lru);
        self.taken(key.db, taken)
    }

    fn begin(&mut self, key: &Key<'_>, kind: Kind, count: u64) -> Result<(), Refusal> {
        debug_assert!(self.building.is_none(), "the one before was ended");
        let expired = self.expired(key);
        self.building = Some(Building {
            db: key.db,
            key: key.name.to_vec(),
            expire_at_ms: key.expire_at_ms,
            lru: self.lru(key),
            value: (!expired).then(|| values::empty(kind, count, self.loader.limits())),
        });
        Ok(())
    }

    #[inline]
    fn element(&mut self, element: Element<'_>) -> Result<(), Refusal> {
        let Some(Building { value: Some(value), .. }) = &mut self.building else { return Ok(()) };
        if values::add(value, element, self.loader.limits(), &mut self.waiting) {
            Ok(())
        } else {
            Err(TWICE.into())
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        let Some(Building { db, key, expire_at_ms, lru, value }) = self.building.take() else {
            return Ok(());
        };
        match value {
            None => {
                self.drop_expired(db, &key);
                Ok(())
            }
            Some(mut value) => {
                if !values::complete(&mut value, &mut self.waiting) {
                    return Err(TWICE.into());
                }
                if value.is_empty() {
                    self.skipped(Skipped::Empty(&key));
                    return Ok(());
                }
                let taken = self.loader.value(db, &key, value, expire_at_ms, lru);
                self.taken(db, taken)
            }
        }
    }
}
