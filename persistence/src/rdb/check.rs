//! Reads an RDB file to its end and says what is in it, or where it is damaged: what `check-rdb` does, and what the
//! log shows of a file that could not be loaded. Every value is built as a load would build it, and dropped.

use super::RdbError;
use super::decoder::RdbDecoder;
use super::dump::Single;
use super::format::{opcode, value_type};
use super::input::Input;
use super::reading::Step;
use super::source::FileSource;
use super::visitor::{Element, Key, Kind, Packed, RdbVisitor, Refusal, Skipped};
use crate::storage::FileReader;
use sluice_engine::internals::Limits;
use std::collections::BTreeMap;

/// Something worth telling on the way. Offsets are those behind it.
#[derive(Debug)]
pub enum CheckNote<'a> {
    /// A fact about the file.
    Aux {
        /// Behind it.
        offset: u64,
        /// Its name.
        name: &'a [u8],
        /// What it says.
        value: &'a [u8],
    },
    /// The keys that follow belong to this database.
    Database {
        /// Behind it.
        offset: u64,
        /// Its number.
        db: u32,
    },
    /// A function library, kept as it is.
    Function {
        /// Where it begins.
        offset: u64,
    },
    /// Data of a module of this name, beside the keys.
    ModuleAux {
        /// Where it begins.
        offset: u64,
        /// The module type's name.
        name: &'a str,
    },
}

/// What was found, up to the end or to the damage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Keys whose values are sound.
    pub keys: u64,
    /// Keys by the type byte of their values.
    pub types: BTreeMap<u8, u64>,
    /// Keys with an expiry.
    pub expires: u64,
    /// Keys that have expired.
    pub expired: u64,
    /// RDB version of the file; 0 where it has none.
    pub version: u32,
    /// Bytes read.
    pub offset: u64,
    /// The file says that it has no checksum.
    pub unsummed: bool,
}

/// Damage, and what was being read there.
#[derive(Debug)]
pub struct CheckError {
    /// The error; its offset is exact.
    pub error: RdbError,
    /// What was being read, in Redis' words.
    pub doing: &'static str,
    /// The key being read.
    pub key: Option<Vec<u8>>,
    /// The byte of its value's type.
    pub value_type: Option<u8>,
}

/// The name Redis' check gives a type byte.
pub fn type_name(byte: u8) -> &'static str {
    const NAMES: [&str; 26] = [
        "string",
        "list-linked",
        "set-hashtable",
        "zset-v1",
        "hash-hashtable",
        "zset-v2",
        "module-value-pre-ga",
        "module-value",
        "unknown",
        "hash-zipmap",
        "list-ziplist",
        "set-intset",
        "zset-ziplist",
        "hash-ziplist",
        "quicklist",
        "stream",
        "hash-listpack",
        "zset-listpack",
        "quicklist-v2",
        "stream-v2",
        "set-listpack",
        "stream-v3",
        "hash-hashtable-md-pre-release",
        "hash-listpack-md-pre-release",
        "hash-hashtable-md",
        "hash-listpack-md",
    ];
    NAMES.get(usize::from(byte)).copied().unwrap_or("unknown")
}

/// Checks `file`. `progress` is told how far it is.
pub fn check(
    file: &dyn FileReader,
    progress: &mut dyn FnMut(u64),
    note: &mut dyn FnMut(CheckNote<'_>),
) -> (CheckReport, Result<(), CheckError>) {
    let limits = Limits::default();
    let mut visitor = Checking {
        single: Single::new(&limits),
        note,
        report: CheckReport::default(),
        now: sluice_engine::internals::now_ms(),
        item: (0, 0),
        aux: None,
        selected: None,
        expires: None,
    };
    let mut decoder = RdbDecoder::new(FileSource::new(file));
    let outcome = loop {
        match decoder.step(&mut visitor) {
            Ok(Step::More) => progress(decoder.offset()),
            Ok(Step::Done) => break Ok(()),
            Ok(Step::Starved) => {
                let offset = decoder.offset();
                break Err(RdbError::Truncated { offset, end: offset, needed: 1 });
            }
            Err(error) => break Err(error),
        }
    };
    let (at, byte) = visitor.item;
    let mut report = visitor.report;
    (report.version, report.offset) = (decoder.version(), decoder.offset());
    let end = file.bytes().get(..decoder.offset() as usize).unwrap_or_default();
    report.unsummed = outcome.is_ok() && (report.version < 5 || end.ends_with(&[0; 8]));
    let outcome = outcome.map_err(|error| {
        let is_key = byte <= value_type::LAST && at > 0;
        let key = is_key.then(|| key_at(file.bytes(), at as usize + 1)).flatten();
        let doing = match (&error, byte) {
            _ if at == 0 => "start",
            (RdbError::Checksum { .. }, _) | (_, opcode::EOF) => "check-sum",
            (_, opcode::AUX) => "read-aux",
            (_, opcode::MODULE_AUX) => "read-module-aux",
            (_, opcode::FUNCTION2 | opcode::FUNCTION_PRE_GA) => "read-functions",
            (_, opcode::EXPIRETIME | opcode::EXPIRETIME_MS) => "read-expire",
            (_, opcode::SELECTDB | opcode::RESIZEDB) => "read-len",
            (RdbError::Truncated { offset, end, .. }, _) if offset == end && *offset != at => "read-type",
            _ if key.is_some() => "read-object-value",
            _ if is_key => "read-key",
            _ => "read-type",
        };
        CheckError { error, doing, key, value_type: is_key.then_some(byte) }
    });
    (report, outcome)
}

/// The string at `at`, if it is whole.
fn key_at(bytes: &[u8], at: usize) -> Option<Vec<u8>> {
    Input::new(bytes.get(at..)?, false).owned().ok()
}

struct Checking<'a, 'n> {
    single: Single<'a>,
    note: &'n mut dyn FnMut(CheckNote<'_>),
    report: CheckReport,
    now: i64,
    /// Where the item being read begins, and its first byte.
    item: (u64, u8),
    /// Told with the offset behind them, which is where the next item begins.
    aux: Option<(Vec<u8>, Vec<u8>)>,
    selected: Option<u64>,
    /// Expiry of the collection being told.
    expires: Option<i64>,
}

impl Checking<'_, '_> {
    fn database(&mut self, db: u32) {
        if let Some(offset) = self.selected.take() {
            (self.note)(CheckNote::Database { offset, db });
        }
    }

    fn sound(&mut self, expires: Option<i64>) {
        self.report.keys += 1;
        *self.report.types.entry(self.item.1).or_default() += 1;
        if let Some(at) = expires {
            self.report.expires += 1;
            self.report.expired += u64::from(at < self.now);
        }
    }
}

impl RdbVisitor for Checking<'_, '_> {
    fn item(&mut self, offset: u64, first: u8) {
        if let Some((name, value)) = self.aux.take() {
            (self.note)(CheckNote::Aux { offset, name: &name, value: &value });
        }
        if self.item.1 == opcode::SELECTDB {
            self.selected = Some(offset);
        }
        self.item = (offset, first);
    }

    fn aux(&mut self, name: &[u8], value: &[u8]) {
        self.aux = Some((name.to_vec(), value.to_vec()));
    }

    fn db_size(&mut self, db: u32, _keys: u64, _expiring: u64) {
        self.database(db);
    }

    fn skipped(&mut self, what: Skipped<'_>) {
        let offset = self.item.0;
        match what {
            Skipped::Function => (self.note)(CheckNote::Function { offset }),
            Skipped::ModuleAux(name) => (self.note)(CheckNote::ModuleAux { offset, name: &name }),
            // Redis' check counts them as keys too.
            Skipped::Empty(_) => self.sound(None),
        }
    }

    fn string(&mut self, key: &Key<'_>, _: &[u8]) -> Result<(), Refusal> {
        self.database(key.db);
        self.sound(key.expire_at_ms);
        Ok(())
    }

    fn int(&mut self, key: &Key<'_>, _: i64) -> Result<(), Refusal> {
        self.string(key, b"")
    }

    fn packed(&mut self, key: &Key<'_>, value: Packed) -> Result<(), Refusal> {
        self.database(key.db);
        self.single.packed(key, value)?;
        self.sound(key.expire_at_ms);
        Ok(())
    }

    fn begin(&mut self, key: &Key<'_>, kind: Kind, count: u64) -> Result<(), Refusal> {
        self.database(key.db);
        self.expires = key.expire_at_ms;
        self.single.begin(key, kind, count)
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Refusal> {
        self.single.element(element)
    }

    fn end(&mut self) -> Result<(), Refusal> {
        self.single.end()?;
        self.sound(self.expires);
        Ok(())
    }
}
