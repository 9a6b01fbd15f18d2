//! How much a record of the bus holds, and how a text is cut that is longer. Pure.
//!
//! In: texts. Out: their length within a record; no more of them than fits.
//! Never: a record that Kafka refuses for its length each time it is tried; a cut within a character.

/// Bytes of JSON that are written as one record: less than Kafka takes by default (1,000,000), by more than headers, key
/// and the rest of a record are long.
pub const RECORD_BYTES: usize = 900_000;
/// What stands for the rest of a text that is cut.
pub const CUT: &str = "…";

/// Bytes that a text takes as JSON, without its quotes.
pub fn json_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// At most so many characters of a text.
pub fn cut_at_chars(text: &str, most: usize) -> String {
    cut(text, text.char_indices().nth(most).map(|(end, _)| end))
}

/// As many characters of a text as take at most so many bytes of JSON.
pub fn cut_at_json_bytes(text: &str, most: usize) -> String {
    let mut bytes = 0;
    let end = text.char_indices().find(|(at, char)| {
        bytes += json_bytes(&text[*at..at + char.len_utf8()]);
        bytes > most
    });
    cut(text, end.map(|(end, _)| end))
}

fn cut(text: &str, end: Option<usize>) -> String {
    end.map_or_else(|| text.to_owned(), |end| format!("{}{CUT}", &text[..end]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_its_json() {
        let text: String = (0u8..128).map(char::from).chain(['é', '"', '\\', '😀']).collect();
        for (at, _) in text.char_indices() {
            assert_eq!(json_bytes(&text[..at]) + 2, serde_json::to_string(&text[..at]).unwrap().len());
        }
    }

    #[test]
    fn a_cut_text_is_the_longest_beginning_that_fits() {
        for char in ['n', 'é', '😀', '\u{1}', '"'] {
            for count in 0..12 {
                let text = String::from(char).repeat(count);
                for most in 0..40 {
                    let by_chars = cut_at_chars(&text, most);
                    let kept = count.min(most);
                    let expected = String::from(char).repeat(kept) + if kept < count { CUT } else { "" };
                    assert_eq!(by_chars, expected);
                    let by_bytes = cut_at_json_bytes(&text, most);
                    let kept = count.min(most / json_bytes(&char.to_string()));
                    let expected = String::from(char).repeat(kept) + if kept < count { CUT } else { "" };
                    assert_eq!(by_bytes, expected, "{char:?} × {count} in {most}");
                }
            }
        }
    }
}
