//! Variable lengths, and the special strings that share their space (`rdbSaveLen` in `rdb.c`).
//!
//! ```text
//! 00nnnnnn                      6 bits
//! 01nnnnnn nnnnnnnn             14 bits, high part first
//! 10000000 n n n n              32 bits, big endian
//! 10000001 n n n n n n n n      64 bits, big endian
//! 11000000 i                    the string of an 8-bit integer
//! 11000001 i i                  ... of a 16-bit integer, little endian
//! 11000010 i i i i              ... of a 32-bit integer, little endian
//! 11000011 clen len bytes       a string of `len` bytes, LZF-compressed to `clen`
//! ```

/// Announces a 32-bit length.
pub const LEN_32: u8 = 0x80;
/// Announces a 64-bit length.
pub const LEN_64: u8 = 0x81;
/// Announces the string of an 8-bit integer.
pub const INT_8: u8 = 0xc0;
/// Announces the string of a 16-bit integer.
pub const INT_16: u8 = 0xc1;
/// Announces the string of a 32-bit integer.
pub const INT_32: u8 = 0xc2;
/// Announces a compressed string.
pub const LZF: u8 = 0xc3;

/// What a first byte announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// A length that is whole already.
    Len(u64),
    /// The high part of a 14-bit length; one byte follows.
    Len14(u8),
    /// Four bytes follow.
    Len32,
    /// Eight bytes follow.
    Len64,
    /// An integer of this many bytes follows, as a string's content.
    Int(usize),
    /// Two lengths and a compressed string follow.
    Lzf,
    /// Not in use.
    Unknown,
}

impl First {
    /// Classifies the first byte of a length.
    #[inline]
    pub fn of(byte: u8) -> Self {
        match (byte >> 6, byte) {
            (0, _) => Self::Len(u64::from(byte)),
            (1, _) => Self::Len14(byte & 0x3f),
            (_, LEN_32) => Self::Len32,
            (_, LEN_64) => Self::Len64,
            (_, INT_8) => Self::Int(1),
            (_, INT_16) => Self::Int(2),
            (_, INT_32) => Self::Int(4),
            (_, LZF) => Self::Lzf,
            _ => Self::Unknown,
        }
    }
}

/// Appends a length in its shortest form.
#[inline]
pub fn put(out: &mut Vec<u8>, len: u64) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        let mut bytes = [LEN_32; 5];
        bytes[1..].copy_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&bytes);
    } else {
        let mut bytes = [LEN_64; 9];
        bytes[1..].copy_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// Appends a string as it is: its length, then its bytes.
#[inline]
pub fn put_raw_string(out: &mut Vec<u8>, string: &[u8]) {
    put(out, string.len() as u64);
    out.extend_from_slice(string);
}

/// Appends the string of `value` in two to five bytes, or returns false if it takes more than 32 bits.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) -> bool {
    if let Ok(value) = i8::try_from(value) {
        out.extend_from_slice(&[INT_8, value as u8]);
    } else if let Ok(value) = i16::try_from(value) {
        let [a, b] = value.to_le_bytes();
        out.extend_from_slice(&[INT_16, a, b]);
    } else if let Ok(value) = i32::try_from(value) {
        let [a, b, c, d] = value.to_le_bytes();
        out.extend_from_slice(&[INT_32, a, b, c, d]);
    } else {
        return false;
    }
    true
}

/// The 32-bit integer whose decimal form is exactly `text`, if there is one (`rdbTryIntegerEncoding`).
pub fn canonical_i32(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let canonical = match digits {
        [] => false,
        [b'0'] => !negative,
        [b'1'..=b'9', ..] => digits.len() <= 10,
        _ => false,
    };
    if !canonical {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    i32::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        for (len, expected) in [
            (0, &[0][..]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16383, &[0x7f, 0xff]),
            (16384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 0xff, 0xff, 0xff, 0xff]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            put(&mut out, len);
            assert_eq!(out, expected, "{len}");
        }
    }

    #[test]
    fn only_canonical_integers_are_integers() {
        for text in ["0", "-1", "127", "-2147483648", "2147483647"] {
            assert_eq!(canonical_i32(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in ["", "-", "-0", "01", "+1", " 1", "1a", "2147483648", "-2147483649", "99999999999"] {
            assert_eq!(canonical_i32(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn integers_take_the_fewest_bytes() {
        for (value, expected) in
            [(-128, &[0xc0, 0x80][..]), (128, &[0xc1, 0x80, 0]), (-32769, &[0xc2, 0xff, 0x7f, 0xff, 0xff])]
        {
            let mut out = Vec::new();
            assert!(put_int(&mut out, value));
            assert_eq!(out, expected);
        }
        assert!(!put_int(&mut Vec::new(), 1 << 31));
    }
}
