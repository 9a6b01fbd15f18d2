//! What one evaluation may cost beyond its time: regorus reads the clock between steps, and one step of a builtin can
//! ask for more memory than there is (`numbers.range(1, 1e12)`), or a few can double a text forty times.
//! In: a builtin's arguments. Out: its value, or an error where an evaluation would make too much.
//! Every builtin that can make more than it is given goes through here, as an extension of its own name.

use std::cell::Cell;

use anyhow::{Result, bail};
use regorus::unstable::{BUILTINS, Expr, Ref, Source, Span};
use regorus::{Engine, Value};

/// Most bytes that the builtins of one evaluation make.
const MOST: usize = 64 << 20;
/// What an element of an array or a set takes, roughly.
const ELEMENT: usize = 32;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// Builtins that make texts or arrays, as large as their arguments allow.
const MAKERS: [&str; 32] = [
    "array.concat",
    "array.slice",
    "base64.decode",
    "base64.encode",
    "base64url.decode",
    "base64url.encode",
    "bits.lsh",
    "concat",
    "format_int",
    "glob.quote_meta",
    "hex.decode",
    "hex.encode",
    "json.marshal",
    "json.marshal_with_options",
    "json.unmarshal",
    "lower",
    "numbers.range",
    "numbers.range_step",
    "object.union",
    "object.union_n",
    "regex.find_n",
    "regex.replace",
    "regex.split",
    "replace",
    "split",
    "sprintf",
    "strings.replace_n",
    "strings.reverse",
    "substring",
    "trim",
    "trim_space",
    "upper",
];

/// A new evaluation begins on this thread.
pub(super) fn begin() {
    MADE.set(0);
}

/// Puts the bounds before the builtins of an engine.
pub(super) fn install(engine: &mut Engine) {
    for name in MAKERS {
        let Some(&(builtin, arity)) = BUILTINS.get(name) else { continue };
        let bounded = move |arguments: Vec<Value>| call(name, builtin, &arguments);
        // It fails only where the name is taken, and each is there once.
        let _ = engine.add_extension(name.to_owned(), arity, Box::new(bounded));
    }
}

type Function = fn(&Span, &[Ref<Expr>], &[Value], bool) -> Result<Value>;

fn call(name: &str, builtin: Function, arguments: &[Value]) -> Result<Value> {
    let makes = estimate(name, arguments);
    let made = MADE.get().saturating_add(makes);
    if made > MOST {
        bail!("`{name}` would make this evaluation hold more than {} MiB; make it do less work", MOST >> 20);
    }
    MADE.set(made);
    // Where a builtin says that it was called in a wrong way; the caller adds the place in the policy.
    let span =
        Span { source: Source::from_contents(name.to_owned(), name.to_owned())?, line: 1, col: 1, start: 0, end: 0 };
    let place = Ref::new(Expr::Null { span: span.clone(), value: Value::Null, eidx: 0 });
    let places: Vec<Ref<Expr>> = arguments.iter().map(|_| place.clone()).collect();
    builtin(&span, &places, arguments, true).map_err(|error| {
        let text = error.to_string();
        anyhow::anyhow!("{}", text.rsplit("error: ").next().unwrap_or(&text).trim())
    })
}

/// Bytes that the value takes at most.
fn estimate(name: &str, arguments: &[Value]) -> usize {
    let size = |i: usize| arguments.get(i).map_or(0, bytes);
    let number = |i: usize| arguments.get(i).and_then(|value| value.as_f64().ok()).unwrap_or(0.0);
    let all: usize = arguments.iter().map(bytes).fold(0, usize::saturating_add);
    // Casts saturate: more than there is is more than is allowed.
    match name {
        "numbers.range" | "numbers.range_step" => ((number(1) - number(0)).abs() as usize).saturating_mul(ELEMENT),
        "bits.lsh" => all.saturating_add((number(1) as usize) / 4),
        "format_int" => all.saturating_mul(8).saturating_add(64),
        "concat" => {
            let pieces = arguments.get(1).map_or(0, entries);
            size(1).saturating_add(size(0).saturating_mul(pieces))
        }
        "replace" => size(0).saturating_add(size(0).saturating_mul(size(2)) / size(1).max(1)),
        "regex.replace" | "strings.replace_n" => all.saturating_add(size(0).saturating_mul(size(1).max(size(2)))),
        "sprintf" => all.saturating_mul(2).saturating_add(widths(arguments.first())),
        "split" | "regex.split" | "regex.find_n" => all.saturating_mul(ELEMENT),
        _ => all.saturating_mul(3),
    }
}

/// The widths that a format asks for.
fn widths(format: Option<&Value>) -> usize {
    let text = match format {
        Some(Value::String(text)) => text.to_string(),
        _ => return 0,
    };
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.map(|digits| digits.parse::<usize>().unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
}

fn entries(value: &Value) -> usize {
    match value {
        Value::Array(array) => array.len(),
        Value::Set(set) => set.len(),
        _ => 1,
    }
}

/// What a value takes, roughly.
fn bytes(value: &Value) -> usize {
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(array) => array.iter().map(bytes).fold(0, usize::saturating_add),
        Value::Set(set) => set.iter().map(bytes).fold(0, usize::saturating_add),
        Value::Object(members) => {
            members.iter().map(|(key, value)| bytes(key) + bytes(value)).fold(0, usize::saturating_add)
        }
        _ => 0,
    };
    inside.saturating_add(ELEMENT)
}
