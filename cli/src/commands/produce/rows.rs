//! Rows of a file, each field read as its column's type says.
//!
//! In: CSV or JSON lines, and the contract's columns. Out: one JSON object a row, fields under the names that records use.
//! Must never happen: a text that is no number in a number's place; such a row is an error with its line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use mesh_contract::{Column, Type};
use serde_json::{Map, Number, Value};

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
    let mut reader = csv::Reader::from_reader(file);
    let headers = reader.headers().map_err(|e| bad(path, 1, &e))?.clone();
    let known = headers
        .iter()
        .map(|header| match columns.iter().find(|column| column.original == header) {
            Some(column) => Ok(column),
            None => Err(unknown_column(path, 1, header, columns)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(|e| bad(path, e.position().map_or(0, csv::Position::line), &e))?;
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
            let fields: Fields = serde_json::from_str(&line).map_err(|e| bad(path, number, &without_line(&e)))?;
            match fields.keys().find(|name| !columns.iter().any(|column| column.record_name() == *name)) {
                Some(unknown) => Err(unknown_column(path, number, unknown, columns)),
                None => Ok(RowAt { line: number, fields }),
            }
        },
    )
}

/// What is wrong with one line's JSON: by itself it is always at line 1.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("no JSON object at column {}: {what}", error.column())
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
            serde_json::from_str(cell).map_err(|_| wrong("the JSON of a nested value"))
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
