//! ECMA-262's Annex B: what every engine of the web reads beyond the grammar, said in the grammar's own words.
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
    let (mut out, mut before) = (String::with_capacity(pattern.len()), Before::Nothing);
    while let Some(c) = rest.chars().next() {
        let (length, is) = match c {
            '\\' => (escape(rest), Before::Atom),
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
    match rest[length..].find('}') {
        Some(end) if "upPx".contains(letter) && rest[length..].starts_with('{') => length + end + 1,
        _ => length,
    }
}

/// The length of `{2}`, `{2,}` or `{2,3}`.
fn quantifier(rest: &str) -> Option<usize> {
    let end = rest.find('}')?;
    let (least, most) = rest[1..end].split_once(',').unwrap_or((&rest[1..end], ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

/// A class from its bracket to what follows it. A hyphen beside `\d`, `\s` or `\w` is no range: it stands for itself,
/// and so does what is on its other side.
fn class<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let mut rest = &rest[1..];
    let negated = rest.starts_with('^');
    rest = rest.strip_prefix('^').unwrap_or(rest);
    if let (Some(after), 1) = (rest.strip_prefix(']'), rest.matches(']').count()) {
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
