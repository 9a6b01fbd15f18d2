//! Stage 3. In: what was counted. Out: the verdict. Pure.
//! Never: a pass for what was not counted.

use mesh_contract::{Operator, Unit};
use mesh_proto::record::cut_at_chars;
use mesh_proto::v1::Outcome;

/// What a check found, before it is put into a verdict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) outcome: Outcome,
    pub(crate) actual: String,
    pub(crate) detail: String,
    /// The table could not be read, which may pass: it says nothing about a snapshot, and is tried again.
    pub(crate) again: bool,
}

impl Finding {
    /// The check could not be run.
    pub(crate) fn error(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Error, actual: String::new(), detail: bounded(why.into()), again: false }
    }

    /// The table could not be read this time.
    pub(crate) fn unread(why: impl Into<String>) -> Self {
        Self { again: true, ..Self::error(why) }
    }

    /// There is nothing to judge.
    pub(crate) fn no_data(why: &str) -> Self {
        Self { detail: why.to_owned(), ..Self::found(Outcome::NoData, String::new()) }
    }

    /// What the check found.
    pub(crate) fn found(outcome: Outcome, actual: String) -> Self {
        Self { outcome, actual, detail: String::new(), again: false }
    }
}

/// As much of a text as a verdict carries: contracts may say anything at any length, and what Kafka does not take would be
/// tried for ever.
pub(crate) fn bounded(text: String) -> String {
    cut_at_chars(&text, LONGEST)
}

/// Characters of one text of a verdict; as JSON, one may take six bytes.
const LONGEST: usize = 1000;

/// The verdict on a number of rows of the table.
pub(crate) fn rows(operator: &Operator, rows: u64) -> Finding {
    decide(operator, to_f64(rows), format!("{rows} rows"))
}

/// The verdict on a part of the table's rows.
pub(crate) fn part(operator: &Operator, unit: Unit, found: u64, of: u64) -> Finding {
    match unit {
        Unit::Rows => decide(operator, to_f64(found), format!("{found} of {of} rows")),
        Unit::Percent if of == 0 => Finding::no_data("the table has no rows, so there is no percentage of them"),
        Unit::Percent => {
            let percent = 100.0 * to_f64(found) / to_f64(of);
            decide(operator, percent, format!("{} percent ({found} of {of} rows)", short(percent)))
        }
    }
}

fn decide(operator: &Operator, value: f64, actual: String) -> Finding {
    let outcome = if operator.holds(value) { Outcome::Pass } else { Outcome::Fail };
    Finding::found(outcome, actual)
}

/// Four decimals at most: enough to tell one row of a million, and readable.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Row counts are far below 2^53, where doubles are still exact.
#[allow(clippy::cast_precision_loss)]
fn to_f64(rows: u64) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(finding: &Finding, outcome: Outcome, actual: &str) {
        assert_eq!((finding.outcome, finding.actual.as_str()), (outcome, actual));
    }

    #[test]
    fn every_operator_decides_on_rows() {
        let of = |operator, rows_| rows(&operator, rows_).outcome;
        let table = [
            (Operator::MustBe(json!(3)), [Outcome::Fail, Outcome::Pass, Outcome::Fail]),
            (Operator::MustNotBe(json!(3)), [Outcome::Pass, Outcome::Fail, Outcome::Pass]),
            (Operator::GreaterThan(3.0), [Outcome::Fail, Outcome::Fail, Outcome::Pass]),
            (Operator::GreaterOrEqual(3.0), [Outcome::Fail, Outcome::Pass, Outcome::Pass]),
            (Operator::LessThan(3.0), [Outcome::Pass, Outcome::Fail, Outcome::Fail]),
            (Operator::LessOrEqual(3.0), [Outcome::Pass, Outcome::Pass, Outcome::Fail]),
            (Operator::Between(2.0, 4.0), [Outcome::Fail, Outcome::Pass, Outcome::Fail]),
            (Operator::NotBetween(2.0, 4.0), [Outcome::Pass, Outcome::Fail, Outcome::Pass]),
        ];
        for (operator, expected) in table {
            assert_eq!([2, 3, 4].map(|rows| of(operator.clone(), rows)), expected, "{operator:?}");
        }
    }

    #[test]
    fn a_part_is_told_in_its_unit() {
        let less = Operator::LessThan(1.0);
        check(&part(&less, Unit::Percent, 155, 26_993), Outcome::Pass, "0.5742 percent (155 of 26993 rows)");
        check(&part(&less, Unit::Percent, 249, 2_226), Outcome::Fail, "11.186 percent (249 of 2226 rows)");
        check(&part(&less, Unit::Percent, 1, 1), Outcome::Fail, "100 percent (1 of 1 rows)");
        check(&part(&less, Unit::Rows, 0, 7), Outcome::Pass, "0 of 7 rows");
        check(&part(&less, Unit::Percent, 0, 0), Outcome::NoData, "");
        check(&rows(&Operator::MustBe(json!(2232)), 2_226), Outcome::Fail, "2226 rows");
    }
}
