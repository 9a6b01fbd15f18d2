//! The quotes of a CSV file, by RFC 4180: the csv crate reads past a quote that is never closed, and past text behind a
//! closing quote, so rows would be lost or joined without an error.
//!
//! In: bytes. Out: the same bytes up to the first quote that is out of place, then an error with its line.

use std::fmt;
use std::io::{self, Read};

/// A quote that is out of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misquoted {
    pub(crate) line: u64,
    problem: &'static str,
}

impl fmt::Display for Misquoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

impl std::error::Error for Misquoted {}

const OPEN: &str = "the field that begins here has a quote that is never closed";
const BEHIND: &str = "text follows a closing quote; inside a quoted field, write each quote twice";
const INSIDE: &str =
    "a quote stands in a field that is not quoted; quote the whole field, and write each quote in it twice";

/// Where the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Bare,
    /// With the line of the opening quote.
    Quoted(u64),
    /// Behind a quote in a quoted field: the field's end, or the first of two.
    Quote(u64),
}

/// Passes bytes on as long as their quotes are right.
#[derive(Debug)]
pub(crate) struct Quotes<R> {
    inner: R,
    place: Place,
    line: u64,
    failed: Option<Misquoted>,
    /// How many bytes of a byte order mark have passed.
    mark: usize,
}

const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl<R> Quotes<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, place: Place::Start, line: 1, failed: None, mark: 0 }
    }

    /// Whether the byte belongs to a mark at the file's beginning, which is no text of the first field.
    fn is_mark(&mut self, byte: u8) -> bool {
        let is = MARK.get(self.mark) == Some(&byte);
        self.mark = if is { self.mark + 1 } else { MARK.len() };
        is
    }

    fn pass(&mut self, byte: u8) -> Result<(), &'static str> {
        self.place = match (self.place, byte) {
            (Place::Start, b'"') => Place::Quoted(self.line),
            (Place::Bare, b'"') => return Err(INSIDE),
            (Place::Quoted(since), b'"') => Place::Quote(since),
            (Place::Quote(since), b'"') => Place::Quoted(since),
            (Place::Quoted(since), _) => Place::Quoted(since),
            (_, b',' | b'\r' | b'\n') => Place::Start,
            (Place::Quote(_), _) => return Err(BEHIND),
            (Place::Start | Place::Bare, _) => Place::Bare,
        };
        if byte == b'\n' {
            self.line += 1;
        }
        Ok(())
    }

    /// How many of these bytes are right.
    fn check(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.is_mark(*byte) {
                continue;
            }
            if let Err(problem) = self.pass(*byte) {
                self.failed = Some(Misquoted { line: self.line, problem });
                return at;
            }
        }
        bytes.len()
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(failed) = self.failed {
            return Err(io::Error::other(failed));
        }
        let read = self.inner.read(buffer)?;
        if let (0, Place::Quoted(line)) = (read, self.place)
            && !buffer.is_empty()
        {
            self.failed = Some(Misquoted { line, problem: OPEN });
        }
        let right = self.check(buffer.get(..read).unwrap_or_default());
        match self.failed {
            Some(failed) if right == 0 => Err(io::Error::other(failed)),
            _ => Ok(right),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The text that passed, and the line of what stopped it.
    fn read(text: &str, step: usize) -> (String, Option<u64>) {
        let mut quotes = Quotes::new(text.as_bytes());
        let (mut passed, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match quotes.read(&mut buffer) {
                Ok(0) => return (String::from_utf8(passed).unwrap(), None),
                Ok(read) => passed.extend(&buffer[..read]),
                Err(error) => {
                    let line = error.get_ref().unwrap().downcast_ref::<Misquoted>().unwrap().line;
                    return (String::from_utf8(passed).unwrap(), Some(line));
                }
            }
        }
    }

    #[test]
    fn right_quotes_pass_unchanged_whatever_the_buffer() {
        for text in ["", "a,b\n1,2\n", "\"a\"\"b\",\"\"\r\n\"x\ny\",", "\u{feff}\"a\",b\n", ",,\n\"\"\n"] {
            for step in 1..8 {
                assert_eq!(read(text, step), (text.to_owned(), None), "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn a_quote_out_of_place_has_its_line() {
        for (text, line) in [("a\n\"b\n\nc", 2), ("a\n\"b\n\"c,d\n", 3), ("a\nb\nc\"d", 3), ("\u{feff}\"a", 1)] {
            for step in 1..8 {
                assert_eq!(read(text, step).1, Some(line), "{text:?} by {step}");
            }
        }
    }
}
