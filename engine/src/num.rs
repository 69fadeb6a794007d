//! Numbers as text, by the rules of the Redis family.
//!
//! What counts as an integer decides how a value is stored (`OBJECT ENCODING`), and how a double is
//! printed is part of every sorted-set reply, so both must agree with Redis to the byte. This module
//! promises exactly that; it allocates nothing, all formatting appends to a `Vec<u8>` the caller owns.
//! The 80-bit arithmetic behind `INCRBYFLOAT` is in [`long_double`].

pub(crate) mod long_double;

pub(crate) use long_double::LongDouble;

use std::fmt::Write as _;

/// Reads a decimal integer that is spelled the one way Redis itself would print it (`string2ll`):
/// an optional minus, no plus, no leading zeros, no spaces, and not `-0`. The text of the result is
/// therefore always the input, which is what lets an encoding store the number instead of the text.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 || !(b'1'..=b'9').contains(&digits[0]) {
        return None;
    }
    // 19 digits are below 10^19, which a u64 holds, so the sum cannot wrap.
    let mut value = 0u64;
    for &c in digits {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// Appends the decimal text of `value`.
#[inline]
pub fn fmt_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Reads a double as Redis' `string2d` does, that is, as `strtod` of the whole text: decimal or
/// hexadecimal, an optional sign, `inf` and `infinity` in any case. Refused are the empty text,
/// surrounding spaces, NaN, and numbers that overflow to infinity or vanish to zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if let Some(value) = parse_small_integer(text) {
        return Some(value);
    }
    if let Some(hex) = HexFloat::parse(text) {
        return hex?.to_f64();
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let plausible = if value.is_nan() {
        false
    } else if value.is_infinite() {
        // Digits that overflow are an error, the word is not.
        !text.iter().any(u8::is_ascii_digit)
    } else {
        value != 0.0 || mantissa_is_zero(text)
    };
    plausible.then_some(value)
}

/// The common case of scores: a few digits, exact in a double.
#[inline]
fn parse_small_integer(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    let mut value = 0u64;
    for &c in text {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value as f64)
}

/// Whether the digits before any exponent are all zeros, so that a zero is what was written.
fn mantissa_is_zero(text: &[u8]) -> bool {
    text.iter().take_while(|c| !matches!(c, b'e' | b'E')).all(|c| !(b'1'..=b'9').contains(c))
}

/// A hexadecimal float: `mantissa * 2^exponent`, with `sticky` set when lower bits were dropped.
/// `strtod` takes them, hence so does every Redis command that takes a double.
struct HexFloat {
    negative: bool,
    mantissa: u64,
    sticky: bool,
    exponent: i64,
}

impl HexFloat {
    /// `None` when the text is not hexadecimal at all, `Some(None)` when it is but malformed.
    fn parse(text: &[u8]) -> Option<Option<Self>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        match rest {
            [b'0', b'x' | b'X', rest @ ..] => Some(Self::parse_digits(negative, rest)),
            _ => None,
        }
    }

    fn parse_digits(negative: bool, text: &[u8]) -> Option<Self> {
        let mut float = Self { negative, mantissa: 0, sticky: false, exponent: 0 };
        let (mut digits, mut after_point) = (0usize, false);
        let mut rest = text;
        while let [c, tail @ ..] = rest {
            if *c == b'.' && !after_point {
                after_point = true;
            } else if let Some(digit) = (*c as char).to_digit(16) {
                digits += 1;
                if float.mantissa >> 60 == 0 {
                    float.mantissa = float.mantissa << 4 | u64::from(digit);
                    float.exponent -= if after_point { 4 } else { 0 };
                } else {
                    float.sticky |= digit != 0;
                    float.exponent += if after_point { 0 } else { 4 };
                }
            } else {
                break;
            }
            rest = tail;
        }
        if digits == 0 {
            return None;
        }
        if let [b'p' | b'P', tail @ ..] = rest {
            float.exponent = float.exponent.saturating_add(parse_exponent(tail)?);
            rest = &[];
        }
        rest.is_empty().then_some(float)
    }

    fn to_f64(&self) -> Option<f64> {
        if self.mantissa == 0 {
            return Some(if self.negative { -0.0 } else { 0.0 });
        }
        // Normalise to 64 bits, then round to the 53 (fewer for a subnormal) that the exponent leaves.
        let zeros = self.mantissa.leading_zeros();
        let mantissa = self.mantissa << zeros;
        let top = self.exponent.saturating_add(63 - i64::from(zeros));
        if !(-1080..=1024).contains(&top) {
            return None;
        }
        let keep = if top < -1022 { (53 - (-1022 - top)).max(0) } else { 53 } as u32;
        let drop = 64 - keep;
        let wide = u128::from(mantissa);
        let (kept, lost) = (wide >> drop, wide & ((1u128 << drop) - 1));
        let half = 1u128 << (drop - 1);
        let up = lost > half || (lost == half && (self.sticky || kept & 1 == 1));
        let rounded = (kept + u128::from(up)) as f64;
        // Two exact steps, as the power itself may lie below the normal range.
        let shift = (top - i64::from(keep) + 1) as i32;
        let value = rounded * 2f64.powi(shift / 2) * 2f64.powi(shift - shift / 2);
        (value != 0.0 && value.is_finite()).then_some(if self.negative { -value } else { value })
    }
}

/// Reads the digits after an exponent mark: a sign, then at least one digit. Saturates far outside
/// the range of any float, so that absurd exponents overflow instead of wrapping.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &c in digits {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i64::from(digit)).min(1_000_000_000);
    }
    Some(if negative { -value } else { value })
}

/// Appends a double as Redis 7.0 replies it: `%.17g`, with `inf` and `-inf`. Whole numbers below
/// 10^17 thereby print without point or exponent. `nan` never occurs in a stored value.
pub fn fmt_f64(value: f64, out: &mut Vec<u8>) {
    const EXACT: f64 = 1e15;
    if value.abs() < EXACT && value.trunc() == value {
        if value == 0.0 && value.is_sign_negative() {
            out.push(b'-');
        }
        return fmt_i64(value as i64, out);
    }
    if !value.is_finite() {
        let word: &[u8] = if value.is_nan() {
            b"nan"
        } else if value > 0.0 {
            b"inf"
        } else {
            b"-inf"
        };
        return out.extend_from_slice(word);
    }
    fmt_17g(value, out);
}

/// `%.17g` of a finite number other than zero.
fn fmt_17g(value: f64, out: &mut Vec<u8>) {
    const PRECISION: i32 = 17;
    // "-d.ddddddddddddddddde-308" at the longest.
    let mut text = StackText::<32>::default();
    write!(text, "{value:.16e}").expect("17 digits and an exponent fit the buffer");
    let text = text.as_bytes();
    let mark = text.iter().position(|&c| c == b'e').expect("the e format has an e");
    let exponent = parse_exponent(&text[mark + 1..]).expect("the e format ends in digits") as i32;

    let mut digits = [0u8; PRECISION as usize];
    let written = text[..mark].iter().filter(|c| c.is_ascii_digit());
    digits.iter_mut().zip(written).for_each(|(digit, &c)| *digit = c);
    let significant = digits.iter().rposition(|&c| c != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..significant];

    if value.is_sign_negative() {
        out.push(b'-');
    }
    if !(-4..PRECISION).contains(&exponent) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.unsigned_abs() < 10 {
            out.push(b'0');
        }
        fmt_i64(i64::from(exponent.abs()), out);
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.extend_from_slice(digits);
            out.resize(out.len() + whole - digits.len(), b'0');
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

/// A text of bounded length on the stack, for `write!`.
struct StackText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for StackText<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> StackText<N> {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> std::fmt::Write for StackText<N> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        fmt_f64(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_accepted_only_in_their_one_spelling() {
        for (good, value) in [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_i64(good.as_bytes()), Some(value));
        }
        for bad in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "10000000000000000000",
            "99999999999999999999",
            "--1",
            "1.0",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn doubles_print_as_percent_17g() {
        for (value, expected) in [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.10000000000000001"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "4.9406564584124654e-324"),
            (123456789012345.67, "123456789012345.67"),
            (9007199254740993.0, "9007199254740992"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_the_whole_text() {
        for (good, value) in [
            ("1", 1.0),
            ("+1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1e3", -1000.0),
            ("inf", f64::INFINITY),
            ("0x10", 16.0),
            ("+INF", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0e999", 0.0),
            ("-0", -0.0),
            ("0x1.8p1", 3.0),
            ("0X.1P-2", 0.015625),
            ("-0x1p-1074", -5e-324),
            ("0x1.fffffffffffff8p0", 2.0),
            ("1e-310", 1e-310),
        ] {
            let got = parse_f64(good.as_bytes()).unwrap_or_else(|| panic!("{good}"));
            assert_eq!(got.to_bits(), value.to_bits(), "{good}");
        }
        for bad in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "e1",
            ".",
            "1e400",
            "-1e400",
            "1e-400",
            "0x",
            "0x.",
            "0x1p",
            "1,5",
            "inf1",
            "1_0",
            "0x1p5000",
            "0x1p-1076",
            "0x1p99999999999999999999",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_integer_survives_its_text(value: i64) {
            let mut out = Vec::new();
            fmt_i64(value, &mut out);
            prop_assert_eq!(parse_i64(&out), Some(value));
        }

        #[test]
        fn a_double_survives_its_text(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_f64(text(value).as_bytes()).map(f64::to_bits), Some(value.to_bits()));
        }

        #[test]
        fn anything_parsed_as_integer_prints_as_it_was(input in "[-+0-9 ]{0,22}") {
            if let Some(value) = parse_i64(input.as_bytes()) {
                prop_assert_eq!(value.to_string(), input);
            }
        }
    }
}
