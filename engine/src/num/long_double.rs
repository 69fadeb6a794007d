//! The 80-bit `long double` of x86, in software, as far as `INCRBYFLOAT` and `HINCRBYFLOAT` need it.
//!
//! Redis reads both operands with `strtold`, adds them in a 64-bit significand and prints the sum with
//! `%.17Lf`, trailing zeros cut. Doubles would answer `10.6` differently, and replicas receive the
//! result as text, so the arithmetic is reproduced exactly: correctly rounded parsing, correctly
//! rounded addition (ties to even), exact printing. Only the subnormal range (below 2^-16382) is
//! rounded more finely than the hardware does, which 17 decimals cannot show.

use super::{HexFloat, parse_exponent};

/// Texts this long or longer are refused, as in Redis (`MAX_LONG_DOUBLE_CHARS`); it bounds the work.
pub(crate) const MAX_TEXT: usize = 5 * 1024;

/// The exponent of the leading bit may not exceed this, nor fall below the second.
const MAX_TOP: i64 = 16383;
const MIN_TOP: i64 = -16445;

/// A number with a 64-bit significand, or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LongDouble {
    negative: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zero,
    /// `mantissa * 2^exponent`, the top bit of the mantissa set.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
}

impl From<i64> for LongDouble {
    fn from(value: i64) -> Self {
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return Self { negative: false, kind: Kind::Zero };
        }
        let zeros = magnitude.leading_zeros();
        let kind = Kind::Finite { mantissa: magnitude << zeros, exponent: -i64::from(zeros) };
        Self { negative: value < 0, kind }
    }
}

impl LongDouble {
    /// Reads a number as `strtold` of the whole text does. Refused are the empty text, surrounding
    /// spaces, NaN, overflow, underflow to zero and texts of 5,120 bytes or more. Infinities
    /// are accepted: Redis refuses them only as a result, with another error.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() >= MAX_TEXT {
            return None;
        }
        if let Some(hex) = HexFloat::parse(text) {
            let hex = hex?;
            return Self::round(hex.negative, u128::from(hex.mantissa), hex.exponent, hex.sticky);
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, kind: Kind::Infinite });
        }
        let decimal = Decimal::parse(rest)?;
        let (bits, exponent, sticky) = decimal.to_binary()?;
        Self::round(negative, bits, exponent, sticky)
    }

    /// Is it one of the infinities?
    pub(crate) fn is_infinite(self) -> bool {
        matches!(self.kind, Kind::Infinite)
    }

    /// The sum, or `None` where Redis answers "increment would produce NaN or Infinity".
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        let (Kind::Finite { mantissa: m1, exponent: e1 }, Kind::Finite { mantissa: m2, exponent: e2 }) =
            (self.kind, other.kind)
        else {
            return match (self.kind, other.kind) {
                (Kind::Infinite, _) | (_, Kind::Infinite) => None,
                (Kind::Zero, Kind::Zero) => {
                    Some(Self { negative: self.negative && other.negative, kind: Kind::Zero })
                }
                (Kind::Zero, _) => Some(other),
                _ => Some(self),
            };
        };
        if (e1, m1) < (e2, m2) {
            return other.checked_add(self);
        }
        // 62 guard bits below the larger operand; what falls off the smaller one is kept as sticky.
        const GUARD: u32 = 62;
        let large = u128::from(m1) << GUARD;
        let small = u128::from(m2) << GUARD;
        let distance = u32::try_from(e1 - e2).unwrap_or(u32::MAX);
        let (small, sticky) = match small.checked_shr(distance) {
            Some(shifted) => (shifted, shifted << distance != small),
            None => (0, true),
        };
        let bits = if self.negative == other.negative {
            large + small
        } else {
            // A sticky rest makes the true difference lie just below: borrow one, keep it sticky.
            large - small - u128::from(sticky)
        };
        if bits == 0 {
            return Some(Self { negative: false, kind: Kind::Zero });
        }
        Self::round(self.negative, bits, e1 - i64::from(GUARD), sticky)
    }

    /// Rounds `bits * 2^exponent` (plus less than one unit when `sticky`) to 64 bits, ties to even.
    fn round(negative: bool, bits: u128, exponent: i64, sticky: bool) -> Option<Self> {
        if bits == 0 {
            debug_assert!(!sticky);
            return Some(Self { negative, kind: Kind::Zero });
        }
        let used = 128 - bits.leading_zeros();
        let (mantissa, exponent) = if used <= 64 {
            // Callers with sticky bits bring more than 64 significant ones, or an exact short value.
            ((bits as u64) << (64 - used), exponent.saturating_sub(i64::from(64 - used)))
        } else {
            let drop = used - 64;
            let (kept, lost) = ((bits >> drop) as u64, bits & ((1 << drop) - 1));
            let half = 1u128 << (drop - 1);
            let up = lost > half || (lost == half && (sticky || kept & 1 == 1));
            let exponent = exponent.saturating_add(i64::from(drop));
            match kept.checked_add(u64::from(up)) {
                Some(mantissa) => (mantissa, exponent),
                None => (1 << 63, exponent + 1),
            }
        };
        let top = exponent.saturating_add(63);
        // More than half of the smallest subnormal is still rounded up to it.
        let tiny = top < MIN_TOP && !(top == MIN_TOP - 1 && mantissa > 1 << 63);
        if tiny || top > MAX_TOP {
            return None;
        }
        Some(Self { negative, kind: Kind::Finite { mantissa, exponent } })
    }

    /// Appends the number as `%.17Lf` without trailing zeros; a zero has no sign.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        const DECIMALS: usize = 17;
        const SCALE: u128 = 100_000_000_000_000_000;
        let (mantissa, exponent) = match self.kind {
            Kind::Zero => return out.push(b'0'),
            Kind::Infinite => {
                return out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            }
            Kind::Finite { mantissa, exponent } => (mantissa, exponent),
        };
        if exponent >= 0 {
            if self.negative {
                out.push(b'-');
            }
            return write_shifted(mantissa, exponent as usize, out);
        }
        // 64 bits times 10^17 (57 bits) fit; the shift then rounds half to even.
        let product = u128::from(mantissa) * SCALE;
        let scaled = match u32::try_from(-exponent) {
            Ok(shift) if shift < 128 => {
                let (kept, lost) = (product >> shift, product & ((1 << shift) - 1));
                let half = 1u128 << (shift - 1);
                kept + u128::from(lost > half || (lost == half && kept & 1 == 1))
            }
            _ => 0,
        };
        if scaled == 0 {
            return out.push(b'0');
        }
        if self.negative {
            out.push(b'-');
        }
        let (whole, mut fraction) = (scaled / SCALE, (scaled % SCALE) as u64);
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        if fraction == 0 {
            return;
        }
        let mut digits = [b'0'; DECIMALS];
        for digit in digits.iter_mut().rev() {
            *digit += (fraction % 10) as u8;
            fraction /= 10;
        }
        let last = digits.iter().rposition(|&c| c != b'0').expect("a fraction other than zero has a digit");
        out.push(b'.');
        out.extend_from_slice(&digits[..=last]);
    }
}

/// Appends `mantissa << shift` in decimal.
fn write_shifted(mantissa: u64, shift: usize, out: &mut Vec<u8>) {
    const GROUP: u64 = 10_000_000_000_000_000_000;
    let mut number = Big::from(mantissa);
    number.shift_left(shift);
    let mut groups = Vec::new();
    while !number.is_zero() {
        groups.push(number.divide(GROUP));
    }
    let mut groups = groups.iter().rev();
    if let Some(&first) = groups.next() {
        out.extend_from_slice(itoa::Buffer::new().format(first).as_bytes());
    }
    for &group in groups {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(group).as_bytes();
        out.resize(out.len() + 19 - text.len(), b'0');
        out.extend_from_slice(text);
    }
}

/// Decimal digits as they were written, with the power of ten that scales them.
struct Decimal {
    digits: Big,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut digits = Big::from(0);
        let (mut group, mut group_scale) = (0u64, 1u64);
        let (mut seen, mut after_point, mut exponent) = (false, false, 0i64);
        let mut rest = text;
        while let [c, tail @ ..] = rest {
            match c {
                b'.' if !after_point => after_point = true,
                b'0'..=b'9' => {
                    seen = true;
                    group = group * 10 + u64::from(c - b'0');
                    group_scale *= 10;
                    exponent -= i64::from(after_point);
                    if group_scale == 10_000_000_000_000_000_000 {
                        digits.multiply_add(group_scale, group);
                        (group, group_scale) = (0, 1);
                    }
                }
                _ => break,
            }
            rest = tail;
        }
        if !seen {
            return None;
        }
        digits.multiply_add(group_scale, group);
        match rest {
            [] => {}
            [b'e' | b'E', tail @ ..] => exponent += parse_exponent(tail)?,
            _ => return None,
        }
        Some(Self { digits, exponent })
    }

    /// At least 65 significant bits of the value, a binary exponent, and whether anything was cut
    /// off below them. `None` when it is far outside the range of a long double.
    fn to_binary(&self) -> Option<(u128, i64, bool)> {
        /// 5^27 is the largest power of five in 64 bits.
        const FIVES: u32 = 27;
        if self.digits.is_zero() {
            return Some((0, 0, false));
        }
        // Digits are fewer than MAX_TEXT, so these bounds refuse only what over- or underflows.
        if self.exponent > 5_000 || self.exponent < -(5_000 + MAX_TEXT as i64) {
            return None;
        }
        let mut number = self.digits.clone();
        let mut exponent = self.exponent;
        let mut fives = self.exponent.unsigned_abs() as u32;
        let mut sticky = false;
        if self.exponent >= 0 {
            while fives > 0 {
                let step = fives.min(FIVES);
                number.multiply_add(5u64.pow(step), 0);
                fives -= step;
            }
        } else {
            // Make room so that the quotient keeps more than 64 bits: 5^n has under 2.33 n bits.
            let room = fives as usize * 233 / 100 + 130;
            let shift = room.saturating_sub(number.bits());
            number.shift_left(shift);
            exponent -= shift as i64;
            // Dividing step by step floors the same as dividing once; rests only tell "not exact".
            while fives > 0 {
                let step = fives.min(FIVES);
                sticky |= number.divide(5u64.pow(step)) != 0;
                fives -= step;
            }
        }
        let (bits, dropped, rest) = number.top_bits();
        Some((bits, exponent + dropped as i64, sticky | rest))
    }
}

/// A natural number of any size: 64-bit limbs, least first, no zero limb on top.
#[derive(Clone)]
struct Big(smallvec::SmallVec<[u64; 8]>);

impl From<u64> for Big {
    fn from(value: u64) -> Self {
        let mut big = Self(smallvec::SmallVec::new());
        if value != 0 {
            big.0.push(value);
        }
        big
    }
}

impl Big {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 64 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = u128::from(addend);
        for limb in &mut self.0 {
            carry += u128::from(*limb) * u128::from(factor);
            *limb = carry as u64;
            carry >>= 64;
        }
        if carry != 0 {
            self.0.push(carry as u64);
        }
    }

    /// Divides in place and returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0u128;
        for limb in self.0.iter_mut().rev() {
            let wide = rest << 64 | u128::from(*limb);
            *limb = (wide / u128::from(divisor)) as u64;
            rest = wide % u128::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u64
    }

    fn shift_left(&mut self, shift: usize) {
        if self.is_zero() {
            return;
        }
        self.multiply_add(1 << (shift % 64), 0);
        let limbs = shift / 64;
        self.0.resize(self.0.len() + limbs, 0);
        self.0.rotate_right(limbs);
    }

    /// The top two limbs, how many bits lie below them, and whether any of those is set.
    fn top_bits(&self) -> (u128, usize, bool) {
        match &self.0[..] {
            [] => (0, 0, false),
            [one] => (u128::from(*one), 0, false),
            [below @ .., low, high] => {
                let bits = u128::from(*high) << 64 | u128::from(*low);
                (bits, below.len() * 64, below.iter().any(|&limb| limb != 0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(a: &str, b: &str) -> Option<String> {
        let sum =
            LongDouble::parse(a.as_bytes()).unwrap().checked_add(LongDouble::parse(b.as_bytes()).unwrap())?;
        let mut out = Vec::new();
        sum.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    /// The right column is what redis-server 7.0.15 answered on x86-64.
    #[test]
    fn sums_are_those_of_an_x87_long_double() {
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "-1.1", "4998.89999999999999991"),
            ("1", "-1", "0"),
            ("-0", "0", "0"),
            ("0.1", "0.2", "0.3"),
            ("1e-20", "0", "0"),
            ("-1e-20", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
            ("0x10", "0.5", "16.5"),
        ] {
            assert_eq!(add(a, b).as_deref(), Some(sum), "{a} + {b}");
        }
        assert_eq!(add("inf", "1"), None);
        assert_eq!(add("1.1e4932", "1.1e4932"), None);
    }

    #[test]
    fn integers_convert_exactly() {
        for value in [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, 1_000_000_007] {
            let mut out = Vec::new();
            LongDouble::from(value).write(&mut out);
            assert_eq!(out, value.to_string().into_bytes());
            assert_eq!(LongDouble::parse(&out), Some(LongDouble::from(value)));
        }
    }

    #[test]
    fn texts_strtold_would_not_take_whole_are_refused() {
        let long = [b'1'; MAX_TEXT];
        assert!(LongDouble::parse(&long).is_none());
        assert!(LongDouble::parse(&long[..4900]).is_some());
        for bad in [
            "",
            " 1",
            "1 ",
            "nan",
            "1e",
            ".",
            "e5",
            "1e5000",
            "1e-5000",
            "0x",
            "1e99999999999999999999",
            "--1",
            "1.2.3",
        ] {
            assert!(LongDouble::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(LongDouble::parse(b"0e99999999999999").is_some());
    }
}
