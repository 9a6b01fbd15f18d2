//! Rows of a file, each field read as its column's type says.
//!
//! In: CSV or JSON lines, and the contract's columns. Out: one JSON object a row, fields under the names that records use.
//! Must never happen: a text that is no number in a number's place, a row that is lost or joined with another, a column whose
//! value is one of two. Such a row is an error with its line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use mesh_contract::{Column, Type};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::csv_text::{Misquoted, Quotes};
use super::json;
use crate::error::CliError;

/// One row by field name.
pub(crate) type Fields = Map<String, Value>;

/// A row and the line it begins at.
#[derive(Debug)]
pub(crate) struct RowAt {
    pub(crate) line: u64,
    pub(crate) fields: Fields,
}

/// The rows of `path`, by its extension. Of `null`, see `mesh produce --help`.
pub(crate) fn open<'a>(path: &'a Path, columns: &'a [Column], null: Option<&'a str>) -> Result<Rows<'a>, CliError> {
    let file = File::open(path).map_err(|source| CliError::File { action: "read", path: path.to_owned(), source })?;
    let rows: Rows<'a> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl" | "ndjson") => Box::new(json_lines(path, BufReader::new(file), columns)),
        _ => csv_rows(path, file, columns, null)?,
    };
    Ok(rows)
}

/// Rows as they are read.
pub(crate) type Rows<'a> = Box<dyn Iterator<Item = Result<RowAt, CliError>> + 'a>;

fn csv_rows<'a>(
    path: &'a Path,
    file: File,
    columns: &'a [Column],
    null: Option<&'a str>,
) -> Result<Rows<'a>, CliError> {
    let mut reader = csv::Reader::from_reader(Quotes::new(file));
    let headers = reader.headers().map_err(|e| no_record(path, &e))?.clone();
    let mut names = BTreeSet::new();
    if let Some(twice) = headers.iter().find(|header| !names.insert(*header)) {
        return Err(bad(path, 1, &format!("column `{twice}` is named twice")));
    }
    let known = headers
        .iter()
        .map(|header| match columns.iter().find(|column| column.original == header) {
            Some(column) => Ok(column),
            None => Err(unknown_column(path, 1, header, columns)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(|e| no_record(path, &e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells = known.iter().zip(record.iter());
        let fields = cells.map(|(column, cell)| {
            let empty = cell.is_empty() || Some(cell) == null;
            let value = if empty { Value::Null } else { read_cell(cell, column).map_err(|e| bad(path, line, &e))? };
            Ok((column.record_name().to_owned(), value))
        });
        Ok(RowAt { line, fields: fields.collect::<Result<_, CliError>>()? })
    })))
}

fn json_lines<'a>(
    path: &'a Path,
    reader: BufReader<File>,
    columns: &'a [Column],
) -> impl Iterator<Item = Result<RowAt, CliError>> + 'a {
    reader.lines().zip(1..).filter(|(line, _)| !line.as_ref().is_ok_and(|line| line.trim().is_empty())).map(
        move |(line, number)| {
            let line = line.map_err(|e| bad(path, number, &e))?;
            let members = json::members(&line).map_err(|problem| bad(path, number, &problem))?;
            let mut fields = Fields::new();
            for (name, raw) in members {
                let column = columns.iter().find(|column| column.original == name || column.record_name() == name);
                let column = column.ok_or_else(|| unknown_column(path, number, &name, columns))?;
                let value = json::value(raw, column).map_err(|problem| bad(path, number, &problem))?;
                if fields.insert(column.record_name().to_owned(), value).is_some() {
                    return Err(bad(path, number, &format!("column `{}` is named twice", column.original)));
                }
            }
            Ok(RowAt { line: number, fields })
        },
    )
}

/// What the csv crate says of a record; of a quote out of place, its own line.
fn no_record(path: &Path, error: &csv::Error) -> CliError {
    let misquoted = match error.kind() {
        csv::ErrorKind::Io(source) => source.get_ref().and_then(|source| source.downcast_ref::<Misquoted>()),
        _ => None,
    };
    match misquoted {
        Some(quote) => bad(path, quote.line, quote),
        None => bad(path, error.position().map_or(1, csv::Position::line), error),
    }
}

/// A cell's text as a value of its column's type.
fn read_cell(cell: &str, column: &Column) -> Result<Value, String> {
    let wrong = |what: &str| format!("column `{}` holds {cell:?}, which is not {what}", column.original);
    match &column.ty {
        Type::Int | Type::Long => cell.parse::<i64>().map(Value::from).map_err(|_| wrong("an integer")),
        Type::Float | Type::Double => {
            let number = cell.parse::<f64>().ok().and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(|| wrong("a finite number"))
        }
        Type::Boolean => match cell {
            "true" | "TRUE" | "1" => Ok(Value::Bool(true)),
            "false" | "FALSE" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false")),
        },
        Type::Struct(_) | Type::List(_) | Type::Map(..) => {
            let raw = serde_json::from_str::<&RawValue>(cell).map_err(|_| wrong("the JSON of a nested value"))?;
            json::value(raw, column).map_err(|problem| wrong(&format!("the JSON of a nested value: {problem}")))
        }
        _ => Ok(Value::from(cell)),
    }
}

fn unknown_column(path: &Path, line: u64, name: &str, columns: &[Column]) -> CliError {
    let known = columns.iter().map(|column| column.original.as_str()).collect::<Vec<_>>().join(", ");
    bad(path, line, &format!("the contract has no column `{name}`; it has {known}"))
}

/// A row that cannot be sent; how many before it were sent is for the sender to say.
pub(crate) fn bad(path: &Path, line: u64, problem: &dyn std::fmt::Display) -> CliError {
    CliError::BadRow { path: path.to_owned(), line, problem: problem.to_string(), sent: 0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use mesh_contract::ProductContract;
    use pretty_assertions::assert_eq;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    use serde_json::json;

    const CONTRACT: &str = "
apiVersion: v3.1.0
kind: DataContract
id: urn:test:orders
version: 1.0.0
status: active
domain: sales
schema:
  - name: orders
    properties:
      - {name: id, logicalType: string, required: true}
      - {name: Gross Price, logicalType: number}
      - {name: pieces, logicalType: integer}
      - {name: paid, logicalType: boolean}
      - {name: placed, logicalType: timestamp}
      - {name: parts, logicalType: array, items: {logicalType: integer}}
";

    /// As a record has it: Avro, which the contract says, has no names with spaces.
    const PRICE: &str = "gross_price";

    /// Each row's line and fields, or the error's text behind the file's name.
    fn read(name: &str, text: &str, null: Option<&str>) -> Vec<Result<(u64, Value), String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let contract = ProductContract::parse("test", CONTRACT).unwrap();
        let text_of = |error: CliError| {
            assert_eq!((error.code(), error.exit()), ("MESH-CLI-0007", crate::exit::Exit::No));
            error.to_string().split_once(name).unwrap().1.to_owned()
        };
        match open(&path, &contract.object().columns, null) {
            Ok(rows) => rows.map(|row| row.map(|row| (row.line, Value::from(row.fields))).map_err(text_of)).collect(),
            Err(error) => vec![Err(text_of(error))],
        }
    }

    #[track_caller]
    fn check(name: &str, text: &str, null: Option<&str>, wanted: &[(u64, Value)]) {
        assert_eq!(read(name, text, null), wanted.iter().cloned().map(Ok).collect::<Vec<_>>());
    }

    /// The file's last row cannot be read, and the error says all of `says`.
    #[track_caller]
    fn check_bad(name: &str, text: &str, says: &[&str]) {
        let error = read(name, text, None).pop().unwrap().unwrap_err();
        for part in says {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn quotes_hold_commas_quotes_and_lines() {
        let text = "id,Gross Price\n\"a,b\",1.5\n\"c \"\"d\"\"\nnext line\",2\nlast,3\n";
        let row = |id: &str, price: f64| json!({"id": id, PRICE: price});
        check("f.csv", text, None, &[(2, row("a,b", 1.5)), (3, row("c \"d\"\nnext line", 2.0)), (5, row("last", 3.0))]);
    }

    #[test]
    fn what_stands_for_null_is_null_and_an_empty_field_always() {
        let text = "id,pieces\na,NA\nb,\nNA,1\n";
        let row = |id: Value, pieces: Value| json!({"id": id, "pieces": pieces});
        let wanted =
            [(2, row("a".into(), Value::Null)), (3, row("b".into(), Value::Null)), (4, row(Value::Null, 1.into()))];
        check("f.csv", text, Some("NA"), &wanted);
        check_bad("f.csv", "id,pieces\na,NA\n", &[":2: column `pieces` holds \"NA\", which is not an integer"]);
    }

    #[test]
    fn cells_have_the_types_of_their_columns() {
        let text = "id,Gross Price,pieces,paid,placed,parts\n7,1e3,-4,TRUE,2013-01-01T10:00:00Z,\"[1,2]\"\n";
        let wanted = json!({"id": "7", PRICE: 1000.0, "pieces": -4, "paid": true,
                            "placed": "2013-01-01T10:00:00Z", "parts": [1, 2]});
        check("f.csv", text, None, &[(2, wanted)]);
    }

    #[test]
    fn a_column_that_the_file_lacks_is_missing() {
        check("f.csv", "id\na\n", None, &[(2, json!({"id": "a"}))]);
        check("f.jsonl", "{\"id\":\"a\"}\n", None, &[(1, json!({"id": "a"}))]);
    }

    #[test]
    fn a_column_that_the_contract_lacks_is_named_with_those_it_has() {
        check_bad("f.csv", "id,price\na,1\n", &[":1: the contract has no column `price`", "it has id, Gross Price, "]);
        check_bad("f.jsonl", "{\"id\":\"a\"}\n{\"price\":1}\n", &[":2: the contract has no column `price`"]);
    }

    #[test]
    fn a_bad_row_is_an_error_with_its_line() {
        check_bad("f.csv", "id,pieces\na,1\nb,1.5\n", &[":3: column `pieces` holds \"1.5\", which is not an integer"]);
        check_bad(
            "f.csv",
            "id,Gross Price\na,inf\n",
            &[":2: column `Gross Price` holds \"inf\", which is not a finite"],
        );
        check_bad("f.csv", "id,paid\na,yes\n", &[":2: column `paid` holds \"yes\", which is not true or false"]);
        check_bad("f.csv", "id,parts\na,[1\n", &[":2: column `parts`", "not the JSON of a nested value"]);
        check_bad("f.csv", "id,pieces\na,1\nb\n", &[":3: ", "fields"]);
    }

    #[test]
    fn json_lines_are_objects_and_empty_lines_are_none() {
        let row = |id: &str| json!({"id": id, PRICE: 2});
        let text = "{\"id\":\"a\",\"Gross Price\":2}\n\n{\"gross_price\":2,\"id\":\"b\"}";
        check("f.jsonl", text, None, &[(1, row("a")), (3, row("b"))]);
        check("f.ndjson", "{\"id\":\"a\"}\n", None, &[(1, json!({"id": "a"}))]);
        check_bad("f.jsonl", "{\"id\":\"a\"}\n{\"id\":\n", &[":2: no JSON object at column 6"]);
        check_bad("f.jsonl", "[1]\n", &[":1: no JSON object"]);
    }

    #[test]
    fn a_quote_that_is_never_closed_loses_no_row() {
        check_bad("f.csv", "id,pieces\n\"a,1\nb,2\nc,3\n", &[":2: the field that begins here has a quote"]);
        assert_eq!(read("f.csv", "id,pieces\na,1\n\"b,2\nc,3\n", None).len(), 2, "the row before it is there");
        check_bad("f.csv", "id,pieces\n\"a\"b,1\n", &[":2: text follows a closing quote"]);
        check_bad("f.csv", "\"id,pieces\na,1\n", &[":1: the field that begins here has a quote"]);
    }

    #[test]
    fn a_column_is_named_once() {
        check_bad("f.csv", "id,pieces,id\na,1,b\n", &[":1: column `id` is named twice"]);
        check_bad("f.jsonl", "{\"id\":\"a\"}\n{\"id\":\"b\",\"id\":\"c\"}\n", &[":2: `id` is named twice"]);
        check_bad("f.jsonl", "{\"Gross Price\":1,\"gross_price\":2}\n", &[":1: column `Gross Price` is named twice"]);
    }

    /// Of a file with every cell in quotes, any one quote is taken away: that is an error with a line, and the rows before
    /// that quote are those of the whole file.
    #[test]
    fn any_quote_that_is_missing_is_an_error() {
        let mut rng = StdRng::seed_from_u64(7);
        let texts = ["a", "", "a,b", "x\ny", "say \"no\"", "\"", ",", "\r\n", "é"];
        for _ in 0..60 {
            let cells: Vec<&str> =
                (0..rng.random_range(1..6)).map(|_| texts[rng.random_range(0..texts.len())]).collect();
            let quoted = |cell: &str| format!("\"{}\"\n", cell.replace('"', "\"\""));
            let records: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
            let text = format!("{}{}", quoted("id"), records.concat());
            let whole = read("f.csv", &text, None);
            assert!(whole.len() == cells.len() && whole.iter().all(Result::is_ok), "{text:?}");
            for (at, _) in text.match_indices('"') {
                let broken = format!("{}{}", &text[..at], &text[at + 1..]);
                let mut rows = read("f.csv", &broken, None);
                rows.pop().unwrap().expect_err(&broken);
                let ends = records.iter().scan(quoted("id").len(), |end, record| {
                    *end += record.len();
                    Some(*end)
                });
                let before = ends.filter(|end| *end <= at).count().min(rows.len());
                assert_eq!(rows[..before], whole[..before], "{broken:?}");
            }
        }
    }

    #[test]
    fn a_decimal_in_json_keeps_its_digits() {
        let contract = CONTRACT.replace(
            "{name: pieces, logicalType: integer}",
            "{name: pieces, logicalType: number, physicalType: 'decimal(38,20)'}",
        );
        let contract = ProductContract::parse("test", &contract).unwrap();
        let columns = &contract.object().columns;
        let pieces = columns.iter().find(|column| column.original == "pieces").unwrap();
        for (number, wanted) in [
            ("0.1000000000000000055", "0.1000000000000000055"),
            ("9007199254740993.0", "9007199254740993.0"),
            ("1e-3", "0.001"),
        ] {
            let raw = serde_json::from_str::<&RawValue>(number).unwrap();
            assert_eq!(json::value(raw, pieces), Ok(Value::from(wanted)));
        }
    }
}
