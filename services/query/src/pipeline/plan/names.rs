//! The names of an answer's columns, each only once: `SELECT f.year, p.year` has two, and an object of JSON can hold
//! but one.
//!
//! In: a plan. Out: the same plan; columns that share a name are called by their table, too, and numbered if that does
//! not tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

/// The plan with distinct names.
pub(super) fn distinct(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut often: BTreeMap<&str, usize> = BTreeMap::new();
    for field in plan.schema().fields() {
        *often.entry(field.name()).or_default() += 1;
    }
    if often.values().all(|times| *times == 1) {
        return Ok(plan);
    }
    let mut taken: BTreeSet<String> =
        often.iter().filter(|(_, n)| **n == 1).map(|(name, _)| (*name).to_owned()).collect();
    let named: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(table, field)| {
            let column = Expr::Column(Column::new(table.cloned(), field.name()));
            if often.get(field.name().as_str()) == Some(&1) {
                return column;
            }
            let wanted = table.map_or_else(|| field.name().clone(), |table| format!("{table}.{}", field.name()));
            column.alias(free(wanted, &mut taken))
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(named)?.build()
}

fn free(wanted: String, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2u32..).map(|number| format!("{wanted}:{number}"));
    let found = std::iter::once(wanted.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(wanted);
    taken.insert(found.clone());
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::distinct;

    #[tokio::test]
    async fn names_are_there_once() {
        let context = SessionContext::new();
        let check = async |sql: &str, expected: &[&str]| {
            let plan = distinct(context.state().create_logical_plan(sql).await.unwrap()).unwrap();
            let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, expected, "{sql}");
            let batches = context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
            let values =
                (0..names.len()).map(|i| arrow::util::display::array_value_to_string(batches[0].column(i), 0).unwrap());
            assert_eq!(values.collect::<Vec<_>>().join(","), "1,2,3,4"[..2 * names.len() - 1], "{sql}");
        };
        let from = "FROM (VALUES (1, 2)) AS a(x, y) JOIN (VALUES (3, 4)) AS b(x, z) ON a.x < b.x";
        check(&format!("SELECT a.x, a.y, b.x AS u {from}"), &["x", "y", "u"]).await;
        check(&format!("SELECT * {from} ORDER BY z"), &["a.x", "y", "b.x", "z"]).await;
        let taken = "SELECT * FROM (VALUES (1)) AS q(\"b.x\"), (VALUES (2)) AS a(x), (VALUES (3)) AS b(x)";
        check(taken, &["b.x", "a.x", "b.x:2"]).await;
    }
}
