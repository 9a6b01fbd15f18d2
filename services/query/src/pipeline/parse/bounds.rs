//! How complex a statement may be: parser, planner and expressions recurse over it, and a name of `WITH` is planned
//! again wherever it is used.
//!
//! In: a text, or what was parsed. Out: nothing, or a refusal. Never: a stack that overflows, since that would end the
//! service for everybody; a plan that is exponentially larger than its statement.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement as SqlStatement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::QueryError;

/// Each may be one level of a tree.
const OPERATORS: usize = 1000;
/// Tables that are read, each as often as it is read.
const RELATIONS: u64 = 256;

/// Refuses a text with too many operators, before anything recurses over them.
pub(super) fn operators(sql: &str) -> Result<(), QueryError> {
    // What is no SQL is told by the parser.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    match tokens.iter().filter(|token| is_operator(token)).count() {
        found if found > OPERATORS => Err(QueryError::TooComplex { what: "operators", found, limit: OPERATORS }),
        _ => Ok(()),
    }
}

/// Whether a token can nest expressions or queries. Parentheses cannot: the parser bounds their depth itself.
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

/// Refuses a statement whose plan would read too many tables.
pub(super) fn relations(statement: &DfStatement) -> Result<(), QueryError> {
    match statement {
        DfStatement::Statement(statement) => sql_relations(statement),
        DfStatement::Explain(explain) => relations(&explain.statement),
        _ => Ok(()),
    }
}

fn sql_relations(statement: &SqlStatement) -> Result<(), QueryError> {
    let mut weights = Weights { open: vec![0], ..Weights::default() };
    let _ = statement.visit(&mut weights);
    match weights.open.first().copied().unwrap_or_default() {
        found if found > RELATIONS => {
            let found = usize::try_from(found).unwrap_or(usize::MAX);
            Err(QueryError::TooComplex { what: "tables", found, limit: RELATIONS as usize })
        }
        _ => Ok(()),
    }
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
            check(&chain(200_000, operator), true);
        }
        check(&format!("SELECT a FROM t.t WHERE a IN ({})", vec!["'x + y'"; 50_000].join(",")), false);
        check(&format!("SELECT {}", "NOT ".repeat(200_000)), true);
        check(&vec!["SELECT 1"; 100_000].join(" UNION ALL "), true);
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
