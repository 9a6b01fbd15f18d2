//! `mesh sql`: an answer under the rights of the reader that `--as` names.
//!
//! In: one SELECT. Out: a table or JSON rows on stdout; the query's id on stderr, by which audit and lineage know it.

use serde::Deserialize as _;
use serde_json::Value;

use crate::args::Output;
use crate::doors::{self, Refusal};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{ADMIN, Home};
use crate::print;

/// An answer as the query service gives it in JSON.
pub(crate) struct Answer {
    pub(crate) query_id: String,
    pub(crate) rows: Vec<serde_json::Map<String, Value>>,
    pub(crate) columns: Vec<String>,
}

pub(crate) async fn run(home: &Home, principal: Option<&str>, query: &str, output: Output) -> Result<Exit, CliError> {
    let answer = ask(home, principal.unwrap_or(ADMIN), query).await?;
    match output {
        Output::Json => print::json(&answer.rows)?,
        Output::Table => print::line(&answer.grid())?,
    }
    print::note(&format!("query {}", answer.query_id));
    Ok(Exit::Done)
}

/// Asks the query service as `principal`.
pub(crate) async fn ask(home: &Home, principal: &str, query: &str) -> Result<Answer, CliError> {
    let url = format!("{}/v1/sql", home.endpoints()?.query.url);
    let request = doors::client()?
        .post(&url)
        .bearer_auth(home.key(principal)?)
        .header("accept", "application/json")
        .body(query.to_owned());
    let response = doors::send("query service", &url, request).await?;
    if !response.status().is_success() {
        return Err(doors::refusal(response).await);
    }
    let query_id =
        response.headers().get("mesh-query-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let body = response.bytes().await.map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    let body: Value = serde_json::from_slice(&body).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    Answer::read(query_id, body)
}

impl Answer {
    /// Reads the body `{"columns": [{"name", "type"}], "rows": [{…}]}`.
    fn read(query_id: String, mut body: Value) -> Result<Self, CliError> {
        // An answer that fails on its way has begun with status 200, and ends with the error.
        if let Ok(Refusal { code, message, .. }) = Refusal::deserialize(&body["error"]) {
            return Err(CliError::Refused { code, message, exit: Exit::Fault });
        }
        let missing = |what: &str| CliError::BadAnswer { problem: format!("the answer has no {what}") };
        let columns = body["columns"].as_array().ok_or_else(|| missing("columns"))?;
        let columns = columns.iter().filter_map(|column| Some(column["name"].as_str()?.to_owned())).collect();
        let Value::Array(rows) = body["rows"].take() else { return Err(missing("rows")) };
        let rows = rows
            .into_iter()
            .map(|row| match row {
                Value::Object(row) => Ok(row),
                _ => Err(missing("row objects")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { query_id, rows, columns })
    }

    pub(crate) fn grid(&self) -> String {
        let cells =
            |row: &serde_json::Map<String, Value>| self.columns.iter().map(|name| cell(row.get(name))).collect();
        print::grid(self.columns.iter().cloned(), self.rows.iter().map(cells))
    }
}

/// A value as a cell of a table.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_that_broke_off_is_an_error_with_its_code() {
        let body = json!({"columns": [], "rows": [], "error": {"code": "MESH-QUERY-0001", "message": "m"}});
        let error = Answer::read("q".to_owned(), body).err().unwrap();
        assert_eq!((error.code(), error.exit()), ("MESH-QUERY-0001", Exit::Fault));
    }

    #[test]
    fn columns_keep_their_order_and_null_is_empty() {
        let body = json!({"columns": [{"name": "b"}, {"name": "a"}], "rows": [{"a": 1.5}, {"b": "x", "a": null}]});
        let answer = Answer::read("q".to_owned(), body).unwrap();
        let grid = answer.grid();
        let header = grid.lines().find(|line| line.contains('b')).unwrap();
        assert!(header.find('b') < header.find('a'), "{grid}");
        assert!(grid.contains("1.5") && !grid.contains("null"), "{grid}");
    }

    #[test]
    fn a_number_is_shown_as_it_is() {
        for number in ["0.0004", "13.6", "1e+300", "-2.5e-9", "123456789.123", "14.0", "9007199254740993"] {
            let value: Value = serde_json::from_str(number).unwrap();
            assert_eq!(cell(Some(&value)), number);
        }
    }
}
