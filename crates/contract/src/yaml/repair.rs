//! Quoted text whose further lines are indented like its key.
//! YAML 1.2 wants them deeper, but PyYAML, and so much that dumps contracts, writes them so, and every libyaml reads
//! them. In: a text. Out: the same text with those lines indented deeper, which changes nothing of what is quoted.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser};

/// Most bytes that are scanned again for the sake of such lines; beyond, the parser's own error stands.
const MAX_SCANNED: usize = 128 << 20;

pub(super) fn indented(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    let mut scanned = 0;
    while let Some(start) = too_shallow(&out) {
        scanned += start;
        let Some(deeper) = deeper(&out, start).filter(|_| scanned < MAX_SCANNED) else {
            break;
        };
        out = Cow::Owned(deeper);
    }
    out
}

/// Where the first quoted text starts that the parser refuses for its indentation, in characters.
fn too_shallow(text: &str) -> Option<usize> {
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event()? {
            Ok((Event::StreamEnd, _)) => return None,
            Ok(_) => {}
            Err(error) if error.info() == "invalid indentation in quoted scalar" => {
                return Some(error.marker().index());
            }
            Err(_) => return None,
        }
    }
}

/// The text with the further lines of the quoted text at `start` indented by as much as its first line has before it.
/// `None` where the quote was probably never closed: the parser's own error then says where it was opened.
fn deeper(text: &str, start: usize) -> Option<String> {
    let at = text.char_indices().nth(start)?.0;
    let quote = text[at..].chars().next().filter(|c| ['"', '\''].contains(c))?;
    let end = at + closing(&text[at + 1..], quote)? + 1;
    let line = &text[text[..at].rfind('\n').map_or(0, |n| n + 1)..at];
    let by = " ".repeat(line.chars().count().min(256));
    let at_margin = |line: &str| !line.is_empty() && !line.starts_with([' ', '\t', '\r']);
    let rest = text[end + 1..].trim_start_matches([' ', '\t']);
    let goes_on = !rest.is_empty() && !rest.starts_with(['\n', '\r', ',', '}', ']', ':', '#']);
    if goes_on || text[at..=end].split('\n').skip(1).any(at_margin) {
        return None;
    }
    Some(format!("{}{}{}", &text[..at], text[at..end].replace('\n', &format!("\n{by}")), &text[end..]))
}

/// Where the quoted text ends: bytes after its opening quote.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', '"') => {
                chars.next();
            }
            ('\'', '\'') if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
            }
            _ if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pyyaml_writes_is_read() {
        let dumped = "a:\n- b: \"x y\\\n  \\ z.\"\n  c: 'u\r\n\n  v'\nd: 1\n";
        let expected = "a:\n- b: \"x y\\\n       \\ z.\"\n  c: 'u\r\n     \n       v'\nd: 1\n";
        assert!(too_shallow(dumped).is_some() && too_shallow(expected).is_none());
        assert_eq!(indented(dumped), expected);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_left_alone() {
        for broken in ["a:\n  b: \"x\n  c: 1\nd: \"y\"\n", "a:\n  b: 'x\n  c: 'y'\n", "a: 'x\nb: 1\n", "a: \"x"] {
            assert_eq!(indented(broken), broken);
        }
    }
}
