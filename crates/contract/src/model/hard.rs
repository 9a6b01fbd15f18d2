//! The hard constraints of an object's columns, nested ones too.
//! In: columns. Out: every rule at its place, as ingest checks it.

use super::Column;
use crate::constraints::{ColumnPath, PathStep, Rule};
use crate::types::Type;

/// A rule at its place: what ingest checks on every record.
#[derive(Debug, Clone)]
pub struct HardConstraint<'a> {
    /// Where the value is.
    pub path: ColumnPath,
    /// The (nested) column.
    pub column: &'a Column,
    /// What must hold. Null satisfies every rule but `Required`.
    pub rule: Rule,
}

/// Every rule of these columns at its place. Columns first, then what is inside them.
pub(crate) fn hard_constraints(columns: &[Column]) -> Vec<HardConstraint<'_>> {
    let mut out = Vec::new();
    for column in columns {
        collect(column, &[], PathStep::Field(column.name.clone()), &mut out);
    }
    out
}

fn collect<'a>(column: &'a Column, parent: &[PathStep], step: PathStep, out: &mut Vec<HardConstraint<'a>>) {
    let mut steps = parent.to_vec();
    steps.push(step);
    let required = column.required.then_some(Rule::Required);
    for rule in required.into_iter().chain(column.constraints.rules()) {
        out.push(HardConstraint { path: ColumnPath(steps.clone()), column, rule });
    }
    for (i, child) in column.children.iter().enumerate() {
        let step = match column.ty {
            Type::List(_) => PathStep::Element,
            Type::Map(..) if i == 0 => PathStep::Key,
            Type::Map(..) => PathStep::Value,
            _ => PathStep::Field(child.name.clone()),
        };
        collect(child, &steps, step, out);
    }
}
