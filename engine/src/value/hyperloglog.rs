//! HyperLogLog: an estimate of how many distinct elements were added, in at most 12 KB.
//!
//! The value is an ordinary string, byte for byte that of Redis, so it travels through RDB files, replication, `GET`
//! and `SET` between servers of the family. Here are its format and arithmetic, pure functions on bytes; what a
//! command does to a key is in `commands::hyperloglog`. Bytes may come from anywhere: what they claim is checked
//! where it is used, and nothing panics of them.
//!
//! ```text
//!  0        4          5        8                      16
//! +--------+----------+--------+----------------------+-----------
//! | "HYLL" | encoding | unused | cardinality (u64 LE) | registers
//! +--------+----------+--------+----------------------+-----------
//!  cardinality   the last estimate; its highest bit is set where registers have changed since
//!
//!  encoding 0, dense: 12,288 bytes, a register in 6 bits, the first in the lowest bits of the first byte
//!  encoding 1, sparse: runs of equal registers, together 16,384
//!
//!    00nnnnnn             ZERO   n + 1 registers are 0
//!    01nnnnnn nnnnnnnn    XZERO  n + 1 registers are 0, n in 14 bits, the high ones first
//!    1vvvvvnn             VAL    n + 1 registers are v + 1
//! ```
//!
//! An element's hash names a register by its low 14 bits. The register keeps the largest position, from 1, of the
//! lowest set bit that was seen in the other 50. The estimate is Ertl's ("New cardinality estimation algorithms for
//! HyperLogLog sketches", arXiv:1702.01284, algorithm 6), with a standard error of 1.04 / √16384 = 0.81 %.

use crate::hash::random_u64;
use smallvec::SmallVec;

/// Registers of a HyperLogLog.
pub(crate) const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that name the register.
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left for its value.
const VALUE_BITS: usize = 64 - INDEX_BITS as usize;
const MAGIC: &[u8; 4] = b"HYLL";
/// Where the encoding stands.
const ENCODING_AT: usize = 4;
/// Where the cached cardinality stands.
pub(crate) const CARDINALITY_AT: usize = 8;
/// Where the registers begin.
const HEADER: usize = 16;
/// Bits of a dense register, and the mask of them.
const REGISTER_BITS: usize = 6;
const REGISTER_MASK: u16 = (1 << REGISTER_BITS) - 1;
/// Length of a dense value in bytes.
pub(crate) const DENSE_LEN: usize = HEADER + REGISTERS * REGISTER_BITS / 8;
/// Largest register of the sparse encoding, and its longest runs.
const MAX_SPARSE: u8 = 32;
const MAX_VAL: usize = 4;
const MAX_ZERO: usize = 64;
/// Redis' seed of the hash.
const SEED: u64 = 0xadc8_3b19;
/// Runs that are looked at, after a change, for neighbours that can be one.
const MERGE_RUNS: usize = 5;

/// Why bytes are no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The header is that of something else.
    #[error("the string is no HyperLogLog")]
    Foreign,
    /// The sparse registers are not 16,384.
    #[error("the registers of the HyperLogLog are damaged")]
    Corrupt,
}

/// How the registers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// 6 bits each.
    Dense,
    /// As runs.
    Sparse,
}

/// A run of equal registers, as the sparse encoding has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The registers' value, 0 to 32.
    pub value: u8,
    /// How many there are.
    pub len: usize,
    /// Bytes it takes: 2 for XZERO.
    pub size: usize,
}

impl Run {
    /// The run at a position; `None` at the end, or where an XZERO lacks its second byte.
    fn at(bytes: &[u8], at: usize) -> Option<Run> {
        let first = *bytes.get(at)?;
        Some(match first >> 6 {
            0 => Run { value: 0, len: usize::from(first) + 1, size: 1 },
            1 => {
                let n = usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                Run { value: 0, len: n + 1, size: 2 }
            }
            _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, size: 1 },
        })
    }

    /// Appends a run of `len` registers; nothing where there are none. A value other than 0 runs at most
    /// [`MAX_VAL`] registers.
    fn write(value: u8, len: usize, out: &mut SmallVec<[u8; 8]>) {
        match (value, len) {
            (_, 0) => {}
            (0, 1..=MAX_ZERO) => out.push(len as u8 - 1),
            (0, _) => out.extend([0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
            _ => out.push(0x80 | (value - 1) << 2 | (len as u8 - 1)),
        }
    }
}

fn is_val(byte: u8) -> bool {
    byte & 0x80 != 0
}

/// Byte and shift of a dense register.
fn dense_place(index: usize) -> (usize, usize) {
    let bit = index * REGISTER_BITS;
    (HEADER + bit / 8, bit % 8)
}

fn dense_get(bytes: &[u8], index: usize) -> u8 {
    let (at, shift) = dense_place(index);
    let window = u16::from_le_bytes([bytes[at], bytes.get(at + 1).copied().unwrap_or(0)]);
    (window >> shift & REGISTER_MASK) as u8
}

fn dense_set(bytes: &mut [u8], index: usize, value: u8) {
    let (at, shift) = dense_place(index);
    let window = u16::from_le_bytes([bytes[at], bytes.get(at + 1).copied().unwrap_or(0)]);
    let window = window & !(REGISTER_MASK << shift) | u16::from(value) << shift;
    bytes[at] = window as u8;
    // The last register ends with the last byte.
    if let Some(next) = bytes.get_mut(at + 1) {
        *next = (window >> 8) as u8;
    }
}

/// A HyperLogLog whose header has been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HyperLogLog<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
}

impl<'a> HyperLogLog<'a> {
    /// Checks the header, and a dense value's length.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<HyperLogLog<'a>, Malformed> {
        if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
            return Err(Malformed::Foreign);
        }
        let encoding = match bytes[ENCODING_AT] {
            0 if bytes.len() == DENSE_LEN => Encoding::Dense,
            1 => Encoding::Sparse,
            _ => return Err(Malformed::Foreign),
        };
        Ok(HyperLogLog { bytes, encoding })
    }

    /// How the registers are written.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The estimate that was kept, where no register has changed since.
    pub(crate) fn cached(&self) -> Option<u64> {
        let bytes = self.bytes[CARDINALITY_AT..HEADER].try_into().expect("the header has 8 bytes for it");
        Some(u64::from_le_bytes(bytes)).filter(|n| n >> 63 == 0)
    }

    /// The runs of a sparse value, as far as they can be read.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + 'a {
        let (bytes, mut at) = (self.bytes, HEADER);
        std::iter::from_fn(move || {
            let run = Run::at(bytes, at)?;
            at += run.size;
            Some(run)
        })
    }

    /// Calls `f` with every run of a sparse value and the index of its first register, once it is clear that it is
    /// within bounds. What it has seen of a corrupt value must not be used.
    fn each_run(&self, mut f: impl FnMut(usize, Run)) -> Result<(), Malformed> {
        let (mut at, mut first) = (HEADER, 0);
        while at < self.bytes.len() {
            let run = Run::at(self.bytes, at).ok_or(Malformed::Corrupt)?;
            if first + run.len > REGISTERS {
                return Err(Malformed::Corrupt);
            }
            f(first, run);
            at += run.size;
            first += run.len;
        }
        if first == REGISTERS { Ok(()) } else { Err(Malformed::Corrupt) }
    }

    /// One register, below [`REGISTERS`]. Of a sparse value no more is read than it takes to find it.
    pub(crate) fn register(&self, index: usize) -> Result<u8, Malformed> {
        match self.encoding {
            Encoding::Dense => Ok(dense_get(self.bytes, index)),
            Encoding::Sparse => find_run(self.bytes, index).map(|found| found.run.value),
        }
    }

    /// The estimated number of elements.
    pub(crate) fn estimate(&self) -> Result<u64, Malformed> {
        let mut histogram = Histogram::default();
        match self.encoding {
            Encoding::Dense => {
                for three in self.bytes[HEADER..].chunks_exact(3) {
                    let four = u32::from_le_bytes([three[0], three[1], three[2], 0]);
                    (0..4).for_each(|i| histogram.0[(four >> (6 * i) & 63) as usize] += 1);
                }
            }
            Encoding::Sparse => {
                self.each_run(|_, run| histogram.0[usize::from(run.value)] += run.len as u32)?;
            }
        }
        Ok(histogram.estimate())
    }
}

/// The run a register is in.
struct Found {
    run: Run,
    /// Where its bytes begin, and those of the run before it.
    at: usize,
    previous: Option<usize>,
    /// Its first register.
    first: usize,
}

fn find_run(bytes: &[u8], index: usize) -> Result<Found, Malformed> {
    let (mut at, mut first, mut previous) = (HEADER, 0, None);
    loop {
        let run = Run::at(bytes, at).ok_or(Malformed::Corrupt)?;
        if index < first + run.len {
            return Ok(Found { run, at, previous, first });
        }
        previous = Some(at);
        at += run.size;
        first += run.len;
    }
}

/// How many registers have each value.
struct Histogram([u32; 1 << REGISTER_BITS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; 1 << REGISTER_BITS])
    }
}

impl Histogram {
    fn estimate(&self) -> u64 {
        let m = REGISTERS as f64;
        let count = |value: usize| f64::from(self.0[value]);
        let mut z = m * tau((m - count(VALUE_BITS + 1)) / m);
        for value in (1..=VALUE_BITS).rev() {
            z = (z + count(value)) * 0.5;
        }
        z += m * sigma(count(0) / m);
        // 1 / (2 ln 2): the limit of the bias correction for many registers.
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let estimate = (ALPHA * m * m / z).round();
        // Only registers that no hash gives lead beyond 63 bits. Redis' conversion, on x86, has this for them.
        if estimate < i64::MAX as f64 { estimate as u64 } else { 1 << 63 }
    }
}

/// Ertl's σ: x + Σ x^(2^k) 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// Ertl's τ: (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// The registers of a union.
#[derive(Clone, Debug)]
pub(crate) struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Registers {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Adds all that was added to `other`. Where it is corrupt, this is of no use afterwards.
    pub(crate) fn merge(&mut self, other: HyperLogLog<'_>) -> Result<(), Malformed> {
        let mine = &mut self.0;
        match other.encoding {
            Encoding::Dense => {
                for (index, register) in mine.iter_mut().enumerate() {
                    *register = (*register).max(dense_get(other.bytes, index));
                }
                Ok(())
            }
            Encoding::Sparse => other.each_run(|first, run| {
                mine[first..first + run.len].iter_mut().for_each(|r| *r = (*r).max(run.value));
            }),
        }
    }

    /// The estimated number of elements.
    pub(crate) fn estimate(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.0.iter().for_each(|r| histogram.0[usize::from(*r)] += 1);
        histogram.estimate()
    }

    /// The registers, by index.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0[..]
    }
}

/// A HyperLogLog being changed.
#[derive(Clone, Debug)]
pub(crate) struct Draft(Vec<u8>);

impl Default for Draft {
    fn default() -> Draft {
        Draft::new()
    }
}

impl Draft {
    /// An empty one, sparse, with the estimate 0.
    pub(crate) fn new() -> Draft {
        let mut bytes = vec![0; HEADER];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[ENCODING_AT] = 1;
        let mut run = SmallVec::new();
        Run::write(0, REGISTERS, &mut run);
        bytes.extend_from_slice(&run);
        Draft(bytes)
    }

    /// A copy.
    pub(crate) fn of(hll: HyperLogLog<'_>) -> Draft {
        Draft(hll.bytes.to_vec())
    }

    /// The bytes, as a reader takes them.
    pub(crate) fn view(&self) -> HyperLogLog<'_> {
        let encoding = if self.0[ENCODING_AT] == 0 { Encoding::Dense } else { Encoding::Sparse };
        HyperLogLog { bytes: &self.0, encoding }
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Notes that the estimate it carries is of the past.
    pub(crate) fn forget_estimate(&mut self) {
        self.0[HEADER - 1] |= 0x80;
    }

    /// Raises a register to `value` (1 to 63) where it is lower; true where it was. A sparse value becomes dense
    /// where it can not hold the register, or would grow to more than `sparse_max` bytes.
    pub(crate) fn raise(&mut self, index: usize, value: u8, sparse_max: usize) -> Result<bool, Malformed> {
        if self.view().encoding == Encoding::Sparse && !self.raise_sparse(index, value, sparse_max)? {
            return Ok(false);
        }
        if self.view().encoding == Encoding::Dense {
            if dense_get(&self.0, index) >= value {
                return Ok(false);
            }
            dense_set(&mut self.0, index, value);
        }
        Ok(true)
    }

    /// As [`Draft::raise`], for a sparse value, which it may leave dense: then the register is still to be set.
    fn raise_sparse(&mut self, index: usize, value: u8, sparse_max: usize) -> Result<bool, Malformed> {
        if value > MAX_SPARSE {
            return self.make_dense().map(|()| true);
        }
        let Found { run, at, previous, first } = find_run(&self.0, index)?;
        if run.value >= value {
            return Ok(false);
        }
        // What is left of the run on either side of the register stays as it was.
        let mut parts = SmallVec::<[u8; 8]>::new();
        Run::write(run.value, index - first, &mut parts);
        Run::write(value, 1, &mut parts);
        Run::write(run.value, first + run.len - 1 - index, &mut parts);
        if parts.len() > run.size && self.0.len() + parts.len() - run.size > sparse_max {
            return self.make_dense().map(|()| true);
        }
        self.0.splice(at..at + run.size, parts);
        self.join_from(previous.unwrap_or(HEADER));
        Ok(true)
    }

    /// Joins neighbouring runs of one value, as far as a run reaches: in just those places where Redis looks, so
    /// that the bytes stay equal.
    fn join_from(&mut self, mut at: usize) {
        let bytes = &mut self.0;
        for _ in 0..MERGE_RUNS {
            let Some(run) = Run::at(bytes, at) else { return };
            let next = bytes.get(at + run.size).filter(|next| run.value > 0 && is_val(**next));
            let next = next.and_then(|_| Run::at(bytes, at + run.size));
            match next.filter(|next| next.value == run.value && run.len + next.len <= MAX_VAL) {
                Some(next) => {
                    bytes[at] = 0x80 | (run.value - 1) << 2 | (run.len + next.len - 1) as u8;
                    bytes.remove(at + 1);
                }
                None => at += run.size,
            }
        }
    }

    /// Writes the registers densely.
    pub(crate) fn make_dense(&mut self) -> Result<(), Malformed> {
        if self.view().encoding == Encoding::Dense {
            return Ok(());
        }
        let mut dense = vec![0; DENSE_LEN];
        dense[..HEADER].copy_from_slice(&self.0[..HEADER]);
        dense[ENCODING_AT] = 0;
        self.view().each_run(|first, run| {
            if run.value > 0 {
                (first..first + run.len).for_each(|index| dense_set(&mut dense, index, run.value));
            }
        })?;
        self.0 = dense;
        Ok(())
    }
}

/// The register an element belongs to, and the value it asks for there: 1 to 51.
pub(crate) fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash_64a(element, SEED);
    // A bit behind the last, so that no hash is without.
    let rest = hash >> INDEX_BITS | 1 << VALUE_BITS;
    (hash as usize & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A (Austin Appleby, public domain), reading little-endian words on every machine.
fn murmur_hash_64a(data: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut h = seed ^ (data.len() as u64).wrapping_mul(M);
    let words = data.chunks_exact(8);
    let rest = words.remainder();
    for word in words {
        let mut k = u64::from_le_bytes(word.try_into().expect("chunks of 8")).wrapping_mul(M);
        k ^= k >> R;
        h = (h ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = (h ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    h ^= h >> R;
    h = h.wrapping_mul(M);
    h ^ h >> R
}

/// What PFSELFTEST runs: registers keep what they are given, both encodings agree, and estimates are near the truth.
/// It stops at a million elements, a tenth of Redis', for a server that goes on serving others beside it.
pub(crate) fn self_test() -> Result<(), String> {
    const CYCLES: usize = 100;
    const ELEMENTS: u64 = 1_000_000;
    const SPARSE_MAX: usize = 3000;
    let mut dense = Draft::new();
    dense.make_dense().map_err(|e| e.to_string())?;
    let empty = dense.clone();
    for _ in 0..CYCLES {
        let values: Vec<u8> = (0..REGISTERS).map(|_| random_u64() as u8 & REGISTER_MASK as u8).collect();
        values.iter().enumerate().for_each(|(index, value)| dense_set(&mut dense.0, index, *value));
        for (index, value) in values.iter().enumerate() {
            let is = dense_get(&dense.0, index);
            if is != *value {
                return Err(format!("TESTFAILED Register {index} should be {value} but is {is}"));
            }
        }
    }
    let (mut dense, mut sparse, seed) = (empty, Draft::new(), random_u64());
    let mut checkpoint = 1;
    for n in 1..=ELEMENTS {
        let (index, value) = place(&(n ^ seed).to_le_bytes());
        dense.raise(index, value, SPARSE_MAX).map_err(|e| e.to_string())?;
        sparse.raise(index, value, SPARSE_MAX).map_err(|e| e.to_string())?;
        if n != checkpoint {
            continue;
        }
        if n < SPARSE_MAX as u64 / 2 && sparse.view().encoding != Encoding::Sparse {
            return Err("TESTFAILED sparse encoding not used".into());
        }
        let estimate = dense.view().estimate().map_err(|e| e.to_string())?;
        if sparse.view().estimate() != Ok(estimate) {
            return Err("TESTFAILED dense/sparse disagree".into());
        }
        // Six times the standard error; among ten elements two in one register are enough to exceed it.
        let allowed = if n == 10 { 1 } else { (1.04 / 128.0 * 6.0 * n as f64).ceil() as u64 };
        let error = estimate.abs_diff(n);
        if error > allowed {
            return Err(format!("TESTFAILED Too big error. card:{n} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
