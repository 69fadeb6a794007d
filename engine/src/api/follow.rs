//! Following another engine: its cut taken in, then its log applied.
//!
//! A follower is what a replica is: what it holds is what the other held at an offset of the log. It keeps
//! no clock of its own for the other's keys: one whose time is up is hidden, and stays until the log deletes it.

use super::STALL_PAUSE;
use crate::command::Flags;
use crate::cut::{Cut, CutSink, Element, EntryMeta, HugeKind, Step};
use crate::engine::{Engine, Outcome, Request};
use crate::entry::MAX_STRING_LEN;
use crate::error::{Error, Result};
use crate::load::Loader;
use crate::resp::{ParseState, Parsed, resume};
use crate::session::Session;
use crate::value::list::{NodeLimit, NodeView};
use crate::value::{Hash, List, Opaque, Set, TypeName, Value, ValueView, ZSet};
use std::sync::Arc;

/// Most bytes of a command of the log that has not come whole.
const MAX_PARTIAL: usize = 8 << 30;
/// Bytes of a command's name that an error shows.
const SHOWN_NAME: usize = 64;
/// Bytes of a cut taken in one step.
const CUT_STEP: usize = 64 << 10;

/// How far an engine has come in the log of another: see [`Engine::apply`].
pub struct Follower {
    engine: Engine,
    session: Session,
    /// Up to here everything is applied.
    applied: u64,
    /// What has come of the next command.
    partial: Vec<u8>,
    request: ParseState,
    failed: Option<ApplyError>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("offset", &self.offset()).field("applied", &self.applied).finish()
    }
}

impl Follower {
    /// The offset of the next byte it takes.
    pub fn offset(&self) -> u64 {
        self.applied + self.partial.len() as u64
    }

    /// The offset behind the last command that came whole: what is before has been applied, but for the commands of a
    /// block whose end is to come.
    pub fn applied(&self) -> u64 {
        self.applied
    }
}

/// Why a log cannot be applied any further. Everything before the offset is; what the log is of and what the follower holds
/// are no longer the same, so it takes a new cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The engine is no replica any more and goes its own way.
    #[error("the engine stands for itself since offset {offset} of the log")]
    Promoted {
        /// Up to which everything is applied.
        offset: u64,
    },
    /// The bytes are no log.
    #[error("the log is broken at offset {offset}: {why}")]
    Malformed {
        /// Of the command.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such command here.
    #[error("the command '{name}' at offset {offset} of the log is unknown")]
    Unknown {
        /// Of the command.
        offset: u64,
        /// Its name.
        name: String,
    },
    /// A command that had an effect where the log is from has none here.
    #[error("the command '{name}' at offset {offset} of the log was refused: {error}")]
    Refused {
        /// Of the command.
        offset: u64,
        /// Its name.
        name: String,
        /// What it was refused for.
        error: Error,
    },
}

/// # Following another engine
impl Engine {
    /// Takes in a whole cut, in place of what is here, and goes on as a follower of the engine it is of: its
    /// log from there on is for [`Engine::apply`]. Readers see what was here until all has come, then the cut.
    ///
    /// The engine becomes a replica ([`Engine::set_replica`]). Its own log, where it records one, is the other's: what is applied is
    /// in it at the same offsets, for followers of this one.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`]: the cut has keys in a database that is not here. Nothing has changed then.
    pub fn load_cut(&self, cut: &mut Cut) -> Result<Follower> {
        let beside = self.beside();
        let mut loading = Loading { loader: beside.loader(), huge: None, complete: true };
        while cut.step(&mut loading, CUT_STEP) == Step::More {}
        if !loading.complete {
            return Err(Error::NoSuchDatabase);
        }
        loading.loader.finish();
        beside.carry(cut.carried());
        self.set_replica(true);
        self.adopt(beside);
        Ok(self.follower(cut.offset(), cut.stream_db()))
    }

    /// A follower from `offset` of another's log on, where `db` is selected, for who brought the state of that
    /// offset by other means. The engine becomes a replica, as in [`Engine::load_cut`].
    ///
    /// # Panics
    /// Where there is no such database.
    pub fn follower(&self, offset: u64, db: u32) -> Follower {
        assert!(db < self.databases(), "there is no database {db} of {}", self.databases());
        self.set_replica(true);
        self.log().reset(offset);
        self.log().set_selected(db);
        let mut session = self.session();
        session.from_primary = true;
        session.db = db;
        Follower {
            engine: self.clone(),
            session,
            applied: offset,
            partial: Vec::new(),
            request: ParseState::default(),
            failed: None,
        }
    }

    /// Applies the next bytes of the log that is followed, of which the first is that at [`Follower::offset`]. They may end
    /// anywhere: a command that has not come whole waits for its rest. It is the other side of [`LogReader::read`](crate::LogReader::read).
    ///
    ///
    /// ```
    /// use sluice_engine::Engine;
    ///
    /// let source = Engine::default();
    /// source.db(0).set("before", "1")?;
    /// let (mut cut, mut log) = source.begin_cut_with_log()?;
    ///
    /// let copy = Engine::default();
    /// let mut follower = copy.load_cut(&mut cut)?;
    /// source.db(0).set("after", "2")?;
    /// source.transaction(3, |db| db.incr_by("visits", 7))?;
    /// // As they would come by a socket: in pieces that know no commands.
    /// while log.lag() > 0 {
    ///     copy.apply(&mut follower, &log.read(10)?)?;
    /// }
    /// assert_eq!(follower.applied(), source.log().end());
    /// assert_eq!(copy.db(0).get_many(&["before", "after"]), source.db(0).get_many(&["before", "after"]));
    /// assert_eq!(copy.db(3).get("visits")?.as_deref(), Some(b"7".as_slice()));
    /// copy.set_replica(false); // it stands for itself now
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// With the offset of a command that cannot be applied. The same error comes from then on.
    ///
    /// # Panics
    /// Where another engine made the follower.
    pub fn apply(&self, follower: &mut Follower, bytes: &[u8]) -> std::result::Result<(), ApplyError> {
        assert!(Arc::ptr_eq(&self.inner, &follower.engine.inner), "the follower is of another engine");
        if let Some(e) = &follower.failed {
            return Err(e.clone());
        }
        if !self.inner.role.get().is_replica() {
            return Err(ApplyError::Promoted { offset: follower.applied });
        }
        let mut partial = std::mem::take(&mut follower.partial);
        let (input, waited) = if partial.is_empty() {
            (bytes, false)
        } else {
            partial.extend_from_slice(bytes);
            (&partial[..], true)
        };
        match self.apply_whole(follower, input) {
            Ok(used) if waited => {
                partial.drain(..used);
                follower.partial = partial;
            }
            Ok(used) => follower.partial.extend_from_slice(&bytes[used..]),
            Err(e) => {
                follower.failed = Some(e.clone());
                return Err(e);
            }
        }
        Ok(())
    }

    /// Applies the whole commands at the front of `input`; returns how many bytes they are.
    fn apply_whole(&self, follower: &mut Follower, input: &[u8]) -> std::result::Result<usize, ApplyError> {
        let mut at = 0;
        let mut reply = Vec::new();
        loop {
            let rest = &input[at..];
            let broken = |offset, why: &str| Err(ApplyError::Malformed { offset, why: why.to_owned() });
            let offset = follower.applied;
            match resume(rest, MAX_STRING_LEN, true, &mut follower.request) {
                Parsed::Command { args, used, canonical } if canonical && !args.is_empty() => {
                    self.apply_one(follower, &args, &rest[..used], &mut reply)?;
                    follower.applied += used as u64;
                    at += used;
                }
                Parsed::Incomplete(needed) if rest.len().max(needed) > MAX_PARTIAL => {
                    return broken(offset, "a command is too long");
                }
                Parsed::Incomplete(_) => return Ok(at),
                Parsed::Command { .. } | Parsed::Quoted { .. } => {
                    return broken(offset, "a command is not written as a log writes it");
                }
                Parsed::Invalid(why) => return broken(offset, &why),
            }
        }
    }

    fn apply_one(
        &self,
        follower: &mut Follower,
        args: &[&[u8]],
        raw: &[u8],
        reply: &mut Vec<u8>,
    ) -> std::result::Result<(), ApplyError> {
        let offset = follower.applied;
        let name = || String::from_utf8_lossy(&args[0][..args[0].len().min(SHOWN_NAME)]).into_owned();
        let session = &mut follower.session;
        let Some(row) = self.lookup_trusted(args[0]) else {
            return Err(ApplyError::Unknown { offset, name: name() });
        };
        reply.clear();
        loop {
            match self.call(session, row, Request { args, raw: Some(raw) }, reply) {
                Outcome::Stalled => std::thread::sleep(STALL_PAUSE),
                Outcome::Refused => {
                    let line = reply.strip_prefix(b"-").and_then(|line| line.strip_suffix(b"\r\n"));
                    let error = Error::of_line(&String::from_utf8_lossy(line.unwrap_or_default()));
                    return Err(ApplyError::Refused { offset, name: name(), error });
                }
                Outcome::External if row.command.flags.contains(Flags::WRITE) => {
                    return Err(ApplyError::Unknown { offset, name: name() });
                }
                // It changes no data.
                Outcome::External => {
                    self.relay_unknown(session, raw);
                    return Ok(());
                }
                Outcome::Done | Outcome::Blocked | Outcome::Interrupted => break,
            }
        }
        match std::mem::take(&mut session.exec_errors).into_iter().next() {
            Some(error) => Err(ApplyError::Refused { offset, name: name(), error }),
            None => Ok(()),
        }
    }
}

/// Where and how a value whose elements come in is to be kept.
struct Place {
    db: u32,
    key: Vec<u8>,
    expire_at_ms: Option<i64>,
    lru: u32,
}

/// What of it has come.
enum Coming {
    Elements(Value),
    Bytes(TypeName, Vec<u8>),
}

/// Loads what a cut delivers.
struct Loading {
    loader: Loader,
    huge: Option<(Place, Coming)>,
    /// Every key found its database.
    complete: bool,
}

impl Loading {
    fn load(&mut self, meta: &EntryMeta<'_>, value: Value) {
        // False tells of keys that were there, too; a cut delivers each once.
        self.complete &= meta.db < self.loader.databases();
        self.loader.value(meta.db, meta.key, value, meta.expire_at_ms, meta.lru);
    }
}

impl CutSink for Loading {
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
        let EntryMeta { db, key, expire_at_ms, lru } = *meta;
        let value = match value {
            ValueView::Str(text) => {
                self.complete &= db < self.loader.databases();
                self.loader.string(db, key, text, expire_at_ms, lru);
                return;
            }
            ValueView::Int(n) => {
                self.complete &= db < self.loader.databases();
                self.loader.int(db, key, n, expire_at_ms, lru);
                return;
            }
            ValueView::List(list) => Value::List(list.clone()),
            ValueView::Hash(hash) => Value::Hash(hash.clone()),
            ValueView::Set(set) => Value::Set(set.clone()),
            ValueView::ZSet(zset) => Value::ZSet(zset.clone()),
            ValueView::Opaque(opaque) => Value::Opaque(opaque.clone()),
        };
        self.load(meta, value);
    }

    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, _: u64) {
        let EntryMeta { db, key, expire_at_ms, lru } = *meta;
        let coming = match kind {
            HugeKind::Hash => Coming::Elements(Value::Hash(Hash::new())),
            HugeKind::Set => Coming::Elements(Value::Set(Set::new())),
            HugeKind::ZSet => Coming::Elements(Value::ZSet(ZSet::new())),
            HugeKind::List => Coming::Elements(Value::List(List::new())),
            HugeKind::Opaque(name, first) => Coming::Bytes(name, vec![first]),
        };
        self.huge = Some((Place { db, key: key.to_vec(), expire_at_ms, lru }, coming));
    }

    fn element(&mut self, element: Element<'_>) {
        let limits = self.loader.limits();
        let value = match self.huge.as_mut() {
            Some((_, Coming::Elements(value))) => value,
            Some((_, Coming::Bytes(_, all))) => {
                if let Element::Bytes(bytes) = element {
                    all.extend_from_slice(bytes);
                }
                return;
            }
            None => return,
        };
        match (value, element) {
            (Value::Hash(hash), Element::Field(field, text)) => {
                hash.set(field, text, limits.hash());
            }
            (Value::Set(set), Element::Member(member)) => {
                set.add(member, limits.intset());
            }
            (Value::ZSet(zset), Element::Scored(member, score)) => {
                zset.insert(member, score, limits.zset());
            }
            (Value::List(list), Element::Node(NodeView::Packed(node))) => {
                list.push_packed_node(node.clone(), NodeLimit::from_config(limits.list()));
            }
            (Value::List(list), Element::Node(NodeView::Plain(text))) => {
                list.push_plain_node(text.to_vec(), NodeLimit::from_config(limits.list()));
            }
            _ => debug_assert!(false, "a cut delivers elements of the value that began"),
        }
    }

    fn end_huge(&mut self) {
        let Some((place, coming)) = self.huge.take() else { return };
        let value = match coming {
            Coming::Elements(value) => value,
            Coming::Bytes(name, bytes) => match Opaque::new(name, bytes) {
                Some(opaque) => Value::Opaque(opaque),
                None => return,
            },
        };
        let Place { db, key, expire_at_ms, lru } = &place;
        self.load(&EntryMeta { db: *db, key, expire_at_ms: *expire_at_ms, lru: *lru }, value);
    }

    fn pending(&self) -> usize {
        0
    }
}
