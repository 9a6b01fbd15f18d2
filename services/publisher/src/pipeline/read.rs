//! In: a submission's text. Out: its documents, typed, in the order in which they are judged: contracts before the
//! data products that name them.
//! Never: a document of a file without a verdict. A file with an unreadable document is refused whole.

use std::collections::{BTreeMap, BTreeSet};

use mesh_contract::{Contract, DataProduct, ProductContract};
use mesh_policy::{Module, Package, PolicySet};
use mesh_proto::v1::{DocumentKind, Finding, Severity, Submission};
use serde::Deserialize;

use crate::finding::{self, error};

/// Documents in one file: each has a verdict, and all of them are remembered until the last is given.
const DOCUMENTS: usize = 100;

/// One document of a submission.
#[derive(Debug, Clone)]
pub struct Part {
    pub body: Body,
    /// What its author should look at though it stands.
    pub warnings: Vec<Finding>,
}

impl Part {
    /// The contract, if the document is one that a mesh can run.
    pub fn contract(&self) -> Option<ProductContract> {
        match &self.body {
            Body::Contract(contract, _) => ProductContract::new(contract.as_ref().clone()).ok(),
            _ => None,
        }
    }
}

/// What a document is.
#[derive(Debug, Clone)]
pub enum Body {
    /// With the text to keep: the file as written if the contract is alone in it, else canonical JSON.
    Contract(Box<Contract>, String),
    DataProduct(Box<DataProduct>),
    Policy(Package, String),
    Principals(Vec<PrincipalEntry>),
    /// At least one finding is an error.
    Unreadable(Vec<Finding>),
}

/// One `[[principal]]` of a principals file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalEntry {
    pub name: String,
    /// Hex SHA-256 of the key; may be left out for a principal that has one.
    #[serde(default)]
    pub key_sha256: Option<String>,
    #[serde(default)]
    pub roles: Vec<String>,
    #[serde(default)]
    pub admin_of: Vec<String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Takes the principal away. A name that is merely absent from a file stays.
    #[serde(default)]
    pub remove: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalsFile {
    principal: Vec<PrincipalEntry>,
}

/// What a text is, by its file's name or else by what stands in it.
pub fn detect(file_name: &str, text: &str) -> DocumentKind {
    let first = || text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let has = |wanted: &str| text.lines().any(|line| line.split('#').next().unwrap_or_default().trim_end() == wanted);
    match file_name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rego") => DocumentKind::Policy,
        Some("toml") => DocumentKind::Principals,
        Some("yaml" | "yml" | "json") => yaml(has("kind: DataProduct"), has("kind: DataContract")),
        _ if first().is_some_and(|line| line.starts_with("package ")) => DocumentKind::Policy,
        _ if has("[[principal]]") => DocumentKind::Principals,
        _ => yaml(has("kind: DataProduct"), has("kind: DataContract")),
    }
}

/// The reader takes both from one file; the name is the first's that the mesh acts on.
fn yaml(data_product: bool, contract: bool) -> DocumentKind {
    if data_product && !contract { DocumentKind::DataProduct } else { DocumentKind::Contract }
}

/// The submission's documents: never none.
pub fn read(submission: &Submission) -> Vec<Part> {
    let (file, text) = (submission.file_name.as_str(), submission.document.as_str());
    match submission.kind() {
        DocumentKind::Policy => vec![policy(file, text)],
        DocumentKind::Principals => vec![principals(file, text)],
        DocumentKind::Contract | DocumentKind::DataProduct | DocumentKind::Unspecified => contracts(file, text),
    }
}

fn contracts(file: &str, text: &str) -> Vec<Part> {
    use mesh_contract::Document;
    let parsed = mesh_contract::parse(file, text);
    let findings: Vec<Finding> = parsed.findings.iter().map(finding::of_contract).collect();
    if !parsed.is_valid() {
        return vec![unreadable(findings)];
    }
    if parsed.documents.is_empty() {
        let remedy = "submit an ODCS contract (kind: DataContract) or an ODPS data product (kind: DataProduct)";
        return vec![unreadable(vec![error("MESH-PUBLISHER-0006", "the file holds no document", remedy)])];
    }
    if parsed.documents.len() > DOCUMENTS {
        let message = format!("the file holds {} documents, and {DOCUMENTS} may be in one", parsed.documents.len());
        return vec![unreadable(vec![error("MESH-PUBLISHER-0003", message, "split it into several files")])];
    }
    let alone = parsed.documents.len() == 1;
    let (mut contracts, mut products) = (Vec::new(), Vec::new());
    for (at, document) in parsed.documents.into_iter().enumerate() {
        let warnings = parsed.findings.iter().filter(|finding| finding.document == at).map(finding::of_contract);
        let warnings = warnings.collect();
        match document {
            Document::Contract(contract) => {
                let text = if alone { text.to_owned() } else { contract.to_json() };
                contracts.push(Part { body: Body::Contract(contract, text), warnings });
            }
            Document::DataProduct(product) => products.push(Part { body: Body::DataProduct(product), warnings }),
        }
    }
    if let Some(id) = twice(&contracts) {
        let message =
            format!("the file holds contract `{id}` twice with one major version, and one revision is active");
        let remedy = "put the two documents into files of their own, and apply one after the other";
        return vec![unreadable(vec![error("MESH-PUBLISHER-0036", message, remedy)])];
    }
    contracts.extend(products);
    contracts
}

/// The id of a contract that is there twice with the same major version: a submission is one revision of it.
fn twice(parts: &[Part]) -> Option<String> {
    let mut keys = BTreeSet::new();
    let mut contracts = parts.iter().filter_map(Part::contract);
    contracts.find(|contract| !keys.insert((contract.id().clone(), contract.major().0))).map(|one| one.id().to_string())
}

fn policy(file: &str, text: &str) -> Part {
    let name = if file.is_empty() { "policy.rego" } else { file };
    match PolicySet::package_of(&Module::new(name, text)) {
        Ok(package) => Part { body: Body::Policy(package, text.to_owned()), warnings: Vec::new() },
        Err(problem) => unreadable(vec![finding::of_policy(&problem)]),
    }
}

fn principals(file: &str, text: &str) -> Part {
    match toml::from_str::<PrincipalsFile>(text) {
        Ok(file) => Part { body: Body::Principals(file.principal), warnings: Vec::new() },
        Err(problem) => {
            let remedy = "write `[[principal]]` tables with name, key_sha256, roles, admin_of and attributes";
            let name = if file.is_empty() { "the principals file" } else { file };
            let mut found = error("MESH-PUBLISHER-0020", format!("{name}: {}", problem.message()), remedy);
            if let Some(span) = problem.span() {
                (found.line, found.column) = line_and_column(text, span.start);
            }
            unreadable(vec![found])
        }
    }
}

fn line_and_column(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// A document that no judgement can admit.
pub(super) fn unreadable(findings: Vec<Finding>) -> Part {
    debug_assert!(findings.iter().any(|finding| finding.severity() == Severity::Error));
    Part { body: Body::Unreadable(findings), warnings: Vec::new() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_by_its_name_or_by_what_stands_in_it() {
        for (file, text, expected) in [
            ("a.rego", "", DocumentKind::Policy),
            ("principals.toml", "", DocumentKind::Principals),
            ("", "# masks\n\npackage mesh.platform.reading\n", DocumentKind::Policy),
            ("", "[[principal]]\nname = \"ana\"\n", DocumentKind::Principals),
            ("", "apiVersion: v3.1.0\nkind: DataContract\n", DocumentKind::Contract),
            ("flights.yaml", "kind: DataProduct\n", DocumentKind::DataProduct),
            ("", "kind: DataProduct\n---\nkind: DataContract # the port's\n", DocumentKind::Contract),
        ] {
            assert_eq!(detect(file, text), expected, "{file} {text}");
        }
    }

    fn findings_of(kind: DocumentKind, text: &str) -> Vec<Finding> {
        let submission = Submission { kind: kind.into(), document: text.into(), ..Submission::default() };
        match read(&submission).remove(0).body {
            Body::Unreadable(findings) => findings,
            other => panic!("{other:?} was read"),
        }
    }

    #[test]
    fn a_broken_principals_file_says_where() {
        let found = findings_of(DocumentKind::Principals, "[[principal]]\nname = \"ana\"\nrole = [\"x\"]\n").remove(0);
        assert_eq!((found.code.as_str(), found.line), ("MESH-PUBLISHER-0020", 3), "{found:?}");
    }

    #[test]
    fn a_broken_policy_is_refused_with_the_policy_crate_s_code() {
        assert_eq!(
            findings_of(DocumentKind::Policy, "package mesh.platform.nothing\n").remove(0).code,
            "MESH-POLICY-0002"
        );
    }
}
