//! In: a text. Out: one statement that only reads, and the tables it names. Never: DDL, DML, COPY, SET, a second
//! statement, one that is too deep to be planned.

pub mod bounds;

use datafusion::common::{DataFusionError, TableReference};
use datafusion::sql::parser::{DFParser, Statement as DfStatement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::error::QueryError;

/// The schema that lists all others.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// A statement that only reads.
#[derive(Debug)]
pub struct Statement {
    pub statement: DfStatement,
    pub tables: Vec<TableReference>,
    /// It lists tables or columns.
    pub reads_catalog: bool,
}

/// Parses one reading statement.
pub fn statement(sql: &str) -> Result<Statement, QueryError> {
    bounds::text(sql)?;
    let mut statements = DFParser::parse_sql(sql).map_err(|error| syntax(sql, &error))?;
    let statement = match (statements.pop_front(), statements.len()) {
        (Some(one), 0) => one,
        (None, _) => return Err(QueryError::Body { why: "there is no statement".to_owned() }),
        (Some(_), _) => return Err(QueryError::Refused { what: "More than one statement at a time".to_owned() }),
    };
    let reads_catalog = only_reads(&statement)?;
    bounds::plan(&statement)?;
    let (tables, _) = resolve_table_references(&statement, true)
        .map_err(|error| QueryError::Plan { message: error.strip_backtrace() })?;
    let (catalog, tables): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|table| table.schema() == Some(INFORMATION_SCHEMA));
    Ok(Statement { statement, tables, reads_catalog: reads_catalog || !catalog.is_empty() })
}

/// Whether the statement asks what there is; an error if it does anything but read.
fn only_reads(statement: &DfStatement) -> Result<bool, QueryError> {
    match statement {
        DfStatement::Statement(statement) => sql_only_reads(statement),
        DfStatement::Explain(explain) => only_reads(&explain.statement),
        other => refuse(&other.to_string()),
    }
}

fn sql_only_reads(statement: &SqlStatement) -> Result<bool, QueryError> {
    match statement {
        SqlStatement::Query(_) | SqlStatement::ExplainTable { .. } => Ok(false),
        SqlStatement::Explain { statement, .. } => sql_only_reads(statement),
        SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowFunctions { .. } => Ok(true),
        other => refuse(&other.to_string()),
    }
}

/// Names the kind of statement, not its content.
fn refuse(text: &str) -> Result<bool, QueryError> {
    let first = text.split_whitespace().next().unwrap_or("This").to_uppercase();
    Err(QueryError::Refused { what: first })
}

/// The parser says where in its words: `… at Line: 1, Column: 8`. Without them, it came to the text's end.
fn syntax(sql: &str, error: &DataFusionError) -> QueryError {
    let text = match error.find_root() {
        DataFusionError::SQL(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    };
    let text = text.trim_start_matches("sql parser error: ").to_owned();
    let number = |after: &str| {
        let digits = text.split(after).nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u64>().ok()
    };
    let last = sql.trim_end().lines().last().map_or(0, |line| line.chars().count());
    let end = (sql.trim_end().lines().count().max(1) as u64, last as u64 + 1);
    let (line, column) = number("Line: ").zip(number("Column: ")).unwrap_or(end);
    let message = text.split(" at Line: ").next().unwrap_or(&text).to_owned();
    QueryError::Syntax { line, column, message }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reading_statements_name_their_tables() {
        let check = |sql: &str, expected: &[&str], asks: bool| {
            let parsed = statement(sql).unwrap();
            let found: Vec<String> = parsed.tables.iter().map(ToString::to_string).collect();
            assert_eq!(
                (found, parsed.reads_catalog),
                (expected.iter().map(|s| (*s).to_owned()).collect(), asks),
                "{sql}"
            );
        };
        check("SELECT * FROM a.b JOIN c.d USING (x)", &["a.b", "c.d"], false);
        check("WITH x AS (SELECT 1 FROM A.B) SELECT * FROM x WHERE EXISTS (SELECT 1 FROM e.f)", &["a.b", "e.f"], false);
        check("EXPLAIN ANALYZE SELECT * FROM a.b", &["a.b"], false);
        check("DESCRIBE a.b", &["a.b"], false);
        check("SHOW TABLES", &[], true);
        check("SELECT * FROM information_schema.tables", &[], true);
    }

    #[test]
    fn whatever_does_not_only_read_is_refused() {
        for sql in [
            "INSERT INTO a.b VALUES (1)",
            "UPDATE a.b SET x = 1",
            "DELETE FROM a.b",
            "CREATE TABLE t (a INT)",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE VIEW v AS SELECT 1",
            "DROP TABLE a.b",
            "COPY a.b TO '/tmp/x.csv'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "EXPLAIN INSERT INTO a.b VALUES (1)",
            "PREPARE p AS SELECT 1",
            "SELECT 1; SELECT 2",
        ] {
            assert_eq!(statement(sql).unwrap_err().code(), "MESH-QUERY-0006", "{sql}");
        }
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let check = |sql: &str, at: (u64, u64)| match statement(sql).unwrap_err() {
            QueryError::Syntax { line, column, message } => {
                assert_eq!((line, column), at, "{sql}");
                assert!(!message.contains("Line:"), "{message}");
            }
            other => assert_eq!(other.code(), "MESH-QUERY-0005", "{sql}"),
        };
        check("SELEC 1", (1, 1));
        check("SELECT *\nFROM a.b WHERE a = ) 1", (2, 20));
        check("SELECT *\nFROM a.b WHERE +", (2, 17));
    }
}
