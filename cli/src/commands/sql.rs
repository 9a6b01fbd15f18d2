//! `mesh sql`: an answer under the rights of the reader that `--as` names.
//!
//! In: one SELECT. Out: a table or JSON rows on stdout; the query's id on stderr, by which audit and lineage know it.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::args::Output;
use crate::endpoints::{self, Refusal};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::{ADMIN, Home};
use crate::print;

/// An answer as the query service gives it in JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) query_id: String,
    rows: Vec<Row>,
    columns: Vec<String>,
}

/// Names and values in their order; each value as the service wrote it, since a float would lose a decimal's digits.
#[derive(Debug)]
struct Row(Vec<(String, Box<RawValue>)>);

/// `{"columns": [{"name", "type"}], "rows": [{…}]}`; an answer that fails on its way ends with the error.
#[derive(Debug, Deserialize)]
struct Body {
    columns: Vec<Column>,
    rows: Vec<Row>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
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
    let request = endpoints::client()?
        .post(&url)
        .bearer_auth(home.key(principal)?)
        .header("accept", "application/json")
        .body(query.to_owned());
    let response = endpoints::send("query service", &url, request).await?;
    if !response.status().is_success() {
        return Err(endpoints::refusal(response).await);
    }
    let query_id =
        response.headers().get("mesh-query-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let body = response.bytes().await.map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    Answer::read(query_id, &body)
}

impl Answer {
    fn read(query_id: String, body: &[u8]) -> Result<Self, CliError> {
        let body: Body = serde_json::from_slice(body).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
        if let Some(Refusal { code, message, .. }) = body.error {
            return Err(CliError::Refused { code, message, exit: Exit::Fault });
        }
        let columns = body.columns.into_iter().map(|column| column.name).collect();
        Ok(Self { query_id, rows: body.rows, columns })
    }

    pub(crate) fn grid(&self) -> String {
        let cells = |row: &Row| self.columns.iter().map(|name| cell(row.value(name))).collect();
        print::grid(self.columns.iter().cloned(), self.rows.iter().map(cells))
    }
}

impl Row {
    fn value(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(column, _)| column == name).map(|(_, value)| &**value)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Columns)
    }
}

/// Reads a row.
struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = Row;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut columns = Vec::new();
        while let Some(column) = map.next_entry()? {
            columns.push(column);
        }
        Ok(Row(columns))
    }
}

/// A value as a cell of a table: a text without its quotes, anything else as it is written.
fn cell(value: Option<&RawValue>) -> String {
    match value.map(RawValue::get) {
        None | Some("null") => String::new(),
        Some(json) => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn read(body: &str) -> Result<Answer, CliError> {
        Answer::read("q".to_owned(), body.as_bytes())
    }

    #[test]
    fn an_answer_that_broke_off_is_an_error_with_its_code() {
        let body = json!({"columns": [], "rows": [], "error": {"code": "MESH-QUERY-0001", "message": "m"}});
        let error = read(&body.to_string()).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("MESH-QUERY-0001", Exit::Fault));
        assert_eq!(read("{}").unwrap_err().code(), "MESH-CLI-0012");
    }

    #[test]
    fn columns_keep_their_order_and_null_is_empty() {
        let body = json!({"columns": [{"name": "b"}, {"name": "a"}], "rows": [{"a": 1.5}, {"b": "x", "a": null}]});
        let grid = read(&body.to_string()).unwrap().grid();
        let header = grid.lines().find(|line| line.contains('b')).unwrap();
        assert!(header.find('b') < header.find('a'), "{grid}");
        assert!(grid.contains("1.5") && !grid.contains("null") && !grid.contains('"'), "{grid}");
    }

    #[test]
    fn a_number_is_shown_as_it_is() {
        for number in ["0.0004", "13.6", "1e300", "14.0", "9007199254740993", "12345678901234567890.123456789"] {
            let answer = read(&format!(r#"{{"columns": [{{"name": "n"}}], "rows": [{{"n": {number}}}]}}"#)).unwrap();
            assert!(answer.grid().lines().any(|line| line.trim() == number), "{}", answer.grid());
            let json = serde_json::to_string(&answer.rows).unwrap();
            assert_eq!(json, format!(r#"[{{"n":{number}}}]"#));
        }
    }
}
