//! What serde_json leaves open: how deep a value may be, and whether a name stands twice.
//!
//! serde_json 1.0 bounds the depth of what is visited (128), but skips unknown values without a bound. Both walks here take
//! time in proportion to the text, and no stack.

use std::collections::HashSet;

use crate::pipeline::refusal::{Reason, Refusal};

/// Objects and arrays within each other: as many as serde_json visits.
const DEEPEST: usize = 127;

/// Refuses a text whose brackets go too deep, before anything walks into them. It need not be JSON.
pub(super) fn depth(text: &str) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > DEEPEST {
                    let message = format!("objects and arrays lie deeper than {DEEPEST} levels in each other");
                    return Err(Refusal::whole(Reason::Undecodable, message));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The names of one object that no column takes: few, mostly.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashSet<Box<str>>,
}

impl Names {
    /// False if the name was there before.
    pub(super) fn add(&mut self, name: &str) -> bool {
        self.names.insert(name.into())
    }
}
