//! Regular expressions: ECMA-262 in documents, the `regex` crate's linear-time syntax where records are checked.

mod annex_b;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// No regular expression at all.
    Broken(String),
    /// A regular expression, but one that records are not checked by; why.
    Unchecked(&'static str),
}

/// Takes unbounded time.
const LOOKS_AROUND: &str = "has look-around or back-references";
/// `\Z` is `Z` in ECMA-262, the end of the text in Perl and Python.
const OTHER_ESCAPE: &str = "has an escape that other engines read in another way";

/// Translates a pattern.
pub(crate) fn translate(pattern: &str) -> Result<String, PatternError> {
    let plain = annex_b::explicit(pattern).map_err(|reason| PatternError::Broken(reason.to_owned()))?;
    let translated = jsonschema_regex::to_rust_regex(&plain).map(|text| text.into_owned());
    let translated = translated.unwrap_or_else(|()| plain.clone());
    match regex::Regex::new(&translated) {
        Ok(_) => Ok(translated),
        Err(error) => match fancy_regex::Regex::new(&translated) {
            Ok(_) if looks_around(pattern) => Err(PatternError::Unchecked(LOOKS_AROUND)),
            _ => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                match reason.starts_with("unrecognized escape sequence") {
                    true => Err(PatternError::Unchecked(OTHER_ESCAPE)),
                    false => Err(PatternError::Broken(reason.to_owned())),
                }
            }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!(translate("ACC[0-9]{8}"), Ok("ACC[0-9]{8}".to_owned()));
        assert_eq!(translate("^(?!x)y$"), Err(PatternError::Unchecked(LOOKS_AROUND)));
        assert_eq!(translate(r"^x\Z"), Err(PatternError::Unchecked(OTHER_ESCAPE)));
        for broken in ["[0-9", "a{2,1}", "(a", "a)", "*a", "[z-a]", "a**", "a{2}{3}", "a\\", "(?<n"] {
            assert!(matches!(translate(broken), Err(PatternError::Broken(_))), "{broken}");
        }
    }

    /// However long it is; what grew with its square would hang here.
    #[test]
    fn long_patterns_take_no_time() {
        for part in [r"\d", "[a]", "{", r"\x", r"\cA", "[]", r"[\w-a]", "a{2}", "(?=a)", r"\u{"] {
            let _ = translate(&part.repeat(100_000));
        }
    }

    /// What the web's engines read, though the grammar of ECMA-262's body does not have it.
    #[test]
    fn annex_b_is_read() {
        let check = |pattern: &str, matching: &[&str], others: &[&str]| {
            let regex = regex::Regex::new(&translate(pattern).unwrap()).unwrap();
            matching.iter().for_each(|text| assert!(regex.is_match(text), "{pattern} {text}"));
            others.iter().for_each(|text| assert!(!regex.is_match(text), "{pattern} {text}"));
        };
        check(r"^[\w-\.]+@([\w-]+\.)+[\w-]{2,4}$", &["a.b-c@d-e.org"], &["a b@c.org", "a@b"]);
        check(r"^[\w-a-z]$", &["-", "q", "_"], &["+", "."]);
        check(r"^[+-\d]$", &["+", "-", "7"], &[",", "."]);
        check(r"^[\d--z]$", &["5", "-", "z"], &[".", "y"]);
        check(r"^{[a-z]+}$", &["{ab}"], &["ab"]);
        check(r"^a{,3}$", &["a{,3}"], &["aa"]);
        check(r"^\{[a-z]{2}\}$", &["{ab}"], &["{abc}"]);
        check(r"^[\b]$", &["\u{8}"], &["b"]);
        check(r"^[^[{]+$", &["ab"], &["a[", "a{"]);
        check(r"^\d\D\w\W\s\S\cJ$", &["1aa- x\n"], &["aaa- x\n", "1aa--x\n"]);
        check(r"^\s$", &["\u{feff}", "\u{a0}", "\t"], &["x"]);
        check(r"^\u{41}{2}\p{L}$", &["AAé"], &["A"]);
        check(r"^a[^]c$", &["abc", "a\nc"], &["ac"]);
        check(r"^a+?b{2,}?$", &["aabb"], &["ab"]);
    }
}
