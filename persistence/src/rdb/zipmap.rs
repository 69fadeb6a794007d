//! Zipmaps: the small hashes of Redis before 2.6 (`zipmap.c`).
//!
//! ```text
//! count(u8, 254 or more: count them) { len field  len free(u8) value unused{free} }* 0xFF
//! len = n (below 254) | 0xFE n(u32, little endian)
//! ```

use super::Damage;

const END: u8 = 0xff;
const WIDE: u8 = 0xfe;

/// A zipmap, checked from end to end.
#[derive(Debug, Clone, Copy)]
pub struct Zipmap<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// A length and where what it measures begins.
fn length(bytes: &[u8], at: usize) -> Result<(usize, usize), Damage> {
    let damage = Damage::new(at, "zipmap entry ends early");
    match *bytes.get(at).ok_or(damage)? {
        END => Err(Damage::new(at, "zipmap field without a value")),
        WIDE => {
            let len = bytes.get(at + 1..).and_then(|rest| rest.first_chunk()).ok_or(damage)?;
            let len = u32::from_le_bytes(*len) as usize;
            if len < usize::from(WIDE) {
                return Err(Damage::new(at, "zipmap length in more bytes than it needs"));
            }
            Ok((len, at + 5))
        }
        len => Ok((usize::from(len), at + 1)),
    }
}

fn take(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Damage> {
    let end = at.checked_add(len);
    end.and_then(|end| bytes.get(at..end)).ok_or(Damage::new(at, "zipmap string ends early"))
}

/// Field, value, and where the next pair begins.
fn pair(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8], usize), Damage> {
    let (len, at) = length(bytes, at)?;
    let field = take(bytes, at, len)?;
    let (len, at) = length(bytes, at + len)?;
    let free = usize::from(take(bytes, at, 1)?[0]);
    let value = take(bytes, at + 1, len)?;
    take(bytes, at + 1 + len, free)?;
    Ok((field, value, at + 1 + len + free))
}

impl<'a> Zipmap<'a> {
    /// Checks all of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        if bytes.len() < 2 || bytes[bytes.len() - 1] != END {
            return Err(Damage::new(bytes.len(), "zipmap without an end"));
        }
        let entries = &bytes[..bytes.len() - 1];
        let (mut at, mut count) = (1, 0);
        while at < entries.len() {
            (_, _, at) = pair(entries, at)?;
            count += 1;
        }
        if bytes[0] < WIDE && usize::from(bytes[0]) != count {
            return Err(Damage::new(0, "zipmap's count is wrong"));
        }
        Ok(Self { bytes, count })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fields and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let entries = &self.bytes[..self.bytes.len() - 1];
        let mut at = 1;
        std::iter::from_fn(move || {
            // Checked when the zipmap was made, so this ends at its end and nowhere else.
            let (field, value, next) = (at < entries.len()).then(|| pair(entries, at))?.ok()?;
            at = next;
            Some((field, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_read_back_past_unused_bytes_and_wide_lengths() {
        let mut bytes = vec![2, 1, b'a', 2, 3, b'x', b'y', 0, 0, 0, 3, b'k', b'e', b'y', WIDE, 0, 1, 0, 0, 0];
        bytes.extend([b'v'; 256]);
        bytes.push(END);
        let zipmap = Zipmap::parse(&bytes).unwrap();
        assert_eq!(zipmap.len(), 2);
        let pairs: Vec<_> = zipmap.iter().collect();
        assert_eq!(pairs, [(&b"a"[..], &b"xy"[..]), (b"key", &[b'v'; 256])]);
        assert!(Zipmap::parse(&[0, END]).unwrap().is_empty());
    }

    #[test]
    fn damage_is_refused() {
        let good = [1, 1, b'a', 1, 0, b'x', END];
        Zipmap::parse(&good).unwrap();
        for len in 0..good.len() {
            assert!(Zipmap::parse(&good[..len]).is_err());
        }
        for bad in [
            &[2, 1, b'a', 1, 0, b'x', END][..],
            &[1, 9, b'a', 1, 0, b'x', END],
            &[1, 1, b'a', 9, 0, b'x', END],
            &[1, 1, b'a', 1, 9, b'x', END],
            &[1, 1, b'a', END],
            &[1, WIDE, 0xff, 0xff, 0xff, 0xff, b'a', END],
        ] {
            assert!(Zipmap::parse(bad).is_err(), "{bad:?}");
        }
    }
}
