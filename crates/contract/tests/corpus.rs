//! Documents that others wrote: the standards' examples are accepted, their negative tests refused for the reason in
//! their name and for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use mesh_contract::{Parsed, Severity, parse};
use sha2::{Digest as _, Sha256};

fn corpus(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<(String, String)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// The schemas kept in the crate are the published ones, whose digests the notice beside them has.
#[test]
fn the_schemas_are_the_standards_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let notice = std::fs::read_to_string(folder.join("NOTICE")).unwrap();
    let digests: BTreeMap<&str, &str> = notice
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .filter(|(digest, _)| digest.len() == 64)
        .map(|(digest, file)| (file, digest))
        .collect();
    let kept = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let kept: Vec<String> = kept.filter(|file| file.ends_with(".json")).collect();
    assert_eq!(kept.len(), digests.len());
    for file in kept {
        let digest = Sha256::digest(std::fs::read(folder.join(&file)).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digests.get(file.as_str()), Some(&digest.as_str()), "{file}");
    }
}

/// All of a folder's documents in one file are judged as each by itself.
#[test]
fn many_documents_in_one_file() {
    let texts: Vec<String> =
        ["odcs-3.2-examples", "odps-examples"].iter().flat_map(|folder| corpus(folder)).map(|(_, text)| text).collect();
    let parsed = parse("all.yaml", &texts.join("\n---\n"));
    assert_eq!(errors(&parsed), Vec::<String>::new());
    assert_eq!(parsed.documents.len(), texts.len());
    let negatives: Vec<(String, String)> = corpus("odcs-negative");
    let together =
        parse("all.yaml", &negatives.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n---\n"));
    let apart: usize = negatives.iter().map(|(file, text)| errors(&parse(file, text)).len()).sum();
    assert_eq!((errors(&together).len(), together.documents.len()), (apart, 0));
}

fn errors(parsed: &Parsed) -> Vec<String> {
    parsed.findings.iter().filter(|f| f.severity == Severity::Error).map(ToString::to_string).collect()
}

#[test]
fn the_standards_examples_are_accepted() {
    for folder in ["odcs-3.2-examples", "odps-examples"] {
        for (file, text) in corpus(folder) {
            let parsed = parse(&file, &text);
            assert_eq!(errors(&parsed), Vec::<String>::new(), "{file}");
            assert_eq!(parsed.documents.len(), 1, "{file}");
        }
    }
}

/// File, code, JSON pointer, words of the message.
const REFUSALS: &[(&str, &str, &str, &str)] = &[
    ("additional-unknown-property", "MESH-CONTRACT-0006", "/unknownRootField", "`unknownRootField` is not a property"),
    ("enum-empty", "MESH-CONTRACT-0009", "/schema/0/properties/0/enum", "`enum` is empty"),
    ("invalid-api-version", "MESH-CONTRACT-0004", "/apiVersion", "`v4.0.0` is no `apiVersion`"),
    ("invalid-quality-dimension", "MESH-CONTRACT-0008", "/schema/0/properties/0/quality/0/dimension", "`validity`"),
    ("invalid-quality-type", "MESH-CONTRACT-0008", "/schema/0/properties/0/quality/0/type", "`unknown`"),
    ("map-missing-key", "MESH-CONTRACT-0005", "/schema/0/properties/0/map", "lacks `key`"),
    ("missing-required-fields", "MESH-CONTRACT-0005", "", "the document lacks `id`"),
    ("quality-element-field", "MESH-CONTRACT-0006", "/schema/0/properties/0/quality/0/element", "`element`"),
    (
        "quality-multiple-operators",
        "MESH-CONTRACT-0010",
        "/schema/0/properties/0/quality/0/mustNotBe",
        "several operators",
    ),
    ("quality-sql-missing-query", "MESH-CONTRACT-0005", "/schema/0/properties/0/quality/0", "lacks `query`"),
    ("schema-property-missing-name", "MESH-CONTRACT-0005", "/schema/0/properties/0", "a schema property lacks `name`"),
    ("server-missing-conditional-fields", "MESH-CONTRACT-0005", "/servers/0", "a server lacks `schema`"),
    ("sla-missing-required-value", "MESH-CONTRACT-0005", "/slaProperties/0", "an SLA property lacks `value`"),
];

#[test]
fn the_standards_negative_tests_are_refused_for_the_reason_in_their_name() {
    for (file, text) in corpus("odcs-negative") {
        let name = file.trim_end_matches(".odcs.yaml");
        let parsed = parse(&file, &text);
        let errors = errors(&parsed);
        if name == "relationship-schema-level-missing-from-to" {
            assert_eq!(errors.len(), 2, "{errors:#?}");
            for (field, error) in ["`from`", "`to`"].iter().zip(&errors) {
                assert!(error.contains(&format!("a schema-level relationship lacks {field}")), "{error}");
            }
            continue;
        }
        let (_, code, path, message) =
            REFUSALS.iter().find(|r| r.0 == name).unwrap_or_else(|| panic!("no expectation for {file}: {errors:#?}"));
        assert_eq!(errors.len(), 1, "{file}: {errors:#?}");
        let finding = parsed.findings.iter().find(|f| f.severity == Severity::Error).unwrap();
        assert_eq!((finding.code, finding.path.as_str()), (*code, *path), "{finding}");
        assert!(finding.message.contains(message), "{finding}");
        assert!(!finding.remedy.is_empty() && finding.line > 3, "{finding}");
    }
}
