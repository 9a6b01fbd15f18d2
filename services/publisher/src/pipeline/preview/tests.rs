//! A mesh in memory: the dry run's own machinery, document after document.

mod foreign;
mod remedies;

use mesh_proto::v1::{DocumentKind, Finding, Principal, Submission};

use super::*;
use crate::active_state::ADMIN;
use crate::pipeline::read;

/// Documents are applied by `root` or `ops`; what they make is remembered as the dry run remembers it.
#[derive(Clone)]
struct Mesh {
    preview: Preview,
    revision: i64,
}

impl Mesh {
    fn new() -> Self {
        let mut active_state = ActiveState::default();
        for (name, roles, admin_of) in [("root", ADMIN, None), ("ops", "domain-admin", Some("operations"))] {
            let principal = Principal {
                name: name.into(),
                key_sha256: crate::registry::fingerprint(name),
                roles: vec![roles.into()],
                admin_of: admin_of.into_iter().map(str::to_owned).collect(),
                ..Principal::default()
            };
            active_state.principals.insert(name.into(), Arc::new(principal));
        }
        Self { preview: Preview::of(active_state), revision: 1 }
    }

    /// The decisions on a file's documents, which count from then on.
    fn apply(&mut self, principal: &str, file: &str, text: &str) -> Vec<Decision> {
        self.revision += 1;
        let kind = read::detect(file, text);
        self.submit(principal, kind, text)
    }

    fn submit(&mut self, principal: &str, kind: DocumentKind, text: &str) -> Vec<Decision> {
        let submission = Submission {
            kind: kind.into(),
            document: text.into(),
            principal: principal.into(),
            file_name: "f".into(),
            ..Submission::default()
        };
        let parts = read::read(&submission);
        let submitted = Submitted { revision: self.revision, submission, parts: Vec::new() };
        let existing = || Existing { next_revision: self.revision, ..Existing::default() };
        parts.iter().map(|part| self.preview.decide(&submitted, part, existing())).collect()
    }
}

/// The errors of a refused file.
fn errors(decisions: &[Decision]) -> Vec<Finding> {
    let findings = decisions.iter().filter_map(|decision| match decision {
        Decision::Refused(findings) => Some(findings.iter().filter(|found| crate::finding::is_error(found)).cloned()),
        _ => None,
    });
    findings.flatten().collect()
}

/// A contract of `operations.flights`.
fn flights(version: &str, columns: &str) -> String {
    format!(
        "apiVersion: v3.1.0\nkind: DataContract\nid: urn:flights\nname: n\nversion: {version}\nstatus: active\n\
         domain: operations\ndataProduct: flights\nservers:\n  - {{server: mesh, type: kafka, host: 'mesh:9092', format: \
         json}}\nschema:\n  - name: flights\n    physicalName: operations.flights.v1\n    physicalType: topic\n    \
         logicalType: object\n    properties:\n{columns}"
    )
}
