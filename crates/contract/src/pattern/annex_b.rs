//! ECMA-262's Annex B: what every engine of the web reads beyond the grammar, written in the grammar's own terms.
//! In: a pattern as written. Out: the same pattern, with hyphens and braces that stand for themselves escaped; or why
//! it is none, where Rust's engines are more patient (`a**`).

/// What a quantifier may follow.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Atom,
    Quantifier,
}

/// The pattern with nothing left to Annex B.
pub(super) fn explicit(pattern: &str) -> Result<String, &'static str> {
    let mut rest = pattern;
    let mut out = String::with_capacity(pattern.len());
    let mut before = Before::Nothing;
    while let Some(c) = rest.chars().next() {
        let (length, is) = match c {
            '\\' => {
                let (escape, after) = rest.split_at(escape(rest));
                let (text, more) = plain(escape, after).unwrap_or_else(|| (escape.to_owned(), 0));
                out.push_str(&text);
                before = Before::Atom;
                rest = &after[more..];
                continue;
            }
            '[' => {
                rest = class(rest, &mut out);
                before = Before::Atom;
                continue;
            }
            '*' | '+' | '?' => (1, Before::Quantifier),
            '{' => match quantifier(rest) {
                Some(length) => (length, Before::Quantifier),
                None => (1, Before::Atom),
            },
            '(' if rest.starts_with("(?") => (2, Before::Nothing),
            '(' | '|' | '^' => (1, Before::Nothing),
            other => (other.len_utf8(), Before::Atom),
        };
        let (taken, left) = rest.split_at(length);
        let lazy = before == Before::Quantifier && taken == "?";
        if is == Before::Quantifier && before == Before::Quantifier && !lazy {
            return Err("a quantifier after a quantifier");
        }
        if taken == "{" || taken == "}" {
            out.push('\\');
        }
        out.push_str(taken);
        // After `+?` nothing more may come: as after a quantifier, and no second `?`.
        before = is;
        rest = left;
        if lazy && rest.starts_with(['*', '+', '?']) {
            return Err("a quantifier after a quantifier");
        }
    }
    Ok(out)
}

/// The length of an escape, with the braces of `\u{…}` and `\p{…}`.
fn escape(rest: &str) -> usize {
    let Some(letter) = rest[1..].chars().next() else { return 1 };
    let length = 1 + letter.len_utf8();
    let braced = "upPx".contains(letter) && rest[length..].starts_with('{');
    // Names of Unicode's properties are no longer.
    let end = rest[length..].bytes().take(64).position(|byte| byte == b'}').filter(|_| braced);
    end.map_or(length, |end| length + end + 1)
}

/// The length of `{2}`, `{2,}` or `{2,3}`.
fn quantifier(rest: &str) -> Option<usize> {
    let inside = rest[1..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b',').count();
    let (least, most) = rest[1..=inside].split_once(',').unwrap_or((&rest[1..=inside], ""));
    let is_one = !least.is_empty() && !most.contains(',') && rest[1 + inside..].starts_with('}');
    is_one.then_some(inside + 2)
}

/// Escapes that [`jsonschema_regex`] translates one after the other, each time reading the whole pattern again.
fn plain(escape: &str, after: &str) -> Option<(String, usize)> {
    const SPACE: &str = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";
    let text = match escape {
        "\\d" => "[0-9]".to_owned(),
        "\\D" => "[^0-9]".to_owned(),
        "\\w" => "[A-Za-z0-9_]".to_owned(),
        "\\W" => "[^A-Za-z0-9_]".to_owned(),
        "\\s" => format!("[{SPACE}]"),
        "\\S" => format!("[^{SPACE}]"),
        "\\c" => {
            let letter = after.bytes().next().filter(u8::is_ascii_alphabetic)?;
            return Some((format!("\\x{:02x}", letter % 32), 1));
        }
        _ => return None,
    };
    Some((text, 0))
}

/// A class from its bracket to what follows it. A hyphen beside `\d`, `\s` or `\w` is no range: it stands for itself,
/// and so does what is on its other side.
fn class<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let mut rest = &rest[1..];
    let negated = rest.starts_with('^');
    rest = rest.strip_prefix('^').unwrap_or(rest);
    if let Some(after) = rest.strip_prefix(']').filter(|after| !after.contains(']')) {
        out.push_str(if negated { "[\\s\\S]" } else { "[^\\s\\S]" });
        return after;
    }
    out.push_str(if negated { "[^" } else { "[" });
    let mut first = true;
    while let Some(c) = rest.chars().next().filter(|c| *c != ']' || first) {
        first = false;
        let (low, after) = rest.split_at(if c == '\\' { escape(rest) } else { c.len_utf8() });
        let high = after.strip_prefix('-').filter(|high| !high.is_empty() && !high.starts_with(']'));
        let Some(high) = high else {
            atom(low, out);
            rest = after;
            continue;
        };
        let (high, after) = high.split_at(match high.starts_with('\\') {
            true => escape(high),
            false => high.chars().next().map_or(0, char::len_utf8),
        });
        let between = if is_set(low) || is_set(high) { "\\-" } else { "-" };
        atom(low, out);
        out.push_str(between);
        atom(high, out);
        rest = after;
    }
    match rest.strip_prefix(']') {
        Some(after) => {
            out.push(']');
            after
        }
        None => rest,
    }
}

fn is_set(atom: &str) -> bool {
    matches!(atom.as_bytes(), [b'\\', b'd' | b'D' | b's' | b'S' | b'w' | b'W', ..])
}

/// One member of a class.
fn atom(text: &str, out: &mut String) {
    match text {
        "\\b" => out.push_str("\\x08"),
        "-" => out.push_str("\\-"),
        other => out.push_str(other),
    }
}
