//! Puts what a decoder reads into an engine.

use super::visitor::{Element, Key, Kind, Packed, RdbVisitor, Refusal, Skipped};
use sluice_engine::load::{ElementBatch, Loader};
use sluice_engine::value::list::NodeLimit;
use sluice_engine::value::{Hash, List, Set, Value, ZSet};

/// Keys a stream may make us prepare room for in one database: a count in a stream is only a claim.
const RESERVE_MAX: u64 = 1 << 24;
/// The same for the elements of one collection.
const RESERVE_ELEMENTS_MAX: u64 = 1 << 20;

/// What a stream said beside its keys, and what was left out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Keys loaded.
    pub keys: u64,
    /// Keys left out because they had expired.
    pub expired: u64,
    /// Collections without elements, left out.
    pub empty: u64,
    /// Function libraries left out: this server runs none.
    pub functions: u64,
    /// Names of modules whose data beside the keys was left out.
    pub modules: Vec<String>,
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

/// An [`RdbVisitor`] that fills an engine through its [`Loader`].
#[derive(Debug)]
pub struct EngineVisitor<'a> {
    loader: &'a mut Loader,
    /// Keys that expired before this are left out, in milliseconds of Unix time.
    drop_expired_before: Option<i64>,
    /// LRU clock of the keys whose last access the stream does not say.
    clock: u32,
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

const TWICE: &str = "a field or member twice";
const LRU_MASK: u32 = (1 << 24) - 1;

impl<'a> EngineVisitor<'a> {
    /// Fills `loader`. A primary leaves out what had expired at `drop_expired_before` (now); a replica, which is
    /// told of each expiry, takes everything.
    pub fn new(loader: &'a mut Loader, drop_expired_before: Option<i64>) -> Self {
        let clock = (sluice_engine::now_ms() / 1000) as u32 & LRU_MASK;
        Self {
            loader,
            drop_expired_before,
            clock,
            report: LoadReport::default(),
            building: None,
            waiting: ElementBatch::default(),
        }
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

    #[inline]
    fn lru(&self, key: &Key<'_>) -> u32 {
        match (key.freq, key.idle_secs) {
            (Some(freq), _) => u32::from(freq),
            (None, Some(idle)) => self.clock.wrapping_sub(idle.min(LRU_MASK.into()) as u32) & LRU_MASK,
            (None, None) => self.clock,
        }
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
            b"repl-offset" => report.replication_offset = number(value),
            b"repl-stream-db" => report.replication_db = number(value),
            b"aof-base" | b"aof-preamble" => report.aof_base = value == b"1",
            // Unknown facts are to be ignored (rdb.c): they come from newer writers.
            _ => {}
        }
    }

    fn db_size(&mut self, db: u32, keys: u64, _expiring: u64) {
        self.loader.reserve(db, keys.min(RESERVE_MAX) as usize);
    }

    fn skipped(&mut self, what: Skipped<'_>) {
        match what {
            Skipped::Function => self.report.functions += 1,
            Skipped::ModuleAux(name) => self.report.modules.push(name),
            Skipped::Empty(_) => self.report.empty += 1,
        }
    }

    #[inline]
    fn string(&mut self, key: &Key<'_>, value: &[u8]) -> Result<(), Refusal> {
        if self.expired(key) {
            self.report.expired += 1;
            return Ok(());
        }
        let lru = self.lru(key);
        let taken = self.loader.string(key.db, key.name, value, key.expire_at_ms, lru);
        self.taken(key.db, taken)
    }

    fn int(&mut self, key: &Key<'_>, value: i64) -> Result<(), Refusal> {
        if self.expired(key) {
            self.report.expired += 1;
            return Ok(());
        }
        let lru = self.lru(key);
        let taken = self.loader.int(key.db, key.name, value, key.expire_at_ms, lru);
        self.taken(key.db, taken)
    }

    fn packed(&mut self, key: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        if self.expired(key) {
            self.report.expired += 1;
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
                self.report.expired += 1;
                Ok(())
            }
            Some(mut value) => {
                if !values::complete(&mut value, &mut self.waiting) {
                    return Err(TWICE.into());
                }
                let taken = self.loader.value(db, &key, value, expire_at_ms, lru);
                self.taken(db, taken)
            }
        }
    }
}

/// The engine's collections, from what a stream tells.
mod values {
    use super::*;
    use sluice_engine::config::Limits;

    /// An empty collection, large from the beginning if `count` says that it will be. The count may lie: it
    /// makes the engine reserve a bounded room at most.
    pub(super) fn empty(kind: Kind, count: u64, limits: &Limits) -> Value {
        let count = count.min(RESERVE_ELEMENTS_MAX) as usize;
        match kind {
            Kind::List => Value::List(List::new()),
            Kind::Hash if count > limits.hash().entries => Value::Hash(Hash::with_capacity(count)),
            Kind::Hash => Value::Hash(Hash::new()),
            Kind::Set if count > limits.intset() => Value::Set(Set::with_capacity(count)),
            Kind::Set => Value::Set(Set::new()),
            Kind::ZSet => Value::ZSet(ZSet::with_capacity(count, limits.zset())),
        }
    }

    /// Adds one element; false if its field or member was there, or it does not belong in the value.
    #[inline]
    pub(super) fn add(
        value: &mut Value,
        element: Element<'_>,
        limits: &Limits,
        waiting: &mut ElementBatch,
    ) -> bool {
        match (value, element) {
            (Value::List(list), Element::Item(item)) => {
                list.push_back(item, NodeLimit::from_config(limits.list()));
                true
            }
            (Value::List(list), Element::Node(node)) => {
                list.push_packed_node(node, NodeLimit::from_config(limits.list()));
                true
            }
            (Value::Hash(hash), Element::Field(field, value)) => match hash.table_mut() {
                Some(table) => waiting.field(table, field, value),
                None => hash.set(field, value, limits.hash()),
            },
            (Value::Set(set), Element::Member(member)) => match set.table_mut() {
                Some(table) => waiting.member(table, member),
                None => set.add(member, limits.intset()),
            },
            (Value::ZSet(zset), Element::Scored(member, score)) => {
                zset.insert_new(member, score, limits.zset())
            }
            _ => false,
        }
    }

    /// Puts in what waits; false if something was there twice.
    pub(super) fn complete(value: &mut Value, waiting: &mut ElementBatch) -> bool {
        let table = match value {
            Value::Hash(hash) => hash.table_mut(),
            Value::Set(set) => set.table_mut(),
            Value::List(_) | Value::ZSet(_) => None,
        };
        table.is_none_or(|table| waiting.flush(table))
    }

    /// Takes a packed collection as it stands, if it is within the thresholds.
    pub(super) fn from_packed(packed: Packed, limits: &Limits) -> Result<Value, Refusal> {
        match packed {
            Packed::Hash(pairs) => match Hash::from_listpack(pairs, limits.hash()) {
                Ok(hash) => Ok(Value::Hash(hash)),
                Err(error) => Err(error.to_string().into()),
            },
            Packed::Set(members) => Ok(Value::Set(Set::from_intset(members, limits.intset()))),
            Packed::ZSet(pairs) => match ZSet::from_listpack(pairs, limits.zset()) {
                Ok(zset) => Ok(Value::ZSet(zset)),
                Err(error) => Err(error.to_string().into()),
            },
        }
    }
}
