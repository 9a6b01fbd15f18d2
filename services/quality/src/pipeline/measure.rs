//! Stage 2. In: a table and conditions. Out: how many rows meet each. Rows stream through Arrow kernels, one pass for
//! all conditions; look-ups of duplicates spill beyond the engine's memory.
//! Never: a count of some of the rows taken for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, AsArray as _};
use datafusion::arrow::datatypes::{Int64Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt as _, col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::condition;
use super::judge::Finding;
use crate::error::QualityError;

/// Rows to count: a table, or what a range of its snapshots added.
pub(crate) type Rows = Arc<dyn TableProvider>;

/// Why rows were not counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Uncounted {
    /// The check does not fit the table, and will not until one of them changes.
    Unfit(String),
    /// The rows could not be read; the next time they may be.
    Unread(String),
}

impl From<Uncounted> for Finding {
    fn from(why: Uncounted) -> Self {
        match why {
            Uncounted::Unfit(why) => Self::error(why),
            Uncounted::Unread(why) => Self::unread(why),
        }
    }
}

/// Where rows are counted; cheap to clone, all clones share one budget of memory.
#[derive(Clone)]
pub(crate) struct Engine {
    session: SessionContext,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that may hold this many bytes.
    pub(crate) fn new(memory_bytes: usize) -> Result<Self, QualityError> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
            .build_arc()
            .map_err(|source| QualityError::Engine { source: Box::new(source) })?;
        // One partition: a judgement is background work and must not take every core from those who wait. One session:
        // a new one takes as long as many a judgement.
        let config = SessionConfig::new().with_target_partitions(1);
        Ok(Self { session: SessionContext::new_with_config_rt(config, runtime) })
    }

    /// Whether the condition can be evaluated on the table's rows.
    pub(crate) fn accepts(&self, schema: &Schema, condition: &Expr) -> Result<(), String> {
        let schema = DFSchema::try_from(schema.clone()).map_err(|error| error.to_string())?;
        self.session.create_physical_expr(condition.clone(), &schema).map(drop).map_err(|error| error.to_string())
    }

    /// How many rows meet each condition.
    pub(crate) async fn count(
        &self,
        rows: Rows,
        conditions: &BTreeMap<String, Expr>,
    ) -> Result<BTreeMap<String, u64>, Uncounted> {
        if conditions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let plan = |frame: DataFrame| -> Result<DataFrame, DataFusionError> {
            let counts = conditions
                .values()
                .enumerate()
                .map(|(at, condition)| Ok(count(lit(1i64)).filter(condition.clone()).build()?.alias(format!("c{at}"))));
            frame.aggregate(vec![], counts.collect::<Result<Vec<_>, DataFusionError>>()?)
        };
        let counts = self.one_row(rows, plan).await.map_err(|error| explain(&error))?;
        Ok(conditions.keys().cloned().zip(counts).collect())
    }

    /// How many rows repeat an earlier one in these columns. As in SQL's UNIQUE, a row with a null in them repeats none.
    pub(crate) async fn duplicates(&self, rows: Rows, columns: &[String]) -> Result<u64, Uncounted> {
        let schema = rows.schema();
        let keys: Vec<Expr> = columns
            .iter()
            .map(|path| condition::resolve(path, &schema).map(|(value, _)| value))
            .collect::<Result<_, _>>()
            .map_err(Uncounted::Unfit)?;
        let plan = |frame: DataFrame| -> Result<DataFrame, DataFusionError> {
            let known = keys.iter().cloned().map(Expr::is_not_null).reduce(Expr::and).unwrap_or(lit(true));
            let groups = keys.iter().enumerate().map(|(at, key)| key.clone().alias(format!("k{at}"))).collect();
            frame
                .filter(known)?
                .aggregate(groups, vec![count(lit(1i64)).alias("n")])?
                .filter(col("n").gt(lit(1i64)))?
                .aggregate(vec![], vec![sum(col("n") - lit(1i64)).alias("repeated")])
        };
        let counts = self.one_row(rows, plan).await.map_err(|error| explain(&error))?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// The one row of numbers that a plan over the table gives; null is none.
    async fn one_row(
        &self,
        rows: Rows,
        plan: impl FnOnce(DataFrame) -> Result<DataFrame, DataFusionError>,
    ) -> Result<Vec<u64>, DataFusionError> {
        let frame = plan(self.session.read_table(rows)?)?;
        let batches = frame.collect().await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1) else {
            return Err(DataFusionError::Internal("an aggregate without groups gave no row".to_owned()));
        };
        let number = |column: &datafusion::arrow::array::ArrayRef| -> Result<u64, DataFusionError> {
            let numbers = column
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| DataFusionError::Internal(format!("a count is {}", column.data_type())))?;
            let value = if numbers.len() == 1 && numbers.is_valid(0) { numbers.value(0) } else { 0 };
            u64::try_from(value).map_err(|_| DataFusionError::Internal(format!("a count is {value}")))
        };
        batch.columns().iter().map(number).collect()
    }
}

/// A failure without the rows' values: DataFusion's own messages quote them, and verdicts are for all who may discover
/// the product (NO-LEAK). The whole of it goes to the log.
fn explain(error: &DataFusionError) -> Uncounted {
    tracing::warn!(%error, "rows cannot be counted");
    let why = match error.find_root() {
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::NotImplemented(_) => {
            let why = "values of this type cannot be counted so; quality's log says why".to_owned();
            return Uncounted::Unfit(why);
        }
        DataFusionError::External(cause) => match cause.downcast_ref::<mesh_lakehouse::scan::ScanError>() {
            Some(scan) => format!("[{}] {scan}", scan.code()),
            None => "the table's files cannot be read; quality's log says why".to_owned(),
        },
        DataFusionError::ResourcesExhausted(_) => {
            "the look-up needs more memory than `judge.memory_bytes` and room to spill; give quality more of either"
                .to_owned()
        }
        _ => "the table's files cannot be read; quality's log says why".to_owned(),
    };
    Uncounted::Unread(why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::pipeline::checks::{Check, CheckKind, Subject};
    use crate::pipeline::judge;
    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray};
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::datasource::MemTable;
    use mesh_proto::v1::{ActiveContract, Outcome};

    /// Six rows: texts, numbers, nested texts, doubles.
    fn rows() -> Rows {
        let text: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("b"), Some(""), None, Some("Zürich")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(-1), Some(1), None, None, Some(0)]));
        let double: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.5), Some(1.0), None, Some(1.0), Some(2.0), Some(-0.5)]));
        let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("y"), None, Some("x"), None]));
        let nested = StructArray::from(vec![(Arc::new(Field::new("inner", DataType::Utf8, true)), inner)]);
        let columns =
            vec![("text", text), ("number", number), ("double", double), ("nested", Arc::new(nested) as ArrayRef)];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
                .unwrap();
        // Two batches: counts go over all of them.
        let parts = vec![batch.slice(0, 4), batch.slice(4, 2)];
        Arc::new(MemTable::try_new(batch.schema(), vec![parts]).unwrap())
    }

    /// The check that a rule (YAML flow) on `column` (or the object) becomes.
    fn check_of(rule: &str, column: &str) -> Check {
        let of = |name: &str| if name == column { format!("quality: [{rule}]") } else { "quality: []".to_owned() };
        let document = format!(
            "{{apiVersion: v3.1.0, kind: DataContract, id: t, version: 1.0.0, status: active, domain: t, \
             servers: [{{server: s, type: kafka, host: 'h:1', format: json}}], \
             schema: [{{name: t, {}, properties: [{{name: text, logicalType: string, {}}}, \
             {{name: number, logicalType: integer, {}}}, {{name: double, logicalType: number, {}}}, \
             {{name: nested, logicalType: object, properties: [{{name: inner, logicalType: string, {}}}]}}]}}]}}",
            of(""),
            of("text"),
            of("number"),
            of("double"),
            of("nested.inner"),
        );
        let active = ActiveContract { product: "t.t".into(), major: 1, document, ..ActiveContract::default() };
        let mut checks = Subject::of(&active).checks;
        assert_eq!(checks.len(), 1, "{checks:#?}");
        checks.remove(0)
    }

    async fn judged(check: &Check) -> Finding {
        let engine = Engine::new(64 << 20).unwrap();
        let counted = match &check.kind {
            CheckKind::Rows { rule, .. } => match condition::of(rule, &check.column, &rows().schema()) {
                Ok(built) => {
                    engine.accepts(&rows().schema(), &built).unwrap();
                    let counts = engine.count(rows(), &BTreeMap::from([("c".to_owned(), built)])).await;
                    counts.map(|counts| counts["c"])
                }
                Err(why) => Err(Uncounted::Unfit(why)),
            },
            CheckKind::Duplicates { columns, .. } => engine.duplicates(rows(), columns).await,
            CheckKind::RowCount { .. } => Ok(6),
            CheckKind::Impossible(why) => Err(Uncounted::Unfit(why.clone())),
            CheckKind::Latency(_) => panic!("no metric"),
        };
        match (&check.kind, counted) {
            (CheckKind::RowCount { operator }, Ok(count)) => judge::rows(operator, count),
            (CheckKind::Rows { operator, unit, .. } | CheckKind::Duplicates { operator, unit, .. }, Ok(count)) => {
                judge::part(operator, *unit, count, 6)
            }
            (_, Err(why)) => Finding::from(why),
            (kind, Ok(_)) => panic!("{kind:?}"),
        }
    }

    /// What a rule on a column says of the six rows: `outcome actual`, for errors a part of the reason.
    async fn check(column: &str, rule: &str, expected: &str) {
        let finding = judged(&check_of(rule, column)).await;
        let shown = match finding.outcome {
            Outcome::Pass => format!("pass {}", finding.actual),
            Outcome::Fail => format!("fail {}", finding.actual),
            Outcome::Error => format!("error {}", finding.detail),
            other => format!("{other:?}"),
        };
        let matches = if expected.starts_with("error") {
            shown.contains(&expected[6..]) && shown.starts_with("error")
        } else {
            shown == expected
        };
        assert!(matches, "{column} {rule}: {shown}, expected {expected}");
    }

    #[tokio::test]
    async fn null_values() {
        check("text", "{metric: nullValues, mustBe: 1}", "pass 1 of 6 rows").await;
        check(
            "number",
            "{metric: nullValues, mustBeLessThan: 30, unit: percent}",
            "fail 33.3333 percent (2 of 6 rows)",
        )
        .await;
        check("nested.inner", "{metric: nullValues, mustBeLessOrEqualTo: 3}", "pass 3 of 6 rows").await;
        check("", "{metric: nullValues, mustBe: 0}", "error is about a column").await;
    }

    #[tokio::test]
    async fn missing_values() {
        check(
            "text",
            "{metric: missingValues, arguments: {missingValues: [null, '', 'n/a']}, mustBe: 2}",
            "pass 2 of 6 rows",
        )
        .await;
        check("text", "{metric: missingValues, arguments: {missingValues: ['']}, mustBe: 2}", "pass 2 of 6 rows").await;
        check(
            "number",
            "{metric: missingValues, arguments: {missingValues: [-1, 'none', 0.5]}, mustBe: 3}",
            "pass 3 of 6 rows",
        )
        .await;
        check("double", "{metric: missingValues, arguments: {missingValues: [1]}, mustBe: 3}", "pass 3 of 6 rows")
            .await;
        check(
            "nested.inner",
            "{metric: missingValues, arguments: {missingValues: [x]}, mustBe: 0}",
            "fail 5 of 6 rows",
        )
        .await;
    }

    #[tokio::test]
    async fn invalid_values() {
        check("text", "{metric: invalidValues, arguments: {validValues: [a, b]}, mustBe: 2}", "pass 2 of 6 rows").await;
        check("text", "{metric: invalidValues, arguments: {pattern: '^[a-z]?$'}, mustBe: 0}", "fail 1 of 6 rows").await;
        check(
            "text",
            "{metric: invalidValues, arguments: {validValues: [a, Zürich], pattern: '^[a-z]$'}, mustBe: 4}",
            "pass 4 of 6 rows",
        )
        .await;
        check(
            "number",
            "{metric: invalidValues, arguments: {validValues: [1, 0]}, mustBeBetween: [0, 2]}",
            "pass 1 of 6 rows",
        )
        .await;
        check("number", "{metric: invalidValues, arguments: {pattern: '^1'}, mustBe: 0}", "error is for texts").await;
        check("text", "{metric: invalidValues, mustBe: 0}", "error neither `validValues` nor `pattern`").await;
    }

    #[tokio::test]
    async fn duplicate_values() {
        check("text", "{metric: duplicateValues, mustBe: 1}", "pass 1 of 6 rows").await;
        check(
            "double",
            "{metric: duplicateValues, mustBeLessThan: 20, unit: percent}",
            "pass 16.6667 percent (1 of 6 rows)",
        )
        .await;
        check("", "{metric: duplicateValues, arguments: {properties: [text, number]}, mustBe: 0}", "pass 0 of 6 rows")
            .await;
        check("nested.inner", "{metric: duplicateValues, mustBe: 0}", "fail 1 of 6 rows").await;
        check("", "{metric: duplicateValues, mustBe: 0}", "error needs `arguments").await;
        check("", "{metric: duplicateValues, arguments: {properties: [unknown]}, mustBe: 0}", "error ").await;
    }

    #[tokio::test]
    async fn row_count_and_what_cannot_be_run() {
        check("", "{metric: rowCount, mustNotBeBetween: [1, 5]}", "pass 6 rows").await;
        check("", "{metric: rowCount, mustBe: 6, unit: percent}", "error percent of what").await;
        check("", "{metric: rowCount, mustBe: many}", "error ").await;
        check("text", "{type: custom, engine: soda, implementation: x}", "error no engine `soda`").await;
        check("", "{type: sql, query: 'SELECT 1', mustBe: 1}", "error `sql` checks are not run").await;
    }

    #[tokio::test]
    async fn many_conditions_are_one_pass() {
        let schema = rows().schema();
        let of = |column: &str| condition::of(&crate::pipeline::checks::RowRule::Null, column, &schema).unwrap();
        let conditions = ["text", "number", "double"].map(|column| (column.to_owned(), of(column)));
        let counts = Engine::new(64 << 20).unwrap().count(rows(), &BTreeMap::from(conditions)).await.unwrap();
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [1, 2, 1], "double, number, text");
    }

    /// More bytes of keys than the engine may hold, the last key there twice.
    #[tokio::test]
    async fn a_look_up_beyond_the_memory_spills() {
        let texts = (0..150_000).chain([149_999]).map(|n| Some(format!("{n:0>160}")));
        let column: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let rows = batch.num_rows();
        let parts = (0..rows).step_by(8192).map(|at| batch.slice(at, 8192.min(rows - at))).collect();
        let table = Arc::new(MemTable::try_new(batch.schema(), vec![parts]).unwrap());
        let found = Engine::new(16 << 20).unwrap().duplicates(table, &["text".to_owned()]).await;
        assert_eq!(found, Ok(1));
    }
}
