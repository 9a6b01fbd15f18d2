//! Column lineage of a logical plan: for each output column its source columns, and which columns chose the rows.
//!
//! Pure. A node that is not known makes every output depend on every input: too much, never too little.

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;

use super::dependency::Dependencies;
use super::walk::{Scope, Walk};

/// Where an answer comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    pub columns: Vec<OutputColumn>,
    /// Columns that decided which rows there are, how they are grouped and in what order.
    pub rows: Dependencies,
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    pub name: String,
    pub sources: Dependencies,
}

/// The lineage of a plan, as DataFusion makes it from SQL (before or after optimisation).
pub fn of_plan(plan: &LogicalPlan) -> Result<Lineage> {
    let node = Walk::default().node(plan, &Scope::default())?;
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    let columns = names.zip(node.columns).map(|(name, sources)| OutputColumn { name, sources }).collect();
    Ok(Lineage { columns, rows: node.rows })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn table(columns: &[(&str, DataType)]) -> Arc<MemTable> {
        let fields: Vec<Field> = columns.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect();
        Arc::new(MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]]).unwrap())
    }

    async fn lineage(sql: &str) -> Lineage {
        let context = SessionContext::new();
        let list = DataType::new_list(DataType::Int64, true);
        let int = DataType::Int64;
        context
            .register_table("t", table(&[("a", int.clone()), ("b", int.clone()), ("s", DataType::Utf8), ("l", list)]))
            .unwrap();
        context.register_table("u", table(&[("a", int.clone()), ("c", int)])).unwrap();
        let plan = context.sql(sql).await.unwrap().into_unoptimized_plan();
        of_plan(&plan).unwrap()
    }

    fn printed(of: &Dependencies) -> String {
        let one = |(source, kinds): (
            &super::super::ColumnSource,
            &std::collections::BTreeSet<super::super::DependencyKind>,
        )| {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.subtype()).collect();
            format!("{}.{} {}", source.table, source.column, kinds.join("+"))
        };
        of.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// `expected`: one line for each output column, `name: sources`, and `rows: sources`.
    async fn check(sql: &str, expected: &[&str]) {
        let lineage = lineage(sql).await;
        let mut found: Vec<String> =
            lineage.columns.iter().map(|c| format!("{}: {}", c.name, printed(&c.sources))).collect();
        found.push(format!("rows: {}", printed(&lineage.rows)));
        assert_eq!(found, expected, "{sql}");
    }

    #[tokio::test]
    async fn projections_and_aliases() {
        check("SELECT a, b AS x, 1 AS one FROM t", &["a: t.a IDENTITY", "x: t.b IDENTITY", "one: ", "rows: "]).await;
        check("SELECT a + b AS sum FROM t", &["sum: t.a TRANSFORMATION, t.b TRANSFORMATION", "rows: "]).await;
        check("SELECT CAST(a AS VARCHAR) AS x FROM t", &["x: t.a TRANSFORMATION", "rows: "]).await;
    }

    #[tokio::test]
    async fn aggregates_and_groups() {
        check(
            "SELECT b, sum(a + 1) AS total, count(*) AS n FROM t GROUP BY b",
            &["b: t.b IDENTITY", "total: t.a AGGREGATION", "n: ", "rows: t.b GROUP_BY"],
        )
        .await;
        check(
            "SELECT sum(a) FILTER (WHERE b > 1) AS x FROM t HAVING max(b) > 2",
            &["x: t.a AGGREGATION, t.b FILTER", "rows: t.b FILTER"],
        )
        .await;
        check("SELECT DISTINCT a FROM t", &["a: t.a IDENTITY", "rows: t.a GROUP_BY"]).await;
    }

    #[tokio::test]
    async fn filters_joins_and_sorts_choose_rows() {
        check("SELECT a FROM t WHERE b > 1", &["a: t.a IDENTITY", "rows: t.b FILTER"]).await;
        check(
            "SELECT t.b, u.c FROM t JOIN u ON t.a = u.a ORDER BY u.c",
            &["b: t.b IDENTITY", "c: u.c IDENTITY", "rows: t.a JOIN, u.a JOIN, u.c SORT"],
        )
        .await;
        check("SELECT a FROM t ORDER BY b LIMIT 3", &["a: t.a IDENTITY", "rows: t.b SORT"]).await;
    }

    #[tokio::test]
    async fn windows() {
        check(
            "SELECT sum(a) OVER (PARTITION BY b ORDER BY s) AS w FROM t",
            &["w: t.a AGGREGATION, t.b WINDOW, t.s WINDOW", "rows: "],
        )
        .await;
    }

    #[tokio::test]
    async fn conditions_are_no_values() {
        check(
            "SELECT CASE WHEN b > 1 THEN a ELSE 0 END AS x FROM t",
            &["x: t.a TRANSFORMATION, t.b CONDITIONAL", "rows: "],
        )
        .await;
        check("SELECT CASE b WHEN 1 THEN b END AS x FROM t", &["x: t.b TRANSFORMATION+CONDITIONAL", "rows: "]).await;
    }

    #[tokio::test]
    async fn unions_have_all_sources() {
        check(
            "SELECT a FROM t UNION ALL SELECT c FROM u WHERE a = 1",
            &["a: t.a IDENTITY, u.c IDENTITY", "rows: u.a FILTER"],
        )
        .await;
    }

    #[tokio::test]
    async fn common_table_expressions_are_looked_through() {
        check(
            "WITH x AS (SELECT a + 1 AS y FROM t WHERE b = 2) SELECT max(y) AS z FROM x",
            &["z: t.a AGGREGATION", "rows: t.b FILTER"],
        )
        .await;
    }

    #[tokio::test]
    async fn subqueries() {
        check(
            "SELECT b FROM t WHERE a IN (SELECT c FROM u WHERE a > 3)",
            &["b: t.b IDENTITY", "rows: t.a FILTER, u.a FILTER, u.c FILTER"],
        )
        .await;
        check(
            "SELECT (SELECT max(c) FROM u WHERE u.a = t.b) AS m FROM t",
            &["m: t.b FILTER, u.a FILTER, u.c AGGREGATION", "rows: "],
        )
        .await;
        check(
            "SELECT b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
            &["b: t.b IDENTITY", "rows: t.a FILTER, u.a FILTER"],
        )
        .await;
    }

    #[tokio::test]
    async fn lateral_queries_depend_on_the_left() {
        check(
            "SELECT t.b, l.c FROM t, LATERAL (SELECT c + t.b AS c FROM u WHERE u.a = t.a) l",
            &["b: t.b IDENTITY", "c: t.b TRANSFORMATION, u.c TRANSFORMATION", "rows: t.a FILTER, u.a FILTER"],
        )
        .await;
    }

    /// What else SQL has: nothing may get lost.
    #[tokio::test]
    async fn set_operations_and_windows_over_groups() {
        check("SELECT a FROM t EXCEPT SELECT a FROM u", &["a: t.a IDENTITY", "rows: t.a JOIN+GROUP_BY, u.a JOIN"])
            .await;
        check(
            "SELECT a FROM t UNION SELECT c FROM u",
            &["a: t.a IDENTITY, u.c IDENTITY", "rows: t.a GROUP_BY, u.c GROUP_BY"],
        )
        .await;
        check(
            "SELECT b, rank() OVER (ORDER BY sum(a)) AS r FROM t GROUP BY b",
            &["b: t.b IDENTITY", "r: t.a WINDOW", "rows: t.b GROUP_BY"],
        )
        .await;
        check(
            "SELECT s, lag(a, 1, b) OVER (PARTITION BY s) AS p FROM t QUALIFY p > 1",
            &[
                "s: t.s IDENTITY",
                "p: t.a TRANSFORMATION, t.b TRANSFORMATION, t.s WINDOW",
                "rows: t.a FILTER, t.b FILTER, t.s WINDOW",
            ],
        )
        .await;
        check(
            "SELECT a, b, sum(a) AS n FROM t GROUP BY ROLLUP(a, b)",
            &["a: t.a IDENTITY", "b: t.b IDENTITY", "n: t.a AGGREGATION", "rows: t.a GROUP_BY, t.b GROUP_BY"],
        )
        .await;
        check(
            "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, s",
            &["a: t.a IDENTITY", "b: t.b IDENTITY", "rows: t.a GROUP_BY+SORT, t.s SORT"],
        )
        .await;
        check("SELECT coalesce(a, b) AS x FROM t", &["x: t.a TRANSFORMATION, t.b TRANSFORMATION", "rows: "]).await;
        check(
            "SELECT count(a) AS n, count(DISTINCT b) AS m FROM t",
            &["n: t.a AGGREGATION", "m: t.b AGGREGATION", "rows: "],
        )
        .await;
        check("SELECT t.a FROM t LEFT JOIN u USING (a)", &["a: t.a IDENTITY", "rows: t.a JOIN, u.a JOIN"]).await;
        check(
            "SELECT array_agg(b ORDER BY a) FILTER (WHERE s = 'x') AS x FROM t",
            &["x: t.a SORT, t.b AGGREGATION, t.s FILTER", "rows: "],
        )
        .await;
        check("SELECT a FROM t WHERE b > ALL (SELECT c FROM u)", &["a: t.a IDENTITY", "rows: t.b FILTER, u.c FILTER"])
            .await;
    }

    /// A condition in what chooses, groups or orders rows does that; in a value it stays a condition.
    #[tokio::test]
    async fn conditions_choose_group_and_order() {
        check(
            "SELECT CASE WHEN a > 1 THEN 'x' END AS k, sum(b) AS n FROM t GROUP BY 1",
            &["k: t.a CONDITIONAL", "n: t.b AGGREGATION", "rows: t.a GROUP_BY"],
        )
        .await;
        check(
            "SELECT b FROM t WHERE CASE WHEN a > 1 THEN s = 'x' END",
            &["b: t.b IDENTITY", "rows: t.a FILTER, t.s FILTER"],
        )
        .await;
        check("SELECT b FROM t ORDER BY CASE WHEN a > 1 THEN s END", &["b: t.b IDENTITY", "rows: t.a SORT, t.s SORT"])
            .await;
        check(
            "SELECT t.b FROM t JOIN u ON CASE WHEN t.a = 1 THEN u.a = 2 END",
            &["b: t.b IDENTITY", "rows: t.a JOIN, u.a JOIN"],
        )
        .await;
        check(
            "SELECT sum(b) OVER (PARTITION BY CASE WHEN s = 'x' THEN a END) AS w FROM t",
            &["w: t.a WINDOW, t.b AGGREGATION, t.s WINDOW", "rows: "],
        )
        .await;
    }

    #[tokio::test]
    async fn recursion_comes_to_an_end() {
        check(
            "WITH RECURSIVE r AS (SELECT a, b FROM t UNION ALL SELECT r.b, u.c FROM r JOIN u ON u.a = r.a) SELECT a FROM r",
            &["a: t.a IDENTITY, t.b IDENTITY, u.c IDENTITY", "rows: t.a JOIN, t.b JOIN, u.a JOIN, u.c JOIN"],
        )
        .await;
    }

    #[tokio::test]
    async fn unnested_lists() {
        check("SELECT unnest(l) AS x, b FROM t", &["x: t.l TRANSFORMATION", "b: t.b IDENTITY", "rows: "]).await;
    }

    #[tokio::test]
    async fn an_optimised_plan_has_the_same_columns() {
        let context = SessionContext::new();
        context.register_table("t", table(&[("a", DataType::Int64), ("b", DataType::Int64)])).unwrap();
        let plan = context.sql("SELECT a FROM t WHERE b > 1").await.unwrap().into_optimized_plan().unwrap();
        let lineage = of_plan(&plan).unwrap();
        assert_eq!(printed(&lineage.columns[0].sources), "t.a IDENTITY");
        assert_eq!(printed(&lineage.rows), "t.b FILTER");
    }
}
