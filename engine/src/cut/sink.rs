//! What a cut delivers, and to whom: the consumer's side.

use crate::value::ValueView;
use crate::value::list::NodeView;

pub use crate::value::HugeKind;

/// Where and how a value is kept.
#[derive(Clone, Copy, Debug)]
pub struct EntryMeta<'a> {
    /// Database number as of the cut.
    pub db: u32,
    /// The key.
    pub key: &'a [u8],
    /// Expiry in Unix milliseconds.
    pub expire_at_ms: Option<i64>,
    /// LRU clock in seconds (24 bits) at the last access.
    pub lru: u32,
}

/// One element of a huge value.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// A hash field and its value.
    Field(&'a [u8], &'a [u8]),
    /// A set member.
    Member(&'a [u8]),
    /// A sorted set member and its score.
    Scored(&'a [u8], f64),
    /// A list node.
    Node(NodeView<'a>),
    /// The next bytes of an opaque value.
    Bytes(&'a [u8]),
}

/// The consumer of a cut. Its methods may run with a shard lock held: they copy or encode, and do no I/O.
///
/// Most keys come whole. A huge value comes element by element, so that neither it nor what it takes to deliver it stops
/// anyone. Between two steps the consumer writes what it has gathered, at its own pace.
///
/// ```
/// use sluice_engine::{CutSink, Element, Engine, EntryMeta, HugeKind, Step, ValueView};
///
/// /// Lines of text: keys, and what is in strings and hashes.
/// #[derive(Default)]
/// struct Dump {
///     text: String,
/// }
///
/// impl CutSink for Dump {
///     fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>) {
///         self.text += &format!("{} ", meta.key.escape_ascii());
///         match value {
///             ValueView::Str(bytes) => self.text += &bytes.escape_ascii().to_string(),
///             ValueView::Int(n) => self.text += &n.to_string(),
///             ValueView::Hash(hash) => {
///                 for (field, value) in hash.iter() {
///                     self.text += &format!("{}={};", field.to_vec().escape_ascii(), value.to_vec().escape_ascii());
///                 }
///             }
///             _ => {}
///         }
///         self.text += "\n";
///     }
///     fn begin_huge(&mut self, meta: &EntryMeta<'_>, _: HugeKind, _elements: u64) {
///         self.text += &format!("{} ", meta.key.escape_ascii());
///     }
///     fn element(&mut self, element: Element<'_>) {
///         if let Element::Field(field, value) = element {
///             self.text += &format!("{}={};", field.escape_ascii(), value.escape_ascii());
///         }
///     }
///     fn end_huge(&mut self) {
///         self.text += "\n";
///     }
///     fn pending(&self) -> usize {
///         self.text.len()
///     }
/// }
///
/// let engine = Engine::default();
/// engine.db(0).set("greeting", "hello")?;
/// engine.db(0).hset("user:1", "name", "Ada")?;
/// (0..200).try_for_each(|n| engine.db(0).hset("huge", n.to_string(), "x").map(|_| ()))?;
///
/// let mut cut = engine.begin_cut()?;
/// engine.db(0).set("greeting", "too late")?;
/// let (mut dump, mut file) = (Dump::default(), Vec::new());
/// loop {
///     let step = cut.step(&mut dump, 64 << 10);
///     file.extend(std::mem::take(&mut dump.text).into_bytes()); // here it may take its time
///     if step == Step::Done {
///         break;
///     }
/// }
/// let text = String::from_utf8(file)?;
/// assert!(text.contains("greeting hello\n") && text.contains("user:1 name=Ada;\n"));
/// assert_eq!(text.matches("=x;").count(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CutSink {
    /// One whole key.
    fn entry(&mut self, meta: &EntryMeta<'_>, value: ValueView<'_>);
    /// A huge value begins; exactly `count` calls of `element` follow (but see [`HugeKind::Opaque`]), over any number
    /// of steps, then `end_huge`.
    fn begin_huge(&mut self, meta: &EntryMeta<'_>, kind: HugeKind, count: u64);
    /// One element of the huge value that began.
    fn element(&mut self, element: Element<'_>);
    /// The huge value is complete.
    fn end_huge(&mut self);
    /// Bytes gathered and not yet taken by the consumer.
    fn pending(&self) -> usize;
}
