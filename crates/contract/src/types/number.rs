//! Numbers from their text, exactly: never through a double.
//!
//! In: `-12.50`, `1e3`. Out: an integer at a scale. Time and memory are bounded by the text's length.
//! Never: a digit that is rounded away, a number that wraps around.

/// Why a text is not a number of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It is no number.
    #[error("it is no number")]
    Form,
    /// It has more places than the type.
    #[error("it has more places than the type")]
    Cut,
    /// It is beyond what the type holds.
    #[error("it is beyond what the type holds")]
    Overflow,
}

/// A number as sign, digits without zeros at either end, and the power of ten that the last of them has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digits<'a> {
    pub(crate) negative: bool,
    /// The whole part and the fraction, one after the other; zeros at the ends are counted out by `skip` and `count`.
    parts: [&'a [u8]; 2],
    skip: usize,
    count: usize,
    exponent: i64,
}

impl<'a> Digits<'a> {
    /// Reads a number: a sign, digits, a fraction, an exponent, as JSON has them; a `+` too.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
            None => (mantissa, None),
        };
        let is_plain = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if !is_plain(whole) || !fraction.is_none_or(is_plain) {
            return None;
        }
        let parts = [whole, fraction.unwrap_or_default()];
        let digits = || parts.iter().flat_map(|part| part.iter());
        let total = whole.len() + parts[1].len();
        let skip = digits().take_while(|digit| **digit == b'0').count();
        let trailing = digits().rev().take_while(|digit| **digit == b'0').count();
        let places = i64::try_from(parts[1].len()).ok()?;
        Some(Self {
            negative,
            parts,
            skip,
            count: total.saturating_sub(skip + trailing),
            exponent: exponent.saturating_sub(places).saturating_add(i64::try_from(trailing).ok()?),
        })
    }

    fn digits(&self) -> impl Iterator<Item = i128> {
        self.parts.into_iter().flatten().skip(self.skip).take(self.count).map(|digit| i128::from(digit - b'0'))
    }

    /// The number without its last digits, as an integer at a scale, and whether anything but zeros was left out.
    /// `None` beyond 38 digits.
    pub(crate) fn at_scale(&self, scale: u8) -> Option<(i128, bool)> {
        if self.count == 0 {
            return Some((0, false));
        }
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        let shift = self.exponent.saturating_add(scale.into());
        let kept = count.saturating_add(shift.min(0)).max(0);
        if kept.saturating_add(shift.max(0)) > 38 {
            return None;
        }
        let kept = usize::try_from(kept).ok()?;
        let size = self.digits().take(kept).fold(0, |number, digit| number * 10 + digit);
        let size = size.checked_mul(10_i128.checked_pow(u32::try_from(shift.max(0)).ok()?)?)?;
        Some((if self.negative { -size } else { size }, kept < self.count))
    }
}

/// An exponent; one with more digits than can matter saturates.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size =
        digits.iter().fold(0_i64, |number, digit| number.saturating_mul(10).saturating_add((digit - b'0').into()));
    Some(if negative { -size } else { size })
}

/// Whether a text is a number: a sign, digits, a fraction, an exponent.
pub fn is_number(text: &str) -> bool {
    Digits::read(text).is_some()
}

/// A decimal's digits as one integer: `12.5` with two places is 1250.
pub fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128, NumberError> {
    let digits = Digits::read(text).ok_or(NumberError::Form)?;
    let (unscaled, cut) = digits.at_scale(scale).ok_or(NumberError::Overflow)?;
    let limit = 10_i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
    match (unscaled.unsigned_abs() < limit.unsigned_abs(), cut) {
        (false, _) => Err(NumberError::Overflow),
        (true, true) => Err(NumberError::Cut),
        (true, false) => Ok(unscaled),
    }
}

/// A whole number: `7`, `7.0`, `7e2`.
pub fn integer<T: TryFrom<i128>>(text: &str) -> Result<T, NumberError> {
    T::try_from(decimal(text, 38, 0)?).map_err(|_| NumberError::Overflow)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use NumberError::{Cut, Form, Overflow};

    #[test]
    fn decimals_are_exact() {
        let check = |text: &str, expected| assert_eq!(decimal(text, 5, 2), expected, "{text}");
        check("123.45", Ok(12_345));
        check("-0.10", Ok(-10));
        check("1.2500000000000000000000000", Ok(125));
        check("12345e-2", Ok(12_345));
        check("0.0001e4", Ok(100));
        check("999.99", Ok(99_999));
        check("1000", Err(Overflow));
        check("1e400", Err(Overflow));
        check("1e99999999999999999999", Err(Overflow));
        check("0.001", Err(Cut));
        check("1e-400", Err(Cut));
        check("-1e-99999999999999999999", Err(Cut));
        check("0e99999999999999999999", Ok(0));
        check("00012", Ok(1200));
        for text in ["", "-", ".", "1.", ".5", "1e", "1e+", "0x1", "NaN", "1 ", "1_0", "--1", "1.2.3"] {
            check(text, Err(Form));
        }
        let longest = "9".repeat(38);
        assert_eq!(decimal(&longest, 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal(&format!("0.{longest}"), 38, 38), Ok(10_i128.pow(38) - 1));
        assert_eq!(decimal(&format!("{longest}0"), 38, 0), Err(Overflow));
    }

    #[test]
    fn integers_are_exact_to_their_limits() {
        assert_eq!(integer::<i64>("9007199254740993"), Ok(9_007_199_254_740_993));
        assert_eq!(integer::<i64>("9007199254740993.0000000000000000001"), Err(Cut));
        assert_eq!(integer::<i64>("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer::<i64>("9223372036854775808"), Err(Overflow));
        assert_eq!(integer::<i32>("2147483648"), Err(Overflow));
        assert_eq!(integer::<i64>("7.000e0"), Ok(7));
        assert_eq!(integer::<i64>("1e3"), Ok(1000));
    }
}
