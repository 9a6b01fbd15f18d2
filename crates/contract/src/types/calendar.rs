//! Dates, times and moments: the one calendar of the mesh, for every format that values come in.
//!
//! In: text, or the numbers that tables hold. Out: days or microseconds since the epoch.
//! Years 1 to 9999 of the proleptic Gregorian calendar, four digits; days of 24 hours without leap seconds;
//! microseconds. That is what Python's `datetime`, pyarrow, DuckDB and Java all read.
//! Never: a moment that another engine cannot show, a zone that was guessed, a fraction that was cut.

use chrono::NaiveDate;

/// 0001-01-01 in days since 1970-01-01.
const FIRST_DAY: i32 = -719_162;
/// 9999-12-31 in days since 1970-01-01.
const LAST_DAY: i32 = 2_932_896;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
const DAY: i64 = 86_400 * SECOND;

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// It has another form, or the calendar has no such day, the clock no such time.
    #[error("it has another form, or there is no such day or time")]
    Form,
    /// It has digits other than zero after the sixth place of its second.
    #[error("microseconds are the finest there is here")]
    TooFine,
    /// In UTC it lies outside of the years 1 to 9999.
    #[error("in UTC it lies outside of the years 1 to 9999")]
    Beyond,
}

type Result<T> = std::result::Result<T, CalendarError>;

/// Whether a number of days since 1970-01-01 is a date.
pub fn is_date(days: i32) -> bool {
    (FIRST_DAY..=LAST_DAY).contains(&days)
}

/// Whether a number of microseconds since midnight is a time of day.
pub fn is_time(micros: i64) -> bool {
    (0..DAY).contains(&micros)
}

/// Whether a number of microseconds since 1970-01-01 is a moment.
pub fn is_moment(micros: i64) -> bool {
    (i64::from(FIRST_DAY) * DAY..(i64::from(LAST_DAY) + 1) * DAY).contains(&micros)
}

/// A date, `2013-01-31`, in days since 1970-01-01.
pub fn date(text: &str) -> Result<i32> {
    let mut reader = Reader::new(text);
    let date = reader.date();
    date.filter(|_| reader.is_at_end()).ok_or(CalendarError::Form)
}

/// A time of day, `17:30:00` or `17:30:00.123456`, in microseconds since midnight.
pub fn time(text: &str) -> Result<i64> {
    let mut reader = Reader::new(text);
    let time = reader.time(false)?;
    if reader.is_at_end() { Ok(time) } else { Err(CalendarError::Form) }
}

/// A moment with its offset (RFC 3339), `2013-01-31T17:30:00Z`, in microseconds since 1970-01-01 in UTC.
pub fn instant(text: &str) -> Result<i64> {
    let mut reader = Reader::new(text);
    let local = reader.local(false)?;
    let offset = reader.offset(false).ok_or(CalendarError::Form)?;
    in_range(local, offset, &reader)
}

/// A date and a time without offset, `2013-01-31T17:30:00`, in microseconds since 1970-01-01.
pub fn local(text: &str) -> Result<i64> {
    let mut reader = Reader::new(text);
    let local = reader.local(false)?;
    in_range(local, 0, &reader)
}

/// A moment as people write it in documents: without offset it is in UTC, without time it is midnight; seconds and the
/// minutes of an offset may be left out.
pub(crate) fn written_moment(text: &str) -> Result<i64> {
    let mut reader = Reader::new(text.trim());
    let date = reader.date().ok_or(CalendarError::Form)?;
    if reader.is_at_end() {
        return Ok(i64::from(date) * DAY);
    }
    let mut reader = Reader::new(text.trim());
    let local = reader.local(true)?;
    if reader.is_at_end() {
        return Ok(local);
    }
    reader.take(b" ");
    let offset = reader.offset(true).ok_or(CalendarError::Form)?;
    in_range(local, offset, &reader)
}

/// A time of day as people write it in documents: seconds may be left out.
pub(crate) fn written_time(text: &str) -> Result<i64> {
    let mut reader = Reader::new(text);
    let time = reader.time(true)?;
    if reader.is_at_end() { Ok(time) } else { Err(CalendarError::Form) }
}

fn in_range(local: i64, offset: i64, reader: &Reader<'_>) -> Result<i64> {
    let moment = local - offset;
    match (reader.is_at_end(), is_moment(moment)) {
        (false, _) => Err(CalendarError::Form),
        (true, false) => Err(CalendarError::Beyond),
        (true, true) => Ok(moment),
    }
}

/// Reads from the front; what it could not read is `None`.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// One of these bytes.
    fn take(&mut self, any_of: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        any_of.contains(first).then(|| self.rest = rest)?;
        Some(*first)
    }

    /// A number of exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        let number = digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))?;
        self.rest = rest;
        Some(number)
    }

    fn date(&mut self) -> Option<i32> {
        let year = i32::try_from(self.digits(4)?).ok().filter(|year| *year > 0)?;
        self.take(b"-")?;
        let month = self.digits(2)?;
        self.take(b"-")?;
        let date = NaiveDate::from_ymd_opt(year, month, self.digits(2)?)?;
        i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
    }

    fn local(&mut self, short: bool) -> Result<i64> {
        let date = self.date().ok_or(CalendarError::Form)?;
        self.take(b"Tt ").ok_or(CalendarError::Form)?;
        Ok(i64::from(date) * DAY + self.time(short)?)
    }

    /// In microseconds; `short` may lack its seconds.
    fn time(&mut self, short: bool) -> Result<i64> {
        let minutes = self.hours_and_minutes(false).ok_or(CalendarError::Form)?;
        if short && self.rest.first() != Some(&b':') {
            return Ok(minutes * 60 * SECOND);
        }
        let seconds = self.take(b":").and_then(|_| self.digits(2)).filter(|seconds| *seconds < 60);
        let seconds = i64::from(seconds.ok_or(CalendarError::Form)?);
        let fraction = match self.take(b".") {
            None => 0,
            Some(_) => self.fraction()?,
        };
        Ok((minutes * 60 + seconds) * SECOND + fraction)
    }

    fn fraction(&mut self) -> Result<i64> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        match digits {
            [] => Err(CalendarError::Form),
            digits if digits.iter().skip(6).any(|digit| *digit != b'0') => Err(CalendarError::TooFine),
            digits => {
                let digit = |at| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
                Ok((0..6).fold(0, |micros, at| micros * 10 + digit(at)))
            }
        }
    }

    /// `Z` or `+02:00`, in microseconds east of UTC; `short` may lack its colon and its minutes.
    fn offset(&mut self, short: bool) -> Option<i64> {
        let sign = match self.take(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        Some(sign * self.hours_and_minutes(short)? * 60 * SECOND)
    }

    /// In minutes; `short` may lack the colon and the minutes.
    fn hours_and_minutes(&mut self, short: bool) -> Option<i64> {
        let hours = self.digits(2).filter(|hours| *hours < 24)?;
        let colon = self.take(b":").is_some();
        let minutes = match (colon, short && self.is_at_end(), short) {
            (false, true, _) => 0,
            (true, ..) | (false, _, true) => self.digits(2).filter(|minutes| *minutes < 60)?,
            _ => return None,
        };
        Some(i64::from(hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CalendarError::{Beyond, Form, TooFine};

    #[test]
    fn dates_have_four_digits_of_a_year() {
        assert_eq!(date("1970-01-02"), Ok(1));
        assert_eq!(date("0001-01-01"), Ok(FIRST_DAY));
        assert_eq!(date("9999-12-31"), Ok(LAST_DAY));
        assert_eq!(date("2000-02-29"), Ok(11_016));
        for text in [
            "26-01-01",
            "0000-12-31",
            "1900-02-29",
            "2013-13-01",
            "+2013-01-01",
            "10000-01-01",
            "2013-1-1",
            "",
            "2013-01-01 ",
        ] {
            assert_eq!(date(text), Err(Form), "{text}");
        }
    }

    #[test]
    fn a_day_has_86400_seconds() {
        assert_eq!(time("23:59:59.999999"), Ok(DAY - 1));
        assert_eq!(time("00:00:00.1234560000"), Ok(123_456));
        assert_eq!(time("00:00:00.1234567"), Err(TooFine));
        for text in [
            "23:59:60",
            "24:00:00",
            "12:60:00",
            "12:00",
            "1:00:00",
            "12:00:00.",
            "12:00:00Z",
            "12:00:00,5",
            " 12:00:00",
        ] {
            assert_eq!(time(text), Err(Form), "{text}");
        }
    }

    #[test]
    fn moments_have_an_offset_or_none() {
        assert_eq!(instant("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(instant("1970-01-01 02:00:00.5+02:00"), Ok(500_000));
        assert_eq!(instant("0001-01-01T00:00:00+00:01"), Err(Beyond));
        assert_eq!(instant("9999-12-31T23:59:59.999999-00:01"), Err(Beyond));
        assert_eq!(instant("9999-12-31T23:59:59.999999Z").map(is_moment), Ok(true));
        assert_eq!(local("1969-12-31T23:59:59.999999"), Ok(-1));
        for text in
            ["1970-01-01T00:00:00", "1970-01-01T00:00:00+2", "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00ZZ"]
        {
            assert_eq!(instant(text), Err(Form), "{text}");
        }
        assert_eq!(local("1970-01-01T00:00:00Z"), Err(Form));
    }

    #[test]
    fn documents_may_be_shorter() {
        for text in [
            "2020-01-01",
            "2020-01-01 00:00",
            "2020-01-01T10:00+10",
            "2020-01-01 10:00:00 +1000",
            "2020-01-01T00:00:00.0",
        ] {
            assert_eq!(written_moment(text), Ok(1_577_836_800_000_000), "{text}");
        }
        assert_eq!(written_moment("2016-12-31T23:59:60Z"), Err(Form));
        assert_eq!(written_time("17:30"), Ok(63_000 * SECOND));
    }
}
