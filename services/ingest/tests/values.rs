//! Every type × transform × format that a contract may have: what is accepted is read equal by our scan and by pyiceberg.
//!
//! For each pair that the contract admits, records with odd values go the whole way (decode, resolve, check, partition,
//! commit), as JSON and as Avro by the contract's own schema, which the registry's rule must cover. Then SQL over our scan
//! and pyiceberg read the table, whole and by a filter on the partitioned column. A pair that is not admitted has a finding;
//! a value that is not accepted is a dead letter that the row says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "values/cells.rs"]
mod cells;
#[path = "values/lake.rs"]
mod lake;
#[path = "values/python.rs"]
mod python;

use std::collections::BTreeMap;

use cells::{Cell, TRANSFORMS, TYPES};
use lake::Lake;
use mesh_contract::ProductContract;

/// Rows by id, as both readers show them.
type Rows = BTreeMap<i64, Option<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_read_equal_by_every_reader() {
    let Some(lake) = Lake::new().await else { return };
    let (mut expected, mut refused, mut problems) = (Vec::new(), 0, Vec::new());
    for cell in TYPES {
        for transform in TRANSFORMS {
            for format in ["json", "avro"] {
                let name = format!("t{}", expected.len() + refused);
                let document = cells::document(&name, format, cell, *transform);
                let Some(contract) = admitted(&name, &document) else {
                    refused += 1;
                    continue;
                };
                let at = format!("{} {} {format}", cell.title, transform.unwrap_or("-"));
                match lake.feed(&contract, cell, *transform).await {
                    Ok(rows) => {
                        let ours = lake.read(&contract, cell).await;
                        if ours != Ok(rows.clone()) {
                            problems.push(format!("{at}: wrote {rows:?}, our scan reads {ours:?}"));
                        }
                        expected.push((at, contract.table().to_string(), *cell, rows));
                    }
                    Err(problem) => {
                        problems.push(format!("{at}: {problem}"));
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(expected.len() > 120, "{} pairs were written", expected.len());
    problems.extend(python::differences(lake.folder(), &expected));
    assert!(problems.is_empty(), "{} problems: {:#?}", problems.len(), &problems[..problems.len().min(30)]);
}

/// The contract, if it may become active. One that may not has a finding with a remedy.
fn admitted(name: &str, document: &str) -> Option<ProductContract> {
    let parsed = mesh_contract::parse(name, document);
    let contract = parsed.contracts().next().map(|contract| ProductContract::new(contract.clone()));
    match contract {
        Some(Ok(contract)) => Some(contract),
        Some(Err(mesh_contract::ContractError::NotRunnable { findings, .. })) => {
            assert!(findings.iter().any(|finding| !finding.remedy.is_empty()), "{findings:?}");
            None
        }
        other => {
            assert!(!parsed.findings.is_empty(), "{other:?}");
            None
        }
    }
}

impl Cell {
    fn accepted(&self, transform: Option<&str>) -> impl Iterator<Item = (i64, &'static cells::Sample)> {
        let transform = transform.unwrap_or_default().to_owned();
        (0..)
            .zip(self.samples)
            .filter(move |(_, sample)| sample.refused_by.is_empty() || !transform.starts_with(sample.refused_by))
    }
}
