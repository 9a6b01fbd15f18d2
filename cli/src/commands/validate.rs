//! `mesh validate`: documents against standard, types and policy, offline.
//!
//! In: files, and a folder of policies or none. Out: per file a verdict, with file:line:column, what is wrong, what to
//! write instead. Exit 0 if all are valid, 1 if one is not.

use std::path::Path;

use mesh_contract::{Finding, ProductContract, Severity};
use mesh_policy::{AdmissionInput, Denial, Package, PackageKind, PolicySet, PrincipalFacts};
use serde::Serialize;

use super::policy;
use crate::args::{Output, Validate};
use crate::error::{CliError, pure};
use crate::exit::Exit;
use crate::print;

/// The verdict on one file.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    valid: bool,
    documents: usize,
    findings: Vec<Finding>,
}

/// A contract that no policy of the folder judges; the error of a folder without policies has the same page.
const NO_POLICY: &str = "MESH-CLI-0018";

pub(crate) fn run(validate: &Validate, output: Output) -> Result<Exit, CliError> {
    let policies = validate.policies.as_deref().map(policy::load).transpose()?;
    let (mut verdicts, mut failed) = (Vec::new(), Ok(()));
    for file in &validate.files {
        match judge(file, policies.as_ref()) {
            Ok(verdict) => verdicts.push(verdict),
            // The verdicts on the files before it are printed all the same.
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    match output {
        Output::Json => print::json(&verdicts)?,
        Output::Table => verdicts.iter().try_for_each(print_verdict)?,
    }
    failed?;
    if policies.is_none() {
        print::note("no policy judged them: --policies DIR names a folder of policies");
    }
    Ok(if verdicts.iter().all(|verdict| verdict.valid) { Exit::Done } else { Exit::No })
}

fn judge(path: &Path, policies: Option<&PolicySet>) -> Result<Verdict, CliError> {
    let file = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })?;
    let parsed = mesh_contract::parse_bytes(&file, &bytes);
    let mut findings = parsed.findings.clone();
    if let Some(policies) = policies.filter(|_| parsed.is_valid()) {
        for contract in parsed.contracts() {
            findings.extend(refused_by(policies, &file, contract)?);
        }
    }
    let valid = findings.iter().all(|finding| finding.severity != Severity::Error);
    Ok(Verdict { file, valid, documents: parsed.documents.len(), findings })
}

/// What the policies say against a contract that is valid by itself.
fn refused_by(policies: &PolicySet, file: &str, contract: &mesh_contract::Contract) -> Result<Vec<Finding>, CliError> {
    let product = match ProductContract::new(contract.clone()) {
        Ok(product) => product,
        // Valid by the standard, and no product of a mesh: policies judge products.
        Err(error) => {
            let (message, remedy) = (format!("no policy judged it: {error}"), "`mesh apply` refuses it; see the code");
            let finding = contract.finding_at(file, error.code(), "", &message, remedy);
            return Ok(vec![Finding { severity: Severity::Warning, ..finding }]);
        }
    };
    let author = PrincipalFacts::default();
    let name = product.product();
    let input = AdmissionInput::new(name.domain.as_str(), &name.to_string(), &contract.document, &author);
    if !judges(policies, name.domain.as_str()) {
        let [platform, domain] = packages(name.domain.as_str());
        let message = format!("no policy judged it: the folder has neither {platform} nor {domain}");
        let finding =
            contract.finding_at(file, NO_POLICY, "", &message, "name the folder with the platform's policies");
        return Ok(vec![Finding { severity: Severity::Warning, ..finding }]);
    }
    let denials = policies.admission(&input).map_err(pure)?;
    let finding = |d: Denial| contract.finding_at(file, Denial::CODE, &d.path, &d.message, &d.remedy);
    Ok(denials.into_iter().map(finding).collect())
}

/// The packages whose admission rules judge a domain's contracts.
fn packages(domain: &str) -> [Package; 2] {
    [Package::platform(PackageKind::Admission), Package::domain(domain, PackageKind::Admission)]
}

fn judges(policies: &PolicySet, domain: &str) -> bool {
    let wanted = packages(domain);
    policies.packages().any(|package| wanted.contains(package))
}

fn print_verdict(verdict: &Verdict) -> Result<(), CliError> {
    for finding in &verdict.findings {
        print::line(&finding.to_string())?;
    }
    let documents =
        if verdict.documents == 1 { "1 document".to_owned() } else { format!("{} documents", verdict.documents) };
    print::line(&match verdict.valid {
        true => format!("{}: valid, {documents}", verdict.file),
        false => format!("{}: refused", verdict.file),
    })
}
