//! The listpack: a short list of strings and integers in one run of bytes, readable from both ends.
//!
//! ```text
//! +----------------------+---------------------+---------+-----+---------+------+
//! | total bytes: u32 LE  | elements: u16 LE    | entry 0 | ... | entry n | 0xFF |
//! |                      | (65535: count them) |         |     |         |      |
//! +----------------------+---------------------+---------+-----+---------+------+
//!
//! entry:  | encoding and data (n bytes) | back length: n, in 1 to 5 bytes, read right to left |
//!
//! encoding and data
//!   0xxxxxxx                          integer 0..=127
//!   10xxxxxx  data                    string of up to 63 bytes
//!   110xxxxx  xxxxxxxx                integer of 13 bits, two's complement
//!   1110xxxx  xxxxxxxx  data          string of up to 4095 bytes
//!   11110000  length: u32 LE  data    string
//!   111100nn  integer LE              nn = 01, 10, 11: 16, 24, 32 bits
//!   11110100  integer LE              64 bits
//! ```
//!
//! An element that reads as an integer in its one spelling ([`parse_i64`]) is stored as one, as Redis
//! does, so the bytes are equal to those Redis would hold. Entries are addressed by [`Pos`], a byte
//! offset; it stays valid until something before it, or itself, changes.

use super::{EncodingError, roomy};
use crate::num::{parse_f64, parse_i64};

const HEADER: usize = 6;
const END: u8 = 0xFF;
/// The element count that stands for "too many for 16 bits".
const COUNT_UNKNOWN: u16 = u16::MAX;
/// No listpack may grow past this, as in Redis; see [`Listpack::fits`].
pub const MAX_BYTES: usize = 1 << 30;
/// What an entry may take beside its data: five bytes of encoding and five of back length.
const MAX_ENTRY_OVERHEAD: usize = 10;

/// One element, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LpValue<'a> {
    /// An integer; its text is its one decimal spelling.
    Int(i64),
    /// Anything else.
    Str(&'a [u8]),
}

impl<'a> LpValue<'a> {
    /// Whether the element's text is `text`.
    pub fn eq_bytes(&self, text: &[u8]) -> bool {
        match self {
            Self::Int(value) => parse_i64(text) == Some(*value),
            Self::Str(bytes) => *bytes == text,
        }
    }

    /// The element's text; `buffer` holds it if it must be printed first.
    pub fn as_bytes<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Int(value) => buffer.format(*value).as_bytes(),
            Self::Str(bytes) => bytes,
        }
    }

    /// Appends the element's text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes(&mut itoa::Buffer::new()));
    }

    /// The element's text, owned.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// The length of the element's text.
    pub fn text_len(&self) -> usize {
        match self {
            Self::Int(value) => itoa::Buffer::new().format(*value).len(),
            Self::Str(bytes) => bytes.len(),
        }
    }

    /// The element as an integer, if it is one.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Str(bytes) => parse_i64(bytes),
        }
    }

    /// The element as a double, if it is one: the score of a small sorted set.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Str(bytes) => parse_f64(bytes),
        }
    }
}

/// The place of an entry. Using it on another listpack, or after a change before it, is a mistake that
/// yields wrong elements or a panic, never undefined behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

impl Pos {
    fn new(offset: usize) -> Self {
        debug_assert!(offset <= MAX_BYTES);
        Self(offset as u32)
    }

    fn offset(self) -> usize {
        self.0 as usize
    }
}

/// An owned listpack.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl Listpack {
    /// An empty listpack.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty listpack with room for `bytes` bytes, its header included.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut lp = Self { bytes: Vec::with_capacity(roomy(bytes.max(HEADER + 1))) };
        lp.bytes.extend_from_slice(&[0; HEADER]);
        lp.bytes.push(END);
        lp.set_total();
        lp
    }

    /// Takes bytes from outside, for instance from an RDB file, after checking all of them: header,
    /// every entry's encoding, length and back length, the end mark and the count.
    ///
    /// # Errors
    /// The first fault, with its offset.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, EncodingError> {
        validate(&bytes)?;
        Ok(Self { bytes })
    }

    /// The whole encoding, header and end mark included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of [`Self::as_bytes`].
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many elements there are. Counts them if there are 65535 or more, else reads the header.
    pub fn len(&self) -> usize {
        match self.header_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes[HEADER] == END
    }

    /// Whether an element of `len` bytes may be added without passing [`MAX_BYTES`]. Callers convert
    /// to a larger encoding long before; the one who raises its thresholds must ask.
    pub fn fits(&self, len: usize) -> bool {
        len.saturating_add(self.bytes.len() + MAX_ENTRY_OVERHEAD) <= MAX_BYTES
    }

    // Navigation.

    /// The first entry.
    pub fn first(&self) -> Option<Pos> {
        self.entry_or_end(HEADER)
    }

    /// The last entry.
    pub fn last(&self) -> Option<Pos> {
        self.entry_before(self.end())
    }

    /// The entry after `pos`.
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.entry_or_end(skip(&self.bytes, pos.offset()))
    }

    /// The entry before `pos`.
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.entry_before(pos.offset())
    }

    /// The entry at `index`, counted from the end if negative (-1 is the last), reached from the nearer end.
    pub fn at(&self, index: i64) -> Option<Pos> {
        let len = self.len() as i64;
        let index = if index < 0 { index + len } else { index };
        if !(0..len).contains(&index) {
            return None;
        }
        if index <= len / 2 {
            let offset = (0..index).fold(HEADER, |offset, _| skip(&self.bytes, offset));
            Some(Pos::new(offset))
        } else {
            (0..len - index).try_fold(Pos::new(self.end()), |pos, _| self.prev(pos))
        }
    }

    /// The element at `pos`.
    #[inline]
    pub fn value(&self, pos: Pos) -> LpValue<'_> {
        decode(&self.bytes, pos.offset()).0
    }

    /// The element at `index`, as [`Self::at`].
    pub fn get(&self, index: i64) -> Option<LpValue<'_>> {
        self.at(index).map(|pos| self.value(pos))
    }

    /// All elements in order, from either end.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: &self.bytes, front: HEADER, back: self.end() }
    }

    /// The elements from `pos` to the end.
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter { front: pos.offset(), ..self.iter() }
    }

    /// The elements up to and with `pos`; meant to be read backwards.
    pub fn iter_to(&self, pos: Pos) -> Iter<'_> {
        Iter { back: skip(&self.bytes, pos.offset()), ..self.iter() }
    }

    /// The first element equal to `needle`, looking at one and leaving out the next `skip_between`:
    /// 1 finds a field among field-value pairs.
    pub fn find(&self, needle: &[u8], skip_between: usize) -> Option<Pos> {
        self.find_from(self.first()?, needle, skip_between)
    }

    /// As [`Self::find`], beginning at `from`.
    pub fn find_from(&self, from: Pos, needle: &[u8], skip_between: usize) -> Option<Pos> {
        let needle_int = parse_i64(needle);
        let bytes = &self.bytes[..];
        let mut offset = from.offset();
        while bytes[offset] != END {
            let (value, size) = decode(bytes, offset);
            let found = match value {
                LpValue::Str(text) => text == needle,
                LpValue::Int(value) => needle_int == Some(value),
            };
            if found {
                return Some(Pos::new(offset));
            }
            offset += size + back_len(size);
            for _ in 0..skip_between {
                if bytes[offset] == END {
                    return None;
                }
                offset = skip(bytes, offset);
            }
        }
        None
    }

    // Changes.

    /// Adds `text` at the end.
    pub fn push_back(&mut self, text: &[u8]) {
        self.splice(self.end(), 0, 0, Some(text));
    }

    /// Adds `text` at the start.
    pub fn push_front(&mut self, text: &[u8]) {
        self.splice(HEADER, 0, 0, Some(text));
    }

    /// Adds `text` before `pos` and returns its place; what was there follows it.
    pub fn insert_before(&mut self, pos: Pos, text: &[u8]) -> Pos {
        self.splice(pos.offset(), 0, 0, Some(text));
        pos
    }

    /// Adds `text` after `pos` and returns its place.
    pub fn insert_after(&mut self, pos: Pos, text: &[u8]) -> Pos {
        let offset = skip(&self.bytes, pos.offset());
        self.splice(offset, 0, 0, Some(text));
        Pos::new(offset)
    }

    /// Puts `text` in the place of the element at `pos`, which stays valid.
    pub fn replace(&mut self, pos: Pos, text: &[u8]) {
        let old = skip(&self.bytes, pos.offset()) - pos.offset();
        self.splice(pos.offset(), old, 1, Some(text));
    }

    /// Removes the element at `pos`; the place of the one that followed it, if any.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_run(pos, 1)
    }

    /// Removes up to `count` elements from `pos` on; the place of the one that followed them, if any.
    pub fn remove_run(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let (mut end, mut removed) = (pos.offset(), 0);
        while removed < count && self.bytes[end] != END {
            end = skip(&self.bytes, end);
            removed += 1;
        }
        self.splice(pos.offset(), end - pos.offset(), removed, None);
        self.entry_or_end(pos.offset())
    }

    /// Removes up to `count` elements from `index` on (negative: from the end), if it exists.
    pub fn remove_range(&mut self, index: i64, count: usize) {
        if let Some(pos) = self.at(index) {
            self.remove_run(pos, count);
        }
    }

    /// Appends all elements of `other`.
    pub fn append(&mut self, other: &Self) {
        let count = self.len() + other.len();
        let entries = &other.bytes[HEADER..other.end()];
        self.bytes.pop();
        self.grow_to(self.bytes.len() + entries.len() + 1);
        self.bytes.extend_from_slice(entries);
        self.bytes.push(END);
        self.set_total();
        self.set_count(count);
    }

    /// Cuts off the elements from `index` on and returns them.
    pub fn split_off(&mut self, index: usize) -> Self {
        let Some(pos) = self.at(index as i64) else {
            return Self::new();
        };
        let moved = self.len() - index;
        let mut tail = Self::with_capacity(HEADER + self.bytes.len() - pos.offset());
        tail.bytes.pop();
        tail.bytes.extend_from_slice(&self.bytes[pos.offset()..]);
        tail.set_total();
        tail.set_count(moved);
        self.splice(pos.offset(), self.end() - pos.offset(), moved, None);
        tail
    }

    // Below this line: bytes.

    /// The offset of the end mark.
    fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    fn entry_or_end(&self, offset: usize) -> Option<Pos> {
        (self.bytes[offset] != END).then(|| Pos::new(offset))
    }

    fn entry_before(&self, offset: usize) -> Option<Pos> {
        (offset > HEADER).then(|| Pos::new(entry_before(&self.bytes, offset)))
    }

    fn header_count(&self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    fn set_count(&mut self, count: usize) {
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    fn set_total(&mut self) {
        let total = u32::try_from(self.bytes.len()).expect("callers keep a listpack below MAX_BYTES");
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
    }

    fn grow_to(&mut self, len: usize) {
        if len > self.bytes.capacity() {
            self.bytes.reserve_exact(roomy(len) - self.bytes.len());
        }
    }

    /// Replaces the `old` bytes at `offset`, which are `removed` whole entries, by one for `text`.
    fn splice(&mut self, offset: usize, old: usize, removed: usize, text: Option<&[u8]>) {
        let entry = text.map(Encoded::new);
        let new = entry.as_ref().map_or(0, Encoded::len);
        let count = match self.header_count() {
            // Saturates to "unknown" by itself at 65535.
            count if count != COUNT_UNKNOWN => {
                Some(usize::from(count) - removed + usize::from(entry.is_some()))
            }
            _ => None,
        };

        let len = self.bytes.len();
        if new > old {
            self.grow_to(len + new - old);
            self.bytes.resize(len + new - old, 0);
        }
        if new != old {
            self.bytes.copy_within(offset + old..len, offset + new);
            self.bytes.truncate(len + new - old);
        }
        if let Some(entry) = entry {
            entry.write(&mut self.bytes[offset..offset + new]);
        }
        if self.bytes.capacity() > 2 * self.bytes.len() + 64 {
            self.bytes.shrink_to(roomy(self.bytes.len()));
        }
        self.set_total();
        match count {
            Some(count) => self.set_count(count),
            // Rare and long: find out whether the count fits the header again.
            None if removed > 0 => self.set_count(self.iter().count()),
            None => {}
        }
    }
}

/// Elements of a listpack, from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = LpValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<LpValue<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (value, size) = decode(self.bytes, self.front);
        self.front += size + back_len(size);
        Some(value)
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<LpValue<'a>> {
        if self.front >= self.back {
            return None;
        }
        self.back = entry_before(self.bytes, self.back);
        Some(decode(self.bytes, self.back).0)
    }
}

/// An element ready to be written: its head (all of it, for an integer), data and back length.
struct Encoded<'a> {
    head: [u8; 9],
    head_len: usize,
    data: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn new(text: &'a [u8]) -> Self {
        match parse_i64(text) {
            Some(value) => Self::integer(value),
            None => Self::string(text),
        }
    }

    fn with_head(head: &[u8], data: &'a [u8]) -> Self {
        let mut encoded = Self { head: [0; 9], head_len: head.len(), data };
        encoded.head[..head.len()].copy_from_slice(head);
        encoded
    }

    fn integer(value: i64) -> Self {
        let raw = value.to_le_bytes();
        let marked = |mark: u8, width: usize| {
            let mut head = [mark; 9];
            head[1..].copy_from_slice(&raw);
            Self::with_head(&head[..=width], &[])
        };
        match value {
            0..=127 => Self::with_head(&raw[..1], &[]),
            -4096..=4095 => Self::with_head(&[0xC0 | (raw[1] & 0x1F), raw[0]], &[]),
            -0x8000..=0x7FFF => marked(0xF1, 2),
            -0x80_0000..=0x7F_FFFF => marked(0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => marked(0xF3, 4),
            _ => marked(0xF4, 8),
        }
    }

    fn string(text: &'a [u8]) -> Self {
        let len = text.len() as u32;
        let [a, b, c, d] = len.to_le_bytes();
        match len {
            0..=63 => Self::with_head(&[0x80 | a], text),
            64..=4095 => Self::with_head(&[0xE0 | b, a], text),
            _ => Self::with_head(&[0xF0, a, b, c, d], text),
        }
    }

    /// Bytes of encoding and data, which the back length tells.
    fn size(&self) -> usize {
        self.head_len + self.data.len()
    }

    fn len(&self) -> usize {
        self.size() + back_len(self.size())
    }

    fn write(&self, out: &mut [u8]) {
        let size = self.size();
        out[..self.head_len].copy_from_slice(&self.head[..self.head_len]);
        out[self.head_len..size].copy_from_slice(self.data);
        write_back(size, &mut out[size..]);
    }
}

/// How many bytes the back length of an entry of `size` bytes takes. The bounds are Redis', each one
/// short of what would fit.
#[inline]
fn back_len(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

/// Writes a back length over all of `out`: seven bits a byte, every byte but the first marked, so
/// that reading from the right stops at the first.
fn write_back(size: usize, out: &mut [u8]) {
    let mut rest = size;
    for byte in out.iter_mut().rev() {
        *byte = (rest & 0x7F) as u8 | 0x80;
        rest >>= 7;
    }
    out[0] &= 0x7F;
}

/// The start of the entry that ends at `end`.
#[inline]
fn entry_before(bytes: &[u8], end: usize) -> usize {
    let (mut size, mut shift, mut at) = (0, 0, end - 1);
    loop {
        size |= usize::from(bytes[at] & 0x7F) << shift;
        if bytes[at] & 0x80 == 0 {
            return at - size;
        }
        (shift, at) = (shift + 7, at - 1);
    }
}

/// The offset behind the entry at `offset`.
#[inline]
fn skip(bytes: &[u8], offset: usize) -> usize {
    let size = decode(bytes, offset).1;
    offset + size + back_len(size)
}

/// The element at `offset` of checked bytes, and the size of its encoding and data.
#[inline]
fn decode(bytes: &[u8], offset: usize) -> (LpValue<'_>, usize) {
    let entry = &bytes[offset..];
    let first = entry[0];
    let string = |head: usize, len: usize| (LpValue::Str(&entry[head..head + len]), head + len);
    match first {
        0x00..=0x7F => (LpValue::Int(i64::from(first)), 1),
        0x80..=0xBF => string(1, usize::from(first & 0x3F)),
        0xC0..=0xDF => {
            let bits = u16::from(first & 0x1F) << 8 | u16::from(entry[1]);
            // Shifting up and back down spreads the sign of the 13 bits.
            (LpValue::Int(i64::from(((bits << 3) as i16) >> 3)), 2)
        }
        0xE0..=0xEF => string(2, usize::from(first & 0x0F) << 8 | usize::from(entry[1])),
        0xF0 => string(5, u32::from_le_bytes([entry[1], entry[2], entry[3], entry[4]]) as usize),
        mark => {
            let width = integer_width(mark).expect("validated bytes hold no other encoding");
            let mut raw = [0; 8];
            raw[8 - width..].copy_from_slice(&entry[1..=width]);
            (LpValue::Int(i64::from_le_bytes(raw) >> (64 - 8 * width)), 1 + width)
        }
    }
}

/// The data bytes of the wide integer encodings.
fn integer_width(mark: u8) -> Option<usize> {
    match mark {
        0xF1 => Some(2),
        0xF2 => Some(3),
        0xF3 => Some(4),
        0xF4 => Some(8),
        _ => None,
    }
}

/// Checks every byte that [`decode`] and the navigation will later rely on.
fn validate(bytes: &[u8]) -> Result<(), EncodingError> {
    let length = bytes.len();
    let error = |offset, reason| EncodingError { encoding: "listpack", offset, length, reason };
    if length <= HEADER {
        return Err(error(0, "shorter than header and end mark"));
    }
    if length > MAX_BYTES {
        return Err(error(0, "longer than a listpack may be"));
    }
    if u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize != length {
        return Err(error(0, "total disagrees with the bytes"));
    }
    let end = length - 1;
    if bytes[end] != END {
        return Err(error(end, "no end mark"));
    }
    let (mut offset, mut count) = (HEADER, 0usize);
    while offset < end {
        let size = checked_size(&bytes[offset..end]).map_err(|reason| error(offset, reason))?;
        let back = offset + size;
        let next = back + back_len(size);
        let mut expected = [0; 5];
        write_back(size, &mut expected[..next - back]);
        if bytes[..end].get(back..next) != Some(&expected[..next - back]) {
            return Err(error(back, "back length disagrees with the entry"));
        }
        (offset, count) = (next, count + 1);
    }
    let stated = u16::from_le_bytes([bytes[4], bytes[5]]);
    if stated != COUNT_UNKNOWN && usize::from(stated) != count {
        return Err(error(4, "count disagrees with the entries"));
    }
    Ok(())
}

/// The size of encoding and data of the entry at the start of `room`, which it must not exceed.
fn checked_size(room: &[u8]) -> Result<usize, &'static str> {
    const CUT: &str = "entry runs past the end";
    let byte = |i: usize| room.get(i).copied().ok_or(CUT);
    let size = match byte(0)? {
        0x00..=0x7F => 1,
        first @ 0x80..=0xBF => 1 + usize::from(first & 0x3F),
        0xC0..=0xDF => 2,
        first @ 0xE0..=0xEF => 2 + (usize::from(first & 0x0F) << 8 | usize::from(byte(1)?)),
        0xF0 => 5 + u32::from_le_bytes([byte(1)?, byte(2)?, byte(3)?, byte(4)?]) as usize,
        END => return Err("end mark before the end"),
        mark => 1 + integer_width(mark).ok_or("unknown encoding")?,
    };
    if size > room.len() { Err(CUT) } else { Ok(size) }
}

#[cfg(test)]
mod tests;
