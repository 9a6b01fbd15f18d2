//! What is refused, where, with which words: beyond the standard's own negative tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mesh_contract::{Finding, Severity, parse};

mod meaning;
mod shape;
mod wording;

const HEAD: &str = "apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\n";

fn found(text: &str, severity: Severity) -> Vec<Finding> {
    parse("f.yaml", text).findings.into_iter().filter(|f| f.severity == severity).collect()
}

/// The body of a 3.2.0 contract has exactly one error: code, JSON pointer, words of message and remedy.
#[track_caller]
fn refuses(body: &str, code: u16, path: &str, words: &str) {
    one(&found(&format!("{HEAD}{body}"), Severity::Error), code, path, words);
}

#[track_caller]
fn doubts(body: &str, code: u16, path: &str, words: &str) {
    assert_eq!(found(&format!("{HEAD}{body}"), Severity::Error), []);
    one(&found(&format!("{HEAD}{body}"), Severity::Warning), code, path, words);
}

#[track_caller]
fn one(findings: &[Finding], code: u16, path: &str, words: &str) {
    let [finding] = findings else {
        panic!("{findings:#?}");
    };
    assert_eq!((finding.code, finding.path.as_str()), (format!("MESH-CONTRACT-{code:04}").as_str(), path), "{finding}");
    assert!(finding.to_string().contains(words), "{finding}");
    assert!(!finding.remedy.is_empty(), "{finding}");
}

#[track_caller]
fn accepts(body: &str) {
    assert_eq!(found(&format!("{HEAD}{body}"), Severity::Error), []);
}

/// One property of one object.
fn property(rest: &str) -> String {
    format!("schema:\n- name: t\n  properties:\n  - {{name: c, {rest}}}\n")
}

fn rule(rest: &str) -> String {
    property(&format!("logicalType: string, quality: [{{{rest}}}]"))
}
