//! `mesh quality`: each check of a product with its last verdict, expected and actual.
//!
//! Exit 1 if a check of the product does not pass.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{Outcome, Verdict};
use serde::Serialize;

use crate::args::Output;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::print::{Listing, Row};
use crate::world::World;

/// A verdict as a row of a table.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Shown(pub(crate) Verdict);

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
        Outcome::Unspecified => "?",
    }
}

pub(crate) async fn run(home: &Home, product: &str, output: Output) -> Result<Exit, CliError> {
    let world = World::open(home).await?;
    world.product(product).await?;
    let rows: Vec<_> = last_verdicts(&world).await?.into_iter().filter(|v| v.product == product).map(Shown).collect();
    let passed = rows.iter().all(|row| row.0.outcome() == Outcome::Pass);
    Listing { headers: HEADERS, rows }.print(output)?;
    Ok(if passed { Exit::Done } else { Exit::No })
}

/// The last verdict of every check there is.
pub(crate) async fn last_verdicts(world: &World) -> Result<Vec<Verdict>, CliError> {
    let mut last = BTreeMap::new();
    world
        .read_all(&[topics::QUALITY], |found| {
            if let Ok(verdict) = found.event.decode_as::<Verdict>(types::VERDICT) {
                last.insert((verdict.product.clone(), verdict.check_id.clone()), verdict);
            }
        })
        .await?;
    Ok(last.into_values().collect())
}
