//! Why a mesh cannot run a valid contract.
//! In: one reason after another, each with its place and its remedy. Out: findings, in the document's order.
//! Never: only the first of several reasons, or one without its place.

use crate::error::ContractError;
use crate::finding::{Finding, Severity};
use crate::model::Contract;

/// A setting that a mesh does not understand.
pub(super) const SETTING: &str = "MESH-CONTRACT-0044";

/// What a contract is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// May it become active?
    Admission,
    /// It is active, admitted by this version or an earlier one that refused less.
    Active,
}

/// Collects the reasons.
pub(super) struct Refusals<'a> {
    contract: &'a Contract,
    stage: Stage,
    found: Vec<Finding>,
}

impl<'a> Refusals<'a> {
    pub(super) fn new(contract: &'a Contract, stage: Stage) -> Self {
        Self { contract, stage, found: Vec::new() }
    }
    /// Something that earlier versions admitted: what is active already goes on.
    pub(super) fn add_at_admission(&mut self, pointer: &str, message: impl AsRef<str>, remedy: impl AsRef<str>) {
        if self.stage == Stage::Admission {
            self.add(SETTING, pointer, message, remedy);
        }
    }
    /// Something that is there and wrong.
    pub(super) fn add(&mut self, code: &'static str, pointer: &str, message: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.found.push(self.contract.finding_at("", code, pointer, message.as_ref(), remedy.as_ref()));
    }
    /// Something that is read in no mesh, and changes nothing.
    pub(super) fn warn(&mut self, pointer: &str, message: impl AsRef<str>, remedy: impl AsRef<str>) {
        let finding = self.contract.finding_at("", SETTING, pointer, message.as_ref(), remedy.as_ref());
        self.found.push(Finding { severity: Severity::Warning, ..finding });
    }
    /// All that was found.
    pub(super) fn findings(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|finding| (finding.line, finding.column));
        self.found
    }
    /// Nothing, if no reason is an error.
    pub(super) fn result(self) -> Result<(), ContractError> {
        let id = self.contract.id.to_string();
        let mut findings = self.findings();
        findings.retain(|finding| finding.severity == Severity::Error);
        if findings.is_empty() { Ok(()) } else { Err(ContractError::NotRunnable { id, findings }) }
    }
}
