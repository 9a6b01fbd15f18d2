//! How an error reaches a person: one shape for every binary.
//!
//! In: an error and its code. Out: `error[CODE]: message`, one `caused by` line for each source, and where to read on.

use std::error::Error;
use std::io::Write as _;

/// Prints the error to stderr. A failure to write there is ignored: there is no other place for it.
pub fn report(error: &dyn Error, code: &str) {
    let _ = std::io::stderr().lock().write_all(render(error, code).as_bytes());
}

/// The text that [`report`] prints.
pub fn render(error: &dyn Error, code: &str) -> String {
    let mut text = format!("error[{code}]: {error}\n");
    for cause in causes(error) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    text.push_str(&format!("  see docs/errors/{code}.md\n"));
    text
}

/// The error and its causes on one line, for a structured log field.
pub fn chain(error: &dyn Error) -> String {
    causes(error).into_iter().fold(error.to_string(), |text, cause| text + ": " + &cause)
}

/// The causes from the outside in, without those that a library's message above already repeats.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut above = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !above.contains(&text) {
            causes.push(text.clone());
            above = text;
        }
        next = cause.source();
    }
    causes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn check(layers: &[&'static str], expected: &str) {
        let error =
            layers.iter().rev().fold(None, |source: Option<Box<Layer>>, text| Some(Box::new(Layer { text, source })));
        assert_eq!(render(&*error.unwrap(), "MESH-X-0001"), expected);
    }

    #[test]
    fn an_error_shows_its_code_its_causes_and_its_page() {
        check(
            &["cannot start", "port taken"],
            "error[MESH-X-0001]: cannot start\n  caused by: port taken\n  see docs/errors/MESH-X-0001.md\n",
        );
    }

    #[test]
    fn a_cause_that_the_message_repeats_is_not_printed_twice() {
        check(
            &["cannot start: port taken", "port taken", "os error 98"],
            "error[MESH-X-0001]: cannot start: port taken\n  caused by: os error 98\n  see docs/errors/MESH-X-0001.md\n",
        );
    }
}
