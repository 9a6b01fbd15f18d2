//! How answers look: a table for people, JSON for programs, and nothing else on stdout.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

use crate::args::Output;
use crate::error::CliError;

/// Warnings of the libraries underneath; what librdkafka tells of its connections comes back as an error anyway.
pub(crate) const LOG: &str = "warn,mesh_bus::callbacks=error";

/// Rows of named columns; the JSON form keeps the values' own types.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    pub(crate) headers: &'static [&'static str],
    pub(crate) rows: Vec<T>,
}

/// A row of a listing.
pub(crate) trait Row: Serialize {
    /// The row's cells, in the order of the headers.
    fn cells(&self) -> Vec<String>;
}

impl<T: Row> Listing<T> {
    /// Prints the listing; JSON is one array.
    pub(crate) fn print(&self, output: Output) -> Result<(), CliError> {
        match output {
            Output::Table => line(&self.table()),
            Output::Json => json(&self.rows),
        }
    }

    fn table(&self) -> String {
        grid(self.headers.iter().map(|h| (*h).to_owned()), self.rows.iter().map(Row::cells))
    }
}

/// A grid of text as people see it.
pub(crate) fn grid(headers: impl IntoIterator<Item = String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(headers.into_iter().collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Prints one line (or block) of an answer. A reader that closed the pipe wants no more.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(source) => Err(CliError::File { action: "write to", path: "stdout".into(), source }),
        Ok(()) => Ok(()),
    }
}

/// Prints a value as JSON, indented.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
    line(&text)
}

/// Tells the person at the terminal something that is not the answer.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
