//! How complex a statement may be: parser, planner and expressions recurse over it, and a name of `WITH` is planned
//! again wherever it is used.
//!
//! In: a text, or what was parsed. Out: nothing, or a refusal. Never: a stack that overflows, since that would end the
//! service for everybody; a plan that is exponentially larger than its statement; a record of the statement that the
//! bus would not take.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, Query, Select, Statement as SqlStatement, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::QueryError;

/// Each may be one level of a tree.
const OPERATORS: usize = 1000;
/// Brackets within brackets. The parser bounds those of expressions and queries, not those of types.
const DEPTH: usize = 128;
/// Tables that are read, each as often as it is read.
const RELATIONS: u64 = 256;
/// Grouping sets of one `GROUP BY`: `CUBE` of eight columns.
const GROUPING_SETS: usize = 256;

/// Refuses what is found more often than it may be.
pub fn bound(what: &'static str, found: usize, limit: usize) -> Result<(), QueryError> {
    if found > limit { Err(QueryError::TooComplex { what, found, limit }) } else { Ok(()) }
}

/// Refuses a text that is longer than `limit` in the records of audit, lineage and trace.
pub fn recorded(sql: &str, limit: usize) -> Result<(), QueryError> {
    let in_json = |c: char| match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    };
    bound("bytes", sql.chars().map(in_json).sum(), limit)
}

/// Refuses a text that is too deep or has too many operators, before anything recurses over it.
pub(super) fn text(sql: &str) -> Result<(), QueryError> {
    // What is no SQL, the parser reports.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    bound("operators", tokens.iter().filter(|token| is_operator(token)).count(), OPERATORS)?;
    bound("brackets within each other", depth(&tokens), DEPTH)
}

fn depth(tokens: &[Token]) -> usize {
    let mut open = 0usize;
    let mut deepest = 0;
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// Whether a token can nest expressions, queries or statements without a bracket.
fn is_operator(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(word) => {
            matches!(
                word.keyword,
                K::AND
                    | K::OR
                    | K::NOT
                    | K::IS
                    | K::LIKE
                    | K::ILIKE
                    | K::BETWEEN
                    | K::UNION
                    | K::EXCEPT
                    | K::INTERSECT
                    | K::JOIN
                    | K::AT
                    | K::COLLATE
                    | K::WHEN
                    | K::EXPLAIN
                    | K::INTERVAL
            )
        }
        Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen
        | Token::RBracket => false,
        _ => true,
    }
}

/// Refuses a statement whose plan would read too many tables or group in too many ways.
pub(super) fn plan(statement: &DfStatement) -> Result<(), QueryError> {
    match statement {
        DfStatement::Statement(statement) => sql_plan(statement),
        DfStatement::Explain(explain) => plan(&explain.statement),
        _ => Ok(()),
    }
}

fn sql_plan(statement: &SqlStatement) -> Result<(), QueryError> {
    let mut weights = Weights { open: vec![0], ..Weights::default() };
    let _ = statement.visit(&mut weights);
    let tables = weights.open.first().copied().unwrap_or_default();
    bound("tables", usize::try_from(tables).unwrap_or(usize::MAX), RELATIONS as usize)?;
    bound("grouping sets", weights.grouping_sets, GROUPING_SETS)
}

/// How many sets of columns a `GROUP BY` groups by.
fn grouping_sets(group_by: &GroupByExpr) -> usize {
    let GroupByExpr::Expressions(by, _) = group_by else { return 1 };
    let sets = |expr: &Expr| match expr {
        Expr::Cube(columns) => {
            1usize.checked_shl(u32::try_from(columns.len()).unwrap_or(u32::MAX)).unwrap_or(usize::MAX)
        }
        Expr::Rollup(columns) => columns.len() + 1,
        Expr::GroupingSets(sets) => sets.len(),
        _ => 1,
    };
    by.iter().map(sets).fold(1, usize::saturating_mul)
}

/// How many tables each query reads.
#[derive(Default)]
struct Weights {
    /// Of the queries that the walk is in.
    open: Vec<u64>,
    /// Names of `WITH` whose query is still to come, by the query's place.
    named: HashMap<*const Query, String>,
    /// Of the names of `WITH` so far; of two with one name the greater.
    known: HashMap<String, u64>,
    /// The most of one `GROUP BY`.
    grouping_sets: usize,
}

impl Weights {
    fn add(&mut self, weight: u64) {
        if let Some(open) = self.open.last_mut() {
            *open = open.saturating_add(weight);
        }
    }
}

impl Visitor for Weights {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.open.push(0);
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.named.insert(&raw const *table.query, table.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let weight = self.open.pop().unwrap_or_default();
        match self.named.remove(&(&raw const *query)) {
            Some(name) => {
                let known = self.known.entry(name).or_default();
                *known = weight.max(*known);
            }
            None => self.add(weight),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.grouping_sets = self.grouping_sets.max(grouping_sets(&select.group_by));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let named = self.known.get(&relation.to_string().replace('"', "").to_lowercase());
        let weight = named.copied().unwrap_or_default().max(1);
        self.add(weight);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::statement;

    fn check(sql: &str, refused: bool) {
        let code = statement(sql).err().map(|error| error.code());
        assert_eq!(code == Some("MESH-QUERY-0024"), refused, "{code:?} {}", &sql[..sql.len().min(80)]);
    }

    #[test]
    fn operators_are_bounded() {
        let chain = |n: usize, operator: &str| format!("SELECT {}", vec!["1"; n].join(operator));
        for operator in ["+", " OR ", "||", "::INT::", " = "] {
            check(&chain(300, operator), false);
            check(&chain(10_000, operator), true);
        }
        check(&format!("SELECT a FROM t.t WHERE a IN ({})", vec!["'x + y'"; 20_000].join(",")), false);
        check(&format!("SELECT {}", "NOT ".repeat(20_000)), true);
        check(&vec!["SELECT 1"; 10_000].join(" UNION ALL "), true);
    }

    #[test]
    fn whatever_nests_is_bounded() {
        let around = |open: &str, n: usize, within: &str, close: &str| {
            format!("SELECT {}{within}{}", open.repeat(n), close.repeat(n))
        };
        check(&format!("{}SELECT 1", "EXPLAIN ".repeat(20_000)), true);
        check(&around("INTERVAL ", 20_000, "'1 day'", ""), true);
        check(&format!("SELECT CAST(1 AS {}INT{})", "Nullable(".repeat(20_000), ")".repeat(20_000)), true);
        check(&around("(", 100_000, "1", ")"), true);
        check(&around("[", 100_000, "1", "]"), true);
        check(&around("(", 20, "1", ")"), false);
        check("EXPLAIN SELECT INTERVAL '1 day', x[1], ARRAY[[1], [2]] FROM t.t", false);
    }

    #[test]
    fn a_statement_counts_as_its_records_hold_it() {
        let check = |sql: &str, bytes: usize| {
            assert!(super::recorded(sql, bytes).is_ok(), "{sql}");
            assert_eq!(super::recorded(sql, bytes - 1).unwrap_err().code(), "MESH-QUERY-0024", "{sql}");
        };
        for sql in ["SELECT 1", "SELECT 'é\\', \"a\"\n", "\u{1}\t"] {
            let json = serde_json::to_string(sql).unwrap();
            assert!(super::recorded(sql, json.len() + 10).is_ok(), "{sql}");
        }
        check("SELECT 1", 8);
        check("\"", 2);
        check("\u{1}é", 8);
    }

    #[test]
    fn grouping_sets_are_bounded() {
        let columns = |n: usize| (0..n).map(|i| format!("a + {i}")).collect::<Vec<_>>().join(", ");
        let group = |by: &str| format!("SELECT 1 FROM (SELECT count(*) FROM d.t GROUP BY {by})");
        check(&group(&format!("CUBE({})", columns(8))), false);
        check(&group(&format!("CUBE({})", columns(9))), true);
        check(&group(&format!("CUBE({})", columns(200))), true);
        check(&group(&format!("CUBE({0}), CUBE({0})", columns(5))), true);
        check(&group(&format!("ROLLUP({})", columns(100))), false);
    }

    #[test]
    fn names_of_with_count_as_often_as_they_are_used() {
        let doubling = |levels: usize| {
            let level = |i: usize| format!(", T{i} AS (SELECT a.x FROM t{0} a, \"t{0}\" b)", i - 1);
            let levels_of: String = (1..=levels).map(level).collect();
            format!("WITH t0 AS (SELECT x FROM d.t){levels_of} SELECT * FROM t{levels}")
        };
        check(&doubling(8), false);
        check(&doubling(9), true);
        check(&doubling(60), true);
        check(&format!("EXPLAIN {}", doubling(60)), true);
        check(&format!("SELECT 1 FROM {}", vec!["d.t"; 300].join(", ")), true);
    }
}
