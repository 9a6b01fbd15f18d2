//! One file, from text to typed documents and findings.

use super::explain::Problem;
use super::standard::{self, Kind};
use super::yaml::{self, Place, YamlDocument, YamlError};
use super::{semantic, words};
use crate::finding::{Finding, Parsed, Severity};
use crate::model::{Contract, Document, odcs, odps};

/// Reads a file of one or more documents.
pub(crate) fn read(file: &str, text: &str) -> Parsed {
    let (documents, error) = yaml::read(text);
    let mut parsed = Parsed { documents: Vec::new(), findings: Vec::new() };
    if documents.is_empty() && error.is_none() {
        parsed.findings.push(empty(file));
    }
    for (index, document) in documents.iter().enumerate() {
        let (typed, mut findings) = read_one(document, index);
        for finding in &mut findings {
            finding.file = file.to_owned();
            finding.document = index;
        }
        findings.sort_by_key(|f| (f.line, f.column));
        parsed.findings.extend(cut(findings));
        parsed.documents.extend(typed);
    }
    parsed.findings.extend(error.map(|error| Finding { document: documents.len(), ..unreadable(file, error) }));
    parsed
}

/// Most findings that are told of one document.
const MAX_TOLD: usize = 100;

/// The first findings, and that there are more.
fn cut(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > MAX_TOLD {
        findings.sort_by_key(|f| (f.severity, f.line, f.column));
    }
    if let Some(next) = findings.get(MAX_TOLD).cloned() {
        let severity = findings.drain(MAX_TOLD..).map(|f| f.severity).min().unwrap_or(Severity::Error);
        findings.push(Finding {
            code: "MESH-CONTRACT-0011",
            severity,
            message: "there is more from here on".to_owned(),
            remedy: "correct what is listed, then validate again".to_owned(),
            ..next
        });
    }
    findings
}

/// As [`read`], of bytes that should be UTF-8.
pub(crate) fn read_bytes(file: &str, bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => read(file, text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
            let error = YamlError {
                code: "MESH-CONTRACT-0001",
                place: Place { line, column },
                message: "not UTF-8".to_owned(),
                remedy: "save the file as UTF-8".to_owned(),
            };
            Parsed { documents: Vec::new(), findings: vec![unreadable(file, error)] }
        }
    }
}

fn read_one(document: &YamlDocument, index: usize) -> (Option<Document>, Vec<Finding>) {
    let at_place = |problems: Vec<Problem>| -> Vec<Finding> {
        problems.into_iter().map(|problem| finding(document, problem, Severity::Error)).collect()
    };
    let kind = match standard::identify(&document.value) {
        Ok(kind) => kind,
        Err(problems) => return (None, at_place(problems)),
    };
    let value = standard::without_nulls(kind, &document.value);
    let problems: Vec<Problem> =
        standard::validate(kind, &value).into_iter().map(|problem| problem.where_null(&document.value)).collect();
    if !problems.is_empty() {
        return (None, at_place(problems));
    }
    let mut findings = Vec::new();
    for noted in semantic::check(kind, &value) {
        findings.push(finding(document, noted.problem, noted.severity));
    }
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return (None, findings);
    }
    let typed = match kind {
        Kind::Odcs => {
            let contract = odcs::contract(&value, document.places.clone(), index);
            untyped(&contract, &mut findings);
            Document::Contract(Box::new(contract))
        }
        Kind::Odps => Document::DataProduct(Box::new(odps::data_product(&value))),
    };
    (Some(typed), findings)
}

/// Columns that the standard allows and a mesh cannot run: said now, since `apply` refuses them.
fn untyped(contract: &Contract, findings: &mut Vec<Finding>) {
    for untyped in contract.objects.iter().flat_map(|object| &object.untyped) {
        if findings.len() > MAX_TOLD {
            return;
        }
        if findings.iter().any(|f| f.path.starts_with(&untyped.pointer)) {
            continue;
        }
        let message = format!("a mesh cannot run column {}: {}", untyped.column, untyped.reason);
        let remedy = "the standard allows it; `mesh apply` will not";
        let finding = contract.finding_at("", "MESH-CONTRACT-0043", &untyped.pointer, &message, remedy);
        findings.push(Finding { severity: Severity::Warning, ..finding });
    }
}

fn finding(document: &YamlDocument, problem: Problem, severity: Severity) -> Finding {
    let place = if problem.on_key {
        document.places.key_place(&problem.pointer)
    } else {
        document.places.place(&problem.pointer)
    };
    let as_text = document.places.written(&problem.pointer).filter(|_| problem.quote);
    Finding {
        code: problem.code,
        severity,
        file: String::new(),
        document: 0,
        line: place.line,
        column: place.column,
        message: problem.message,
        remedy: as_text.map_or(problem.remedy, words::quote),
        path: problem.pointer,
    }
}

fn unreadable(file: &str, error: YamlError) -> Finding {
    Finding {
        code: error.code,
        severity: Severity::Error,
        file: file.to_owned(),
        document: 0,
        path: String::new(),
        line: error.place.line,
        column: error.place.column,
        message: words::brief_text(&error.message),
        remedy: error.remedy,
    }
}

fn empty(file: &str) -> Finding {
    Finding {
        code: "MESH-CONTRACT-0004",
        severity: Severity::Error,
        file: file.to_owned(),
        document: 0,
        path: String::new(),
        line: 1,
        column: 1,
        message: "the file holds no document".to_owned(),
        remedy: "start with `apiVersion: v3.2.0` and `kind: DataContract`".to_owned(),
    }
}
