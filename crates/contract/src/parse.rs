//! One file, from text to typed documents and findings.

use std::collections::HashSet;

use crate::error::ContractError;
use crate::finding::{Finding, Severity};
use crate::meaning;
use crate::model::{Contract, Document, literal, odcs, odps};
use crate::product::{self, ProductContract, Stage};
use crate::standard::{self, Kind, Problem, words};
use crate::yaml::{self, Place, Places, YamlDocument, YamlError};

/// All documents of a file that could be typed, and all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// In the file's order; a document with an error is not here.
    pub documents: Vec<Document>,
    /// In the file's order.
    pub findings: Vec<Finding>,
}

impl Parsed {
    /// No finding is an error.
    pub fn is_valid(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
    /// The ODCS documents.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.documents.iter().filter_map(|document| match document {
            Document::Contract(contract) => Some(contract.as_ref()),
            Document::DataProduct(_) => None,
        })
    }
    /// The documents, or every error found.
    pub fn into_result(self) -> Result<Vec<Document>, ContractError> {
        if self.is_valid() { Ok(self.documents) } else { Err(ContractError::Invalid { findings: self.findings }) }
    }
}

impl ProductContract {
    /// Reads exactly one ODCS document that is active already: what this version refuses and an earlier one admitted is
    /// passed over. [`ProductContract::admit`] judges a document that shall become active.
    pub fn parse(file: &str, text: &str) -> Result<Self, ContractError> {
        Self::at(one(read(file, text, Stage::Active))?, Stage::Active)
    }

    /// Reads exactly one ODCS document, and checks that it may become active: what `mesh validate` and admission ask.
    pub fn admit(file: &str, text: &str) -> Result<Self, ContractError> {
        Self::new(one(parse(file, text))?)
    }
}

/// The one contract of a file.
fn one(parsed: Parsed) -> Result<Contract, ContractError> {
    let mut contracts = parsed.into_result()?.into_iter().filter_map(|document| match document {
        Document::Contract(contract) => Some(*contract),
        Document::DataProduct(_) => None,
    });
    match (contracts.next(), contracts.count()) {
        (Some(one), 0) => Ok(one),
        (first, rest) => Err(ContractError::NotOneContract { found: rest + usize::from(first.is_some()) }),
    }
}

/// Reads one file of one or more ODCS and ODPS documents. `file` only names the place in findings.
pub fn parse(file: &str, text: &str) -> Parsed {
    read(file, text, Stage::Admission)
}

fn read(file: &str, text: &str, stage: Stage) -> Parsed {
    let (documents, error) = yaml::read(text);
    let mut parsed = Parsed { documents: Vec::new(), findings: Vec::new() };
    if documents.is_empty() && error.is_none() {
        parsed.findings.push(empty(file));
    }
    for (index, document) in documents.iter().enumerate() {
        let (typed, mut findings) = read_one(document, index, stage);
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

/// Most findings that are listed of one document.
const MAX_FINDINGS: usize = 100;

/// The first findings, and that there are more.
fn cut(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > MAX_FINDINGS {
        findings.sort_by_key(|f| (f.severity, f.line, f.column));
    }
    if let Some(next) = findings.get(MAX_FINDINGS).cloned() {
        let severity = findings.drain(MAX_FINDINGS..).map(|f| f.severity).min().unwrap_or(Severity::Error);
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

/// As [`parse`], of a file's bytes; bytes that are not UTF-8 are a finding.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
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

fn read_one(document: &YamlDocument, index: usize, stage: Stage) -> (Option<Document>, Vec<Finding>) {
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
    let problems: Vec<Problem> =
        problems.into_iter().filter(|problem| !differs_in_digits(problem, &value, &document.places)).collect();
    if !problems.is_empty() {
        return (None, at_place(problems));
    }
    let mut findings = Vec::new();
    for noted in meaning::check(kind, &value, &document.places) {
        // An earlier version passed over a quality rule that lacks what it is.
        let was_admitted = stage == Stage::Active && noted.problem.code == meaning::EMPTY_RULE;
        let severity = if was_admitted { Severity::Warning } else { noted.severity };
        findings.push(finding(document, noted.problem, severity));
    }
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return (None, findings);
    }
    let typed = match kind {
        Kind::Odcs => {
            let contract = odcs::contract(&value, document.places.clone(), index);
            if stage == Stage::Admission {
                of_a_mesh(&contract, &mut findings);
            }
            Document::Contract(Box::new(contract))
        }
        Kind::Odps => Document::DataProduct(Box::new(odps::data_product(&value))),
    };
    let is_valid = findings.iter().all(|finding| finding.severity != Severity::Error);
    (is_valid.then_some(typed), findings)
}

/// Whether entries of a list are only equal because the schema compares their numbers as doubles.
fn differs_in_digits(problem: &Problem, document: &serde_json::Value, places: &Places) -> bool {
    let list = problem.pointer.rfind('/').map_or("", |end| &problem.pointer[..end]);
    let Some(entries) = document.pointer(list).and_then(serde_json::Value::as_array).filter(|_| problem.repeats) else {
        return false;
    };
    let texts = entries.iter().enumerate().map(|(i, entry)| literal::json(entry, places, &format!("{list}/{i}")));
    texts.collect::<HashSet<String>>().len() == entries.len()
}

/// What the standard allows and a mesh does not run: found here already, since `mesh apply` refuses it.
///
/// A contract with a Kafka server is meant for a mesh, and what a mesh reads in it must be right; so must the custom
/// properties that only a mesh reads. In a contract for other systems it is a warning, and what the standard leaves open
/// (a domain, several objects) may stay open until the contract is applied.
fn of_a_mesh(contract: &Contract, findings: &mut Vec<Finding>) {
    let is_for_a_mesh = contract.servers.iter().any(|server| server.kind == "kafka");
    let known = findings.len();
    for finding in product::findings(contract) {
        if findings.len() > MAX_FINDINGS {
            return;
        }
        let is_custom = finding.path.contains("/customProperties/");
        let is_open = ["MESH-CONTRACT-0040", "MESH-CONTRACT-0042"].contains(&finding.code);
        let is_untyped = finding.code == "MESH-CONTRACT-0043";
        if findings[..known].iter().any(|other| other.path.starts_with(&finding.path) && !finding.path.is_empty()) {
            continue;
        }
        match (is_custom, is_for_a_mesh && !is_open) {
            (true, _) | (_, true) => findings.push(finding),
            _ if is_for_a_mesh || is_untyped => findings.push(Finding { severity: Severity::Warning, ..finding }),
            _ => {}
        }
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
