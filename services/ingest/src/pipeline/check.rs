//! Hard constraints: what the contract demands of every record, as kernels over the batch.
//!
//! In: rows in the table's types. Out: the rows that satisfy every constraint, and a refusal for each that does not.
//! Null satisfies everything but `required`. Only failing values are looked at singly.
//! Must never happen: a constraint that is not run (compiling one that cannot be is an error), a row that a
//! constraint refuses in the table.

use arrow_schema::ArrowError;
use mesh_contract::HardConstraint;
use mesh_lakehouse::writer::Partitioner;

use crate::error::IngestError;
use crate::pipeline::decode::DecodedRows;
use crate::pipeline::refusal::{Reason, Refusal, Refusals};
use crate::pipeline::resolve::retain;

mod formats;
mod measure;
mod operand;
mod place;
mod rule;

use place::Place;
use rule::Test;

/// A contract's constraints, compiled.
#[derive(Debug)]
pub struct Checks {
    checks: Vec<Check>,
    partitioner: Option<Partitioner>,
}

#[derive(Debug)]
struct Check {
    place: Place,
    test: Test,
}

impl Checks {
    /// Compiles the constraints of a contract.
    pub fn compile(constraints: &[HardConstraint<'_>]) -> Result<Self, IngestError> {
        let compile = |constraint: &HardConstraint<'_>| -> Result<Check, IngestError> {
            let place = Place::new(&constraint.path);
            let test = Test::compile(&constraint.rule, &constraint.column.ty, &place)?;
            Ok(Check { place, test })
        };
        Ok(Self { checks: constraints.iter().map(compile).collect::<Result<_, _>>()?, partitioner: None })
    }

    /// Refuses the values as well that have no partition.
    #[must_use]
    pub fn partitioned(mut self, partitioner: Option<Partitioner>) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Refuses the rows that break a constraint and keeps the others.
    pub fn check(&self, rows: DecodedRows, refusals: &mut Refusals) -> Result<Option<DecodedRows>, ArrowError> {
        let mut keep = vec![true; rows.records.len()];
        for check in &self.checks {
            let Some(found) = check.place.find(&rows.batch)? else { continue };
            for at in check.test.violations(&found.values, found.live.as_ref())? {
                let row = found.row(at);
                keep[row] = false;
                let message = check.test.message(&found.values, at);
                refusals.add(rows.records[row], Refusal::at(check.test.reason(), check.place.to_string(), message));
            }
        }
        if let Some(partitioner) = &self.partitioner {
            for refused in partitioner.refused(&rows.batch)? {
                keep[refused.row] = false;
                let message =
                    format!("the partition transform {} has no value of the column's type for it", refused.transform);
                refusals.add(rows.records[refused.row], Refusal::at(Reason::Overflow, refused.column, message));
            }
        }
        retain(rows, &keep)
    }
}

#[cfg(test)]
mod tests;
