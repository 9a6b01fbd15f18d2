//! Regular expressions: ECMA-262 in documents, the `regex` crate's linear-time syntax where records are checked.

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// No regular expression at all.
    Broken(String),
    /// A regular expression, but with look-around or back-references, which take unbounded time.
    Unbounded,
}

/// Translates a pattern.
pub(crate) fn translate(pattern: &str) -> Result<String, PatternError> {
    let translated = jsonschema_regex::to_rust_regex(pattern).map(|text| text.into_owned());
    let translated = translated.unwrap_or_else(|()| pattern.to_owned());
    match regex::Regex::new(&translated) {
        Ok(_) => Ok(translated),
        Err(error) => match fancy_regex::Regex::new(&translated) {
            Ok(_) if looks_around(pattern) => Err(PatternError::Unbounded),
            _ => Err(PatternError::Broken(
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            )),
        },
    }
}

/// Look-around or a back-reference: what one engine has and the other has not.
fn looks_around(pattern: &str) -> bool {
    let marks = ["(?=", "(?!", "(?<=", "(?<!", "\\k<"];
    let reference = pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit());
    reference || marks.iter().any(|mark| pattern.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!(translate("ACC[0-9]{8}"), Ok("ACC[0-9]{8}".to_owned()));
        assert_eq!(translate("^(?!x)y$"), Err(PatternError::Unbounded));
        assert!(matches!(translate("[0-9"), Err(PatternError::Broken(_))));
        assert!(matches!(translate("a{2,1}"), Err(PatternError::Broken(_))));
    }
}
