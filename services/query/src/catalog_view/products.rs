//! Products by the names that SQL gives them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::{Schema, SchemaRef};
use iceberg::arrow::schema_to_arrow_schema;
use mesh_contract::ProductContract;
use mesh_contract::names::fold_column;
use mesh_contract::types::iceberg::IcebergSchema;
use mesh_lakehouse::schema::table_schema;
use mesh_policy::ProductFacts;
use mesh_proto::v1::ActiveContract;

/// A product with an active contract.
#[derive(Debug)]
pub struct CatalogEntry {
    /// `domain.name`.
    pub product: String,
    pub domain: String,
    pub major: u32,
    pub active: bool,
    /// The table, in the domain's namespace.
    pub table: String,
    /// The table's name without its version.
    pub object: String,
    /// The table's uuid: another engine may drop it and create another of its name.
    pub uuid: String,
    pub dead_letters: Option<String>,
    pub dead_letters_uuid: String,
    pub version: String,
    pub revision: i64,
    /// The policies' input; why there is none, if the contract cannot be understood.
    pub facts: Result<ProductFacts, String>,
    /// The contract's columns, whose field ids the table has; none if the contract cannot be understood.
    pub contract_columns: Option<IcebergSchema>,
    /// The columns that the contract gives the table; none if it cannot be understood.
    pub columns: SchemaRef,
}

/// Which of a product's two tables is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Rows,
    DeadLetters,
}

/// Entries by contract key, made once per revision.
#[derive(Debug, Default)]
pub struct Products {
    known: Mutex<BTreeMap<String, Arc<CatalogEntry>>>,
}

impl Products {
    /// The entries of these contracts.
    pub fn of(&self, contracts: &BTreeMap<String, Arc<ActiveContract>>) -> Vec<Arc<CatalogEntry>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| contracts.contains_key(key));
        for (key, contract) in contracts {
            let fresh = known.get(key).is_some_and(|entry| entry.revision == contract.revision);
            if !fresh {
                known.insert(key.clone(), Arc::new(CatalogEntry::of(contract)));
            }
        }
        known.values().cloned().collect()
    }
}

impl CatalogEntry {
    fn of(contract: &ActiveContract) -> Self {
        let table = contract.table.clone().unwrap_or_default();
        let suffix = format!("_v{}", contract.major);
        let dead_letters = contract.dead_letters.clone().unwrap_or_default();
        let contract_columns = contract_columns(contract);
        let columns = contract_columns.as_ref().and_then(arrow_columns);
        Self {
            product: contract.product.clone(),
            object: table.name.strip_suffix(&suffix).unwrap_or(&table.name).to_owned(),
            domain: table.namespace,
            major: contract.major,
            active: contract.status == "active",
            table: table.name,
            uuid: table.uuid,
            dead_letters: Some(dead_letters.name).filter(|name| !name.is_empty()),
            dead_letters_uuid: dead_letters.uuid,
            version: contract.version.clone(),
            revision: contract.revision,
            facts: facts(contract),
            columns: columns.unwrap_or_else(|| Arc::new(Schema::empty())),
            contract_columns,
        }
    }

    /// Which of the product's tables `name` is, if the version is given.
    pub fn exactly(&self, domain: &str, name: &str) -> Option<TableKind> {
        match name {
            _ if domain != self.domain => None,
            name if name == self.table => Some(TableKind::Rows),
            name if Some(name) == self.dead_letters.as_deref() => Some(TableKind::DeadLetters),
            _ => None,
        }
    }
}

/// The entry that a table name means: an exact one, else the newest active version.
pub fn find<'a>(
    entries: &'a [Arc<CatalogEntry>],
    domain: &str,
    name: &str,
) -> Option<(&'a Arc<CatalogEntry>, TableKind)> {
    let exact = entries.iter().find_map(|entry| Some((entry, entry.exactly(domain, name)?)));
    let newest = || {
        let versions = entries.iter().filter(|entry| entry.domain == domain && entry.object == name);
        versions.max_by_key(|entry| (entry.active, entry.major)).map(|entry| (entry, TableKind::Rows))
    };
    exact.or_else(newest)
}

fn facts(contract: &ActiveContract) -> Result<ProductFacts, String> {
    let parsed = ProductContract::parse(&contract.product, &contract.document).map_err(|error| error.to_string())?;
    let json = serde_json::from_str(&parsed.contract().to_json()).map_err(|error| error.to_string())?;
    let fold = |name: &str| fold_column(name).unwrap_or_else(|_| name.to_owned());
    let product = parsed.product();
    Ok(ProductFacts::of(product.domain.as_str(), product.name(), contract.major, &json, fold))
}

fn contract_columns(contract: &ActiveContract) -> Option<IcebergSchema> {
    let parsed = ProductContract::parse(&contract.product, &contract.document).ok()?;
    Some(parsed.iceberg_schema(None))
}

fn arrow_columns(columns: &IcebergSchema) -> Option<SchemaRef> {
    let schema = table_schema(columns).ok()?;
    Some(Arc::new(schema_to_arrow_schema(&schema).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_proto::v1::TableRef;

    fn entry(domain: &str, object: &str, major: u32, status: &str) -> Arc<CatalogEntry> {
        let table = |name: String| Some(TableRef { namespace: domain.into(), name, uuid: String::new() });
        Arc::new(CatalogEntry::of(&ActiveContract {
            major,
            status: status.into(),
            table: table(format!("{object}_v{major}")),
            dead_letters: table(format!("{object}_v{major}_dead_letters")),
            ..Default::default()
        }))
    }

    #[test]
    fn a_name_without_version_is_the_newest_active_one() {
        let entries = [
            entry("operations", "flights", 1, "active"),
            entry("operations", "flights", 2, "active"),
            entry("operations", "flights", 3, "draft"),
            entry("weather", "flights", 9, "active"),
        ];
        let check = |domain: &str, name: &str, expected: Option<(u32, TableKind)>| {
            assert_eq!(find(&entries, domain, name).map(|(e, kind)| (e.major, kind)), expected, "{domain}.{name}");
        };
        check("operations", "flights", Some((2, TableKind::Rows)));
        check("operations", "flights_v1", Some((1, TableKind::Rows)));
        check("operations", "flights_v3", Some((3, TableKind::Rows)));
        check("operations", "flights_v1_dead_letters", Some((1, TableKind::DeadLetters)));
        check("operations", "flights_v4", None);
        check("operations", "flights_dead_letters", None);
        check("fleet", "flights", None);
    }
}
