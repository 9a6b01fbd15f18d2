//! `mesh quality`: each check of a product with its last verdict, expected and actual.
//!
//! Exit 1 if a check of the product does not pass, or was not judged yet.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{Outcome, Verdict};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use crate::args::Output;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::mesh_client::MeshClient;
use crate::print::{Listing, Row};

/// A verdict as a row of a table.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) Verdict);

/// Fields that every row has in JSON; canonical JSON leaves out what is empty.
const FIELDS: [&str; 4] = ["column", "expected", "actual", "detail"];

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        for field in FIELDS {
            if row[field].is_null() {
                row[field] = "".into();
            }
        }
        row["outcome"] = self.0.outcome().as_str_name().into();
        row.serialize(serializer)
    }
}

pub(crate) const HEADERS: &[&str] = &["check", "metric", "column", "outcome", "expected", "actual", "detail", "judged"];

impl Row for Shown {
    fn cells(&self) -> Vec<String> {
        let Verdict { check_id, metric, column, expected, actual, detail, .. } = &self.0;
        let judged = self.0.judged_at.and_then(|at| DateTime::<Utc>::try_from(at).ok());
        let judged = judged.map_or(String::new(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        let outcome = outcome(&self.0).to_owned();
        let texts = [check_id, metric, column, &outcome, expected, actual, detail, &judged];
        texts.into_iter().cloned().collect()
    }
}

pub(crate) fn outcome(verdict: &Verdict) -> &'static str {
    match verdict.outcome() {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Error => "ERROR",
        Outcome::NoData => "no data",
        Outcome::Unspecified => "not judged yet",
    }
}

pub(crate) async fn run(home: &Home, product: &str, output: Output) -> Result<Exit, CliError> {
    let client = MeshClient::open(home).await?;
    let admitted = client.product(product).await?;
    let rows = judged(mesh_quality::checks(&admitted.record), last_verdicts(&client).await?);
    let passed = rows.iter().all(|row| row.0.outcome() == Outcome::Pass);
    Listing { headers: HEADERS, rows }.print(output)?;
    Ok(if passed { Exit::Done } else { Exit::No })
}

/// What the contract asks for now, each check with its last verdict; one that was never judged has none, which is no pass.
fn judged(checks: Vec<Verdict>, last: Vec<Verdict>) -> Vec<Shown> {
    let mut last: BTreeMap<_, _> = last.into_iter().map(|verdict| (verdict.check_id.clone(), verdict)).collect();
    checks.into_iter().map(|check| Shown(last.remove(&check.check_id).unwrap_or(check))).collect()
}

/// The last verdict of every check there is.
pub(crate) async fn last_verdicts(client: &MeshClient) -> Result<Vec<Verdict>, CliError> {
    let mut last = BTreeMap::new();
    client
        .read_all(&[topics::QUALITY], |found| {
            if let Ok(verdict) = found.event.decode_as::<Verdict>(types::VERDICT) {
                last.insert((verdict.product.clone(), verdict.check_id.clone()), verdict);
            }
        })
        .await?;
    Ok(last.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn each_check_of_the_contract_is_there_once_with_its_last_verdict_or_none() {
        let verdict = |id: &str, outcome: Outcome| Verdict {
            check_id: id.to_owned(),
            outcome: outcome.into(),
            ..Verdict::default()
        };
        let checks = vec![verdict("a", Outcome::Unspecified), verdict("b", Outcome::Unspecified)];
        let last = vec![verdict("b", Outcome::Pass), verdict("no longer in the contract", Outcome::Fail)];
        let shown = judged(checks, last);
        let shown: Vec<_> = shown.iter().map(|row| (row.0.check_id.as_str(), outcome(&row.0))).collect();
        assert_eq!(shown, [("a", "not judged yet"), ("b", "pass")]);
    }

    #[test]
    fn every_row_has_every_field() {
        let row = serde_json::to_value(Shown(Verdict::default())).unwrap_or_default();
        for field in FIELDS {
            assert_eq!(row[field], "", "{field}");
        }
        assert_eq!(row["outcome"], "OUTCOME_UNSPECIFIED");
    }
}
