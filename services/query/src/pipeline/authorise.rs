//! In: a reader and the tables that a statement names. Out: what the reader may see of each, as the policies answer.
//! Never: a table without an answer, a policy that fails taken for a yes, a name that the reader may not discover in a
//! suggestion.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use mesh_policy::{PolicySet, PrincipalFacts, ReadingRights};

use super::parse::Statement;
use crate::catalog_view::{CatalogEntry, CatalogView, TableKind, find};
use crate::error::QueryError;

/// The catalog's name in SQL.
pub const CATALOG: &str = "mesh";

/// A table that the reader may read.
#[derive(Debug, Clone)]
pub struct Authorised {
    /// Schema and table as SQL names them.
    pub schema: String,
    pub name: String,
    /// As the plan will name it.
    pub reference: String,
    pub entry: Arc<CatalogEntry>,
    pub kind: TableKind,
    pub reading: ReadingRights,
}

/// What was authorised, and by which revision of the policies.
#[derive(Debug, Clone, Default)]
pub struct Authorisation {
    pub tables: Vec<Authorised>,
    pub policy_revision: i64,
}

/// Asks the policies about every table of a statement.
pub fn tables(
    catalog_view: &CatalogView,
    reader: &PrincipalFacts,
    statement: &Statement,
) -> Result<Authorisation, QueryError> {
    let entries = catalog_view.products()?;
    let (rules, policy_revision) = catalog_view.rules()?;
    let mut tables = Vec::new();
    for reference in &statement.tables {
        tables.push(one(&rules, reader, &entries, reference)?);
    }
    if statement.reads_catalog {
        tables.extend(readable(&rules, reader, &entries));
    }
    Ok(Authorisation { tables, policy_revision })
}

fn one(
    rules: &PolicySet,
    reader: &PrincipalFacts,
    entries: &[Arc<CatalogEntry>],
    reference: &TableReference,
) -> Result<Authorised, QueryError> {
    let unknown = || unknown(rules, reader, entries, reference);
    let in_catalog = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
    let schema = reference.schema().filter(|_| in_catalog).ok_or_else(unknown)?;
    let (entry, kind) = find(entries, schema, reference.table()).ok_or_else(unknown)?;
    let refused = |reason: String| QueryError::NotAllowed {
        principal: reader.name.clone(),
        product: entry.product.clone(),
        reason,
    };
    let reading = reading(rules, reader, entry, kind)?;
    if !reading.allow {
        return Err(refused(reading.reason));
    }
    Ok(Authorised {
        schema: schema.to_owned(),
        name: reference.table().to_owned(),
        reference: reference.to_string(),
        entry: Arc::clone(entry),
        kind,
        reading,
    })
}

fn reading(
    rules: &PolicySet,
    reader: &PrincipalFacts,
    entry: &CatalogEntry,
    kind: TableKind,
) -> Result<ReadingRights, QueryError> {
    if kind == TableKind::DeadLetters {
        // Raw bytes cannot be filtered or masked.
        let owner = reader.owns(&entry.domain);
        return Ok(match owner {
            true => ReadingRights { allow: true, ..ReadingRights::denied("") },
            false => ReadingRights::denied("dead letters hold raw bytes, for the product's owners only"),
        });
    }
    let facts = entry
        .facts
        .as_ref()
        .map_err(|message| QueryError::Contract { product: entry.product.clone(), message: message.clone() })?;
    rules.reading(reader, facts).map_err(|source| {
        let product = entry.product.clone();
        QueryError::Policy { product, source: Box::new(source) }
    })
}

/// Every table that the reader may read, by each of its names. One whose policy fails is not readable.
pub fn readable(rules: &PolicySet, reader: &PrincipalFacts, entries: &[Arc<CatalogEntry>]) -> Vec<Authorised> {
    let mut all = Vec::new();
    for entry in entries {
        let newest = find(entries, &entry.domain, &entry.object).is_some_and(|(newest, _)| Arc::ptr_eq(newest, entry));
        let names = [
            Some((entry.table.clone(), TableKind::Rows)),
            newest.then(|| (entry.object.clone(), TableKind::Rows)),
            entry.dead_letters.clone().map(|name| (name, TableKind::DeadLetters)),
        ];
        for (name, kind) in names.into_iter().flatten() {
            let Ok(reading) = reading(rules, reader, entry, kind) else { continue };
            if reading.allow {
                let schema = entry.domain.clone();
                let reference = format!("{}.{name}", entry.domain);
                all.push(Authorised { schema, name, reference, entry: Arc::clone(entry), kind, reading });
            }
        }
    }
    all
}

fn unknown(
    rules: &PolicySet,
    reader: &PrincipalFacts,
    entries: &[Arc<CatalogEntry>],
    reference: &TableReference,
) -> QueryError {
    let wanted = reference.to_string();
    let mut near: Vec<(usize, String)> = readable(rules, reader, entries)
        .into_iter()
        .filter(|table| table.kind == TableKind::Rows)
        .map(|table| {
            let of_whole = levenshtein(&wanted, &table.reference);
            (of_whole.min(levenshtein(reference.table(), &table.name)), table.reference)
        })
        .filter(|(distance, _)| *distance <= 3)
        .collect();
    near.sort();
    QueryError::UnknownTable { table: wanted, suggestions: near.into_iter().take(3).map(|(_, name)| name).collect() }
}
