//! Names and numbers by which a mesh knows its things.
//! In: what people wrote. Out: folded names `[a-z][a-z0-9_]{0,62}`, safe as SQL, Iceberg and file names.
//! Never: two originals that silently become one name (callers check with [`collisions`]).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest folded name: PostgreSQL's limit, the narrowest of the doors a name passes.
pub const MAX_NAME: usize = 63;

/// Why a name cannot be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing of the name survives folding.
    #[error("name {0:?} has no letters a-z: choose one that has")]
    Empty(String),
    /// Folded names start with a letter.
    #[error("name {0:?} must start with a letter")]
    Start(String),
    /// Too long for the doors it must pass.
    #[error("name {0:?} is longer than {MAX_NAME} characters")]
    Long(String),
    /// Reserved for the mesh.
    #[error("name {0:?} is reserved for the mesh")]
    Reserved(String),
    /// Not of the form `domain.name`.
    #[error("{0:?} is not of the form domain.product")]
    Product(String),
}

impl NameError {
    /// The error's page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        "MESH-CONTRACT-0041"
    }
}

/// Folds the name of a domain, product or object: lower case, every run of other characters one `_`.
pub fn fold(original: &str) -> Result<String, NameError> {
    let folded = squash(original);
    match folded.bytes().next() {
        None => Err(NameError::Empty(original.to_owned())),
        Some(b) if !b.is_ascii_lowercase() => Err(NameError::Start(original.to_owned())),
        Some(_) if folded.len() > MAX_NAME => Err(NameError::Long(original.to_owned())),
        Some(_) => Ok(folded),
    }
}

/// Folds the name of a column: as [`fold`], but it may start with `_`; `_mesh` is the mesh's own.
pub fn fold_column(original: &str) -> Result<String, NameError> {
    let folded = squash(original);
    match folded.bytes().next() {
        None => Err(NameError::Empty(original.to_owned())),
        Some(b) if b.is_ascii_digit() => Err(NameError::Start(original.to_owned())),
        Some(_) if folded.len() > MAX_NAME => Err(NameError::Long(original.to_owned())),
        Some(_) if folded == "_mesh" => Err(NameError::Reserved(original.to_owned())),
        Some(_) => Ok(folded),
    }
}

fn squash(original: &str) -> String {
    let mut out = String::with_capacity(original.len());
    let mut gap = false;
    for c in original.trim().chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            if gap && !out.is_empty() {
                out.push('_');
            }
            gap = false;
            out.push(c.to_ascii_lowercase());
        } else {
            gap = true;
        }
    }
    out
}

/// Groups of originals that fold to one name, each group with more than one member.
pub fn collisions<'a>(
    originals: impl IntoIterator<Item = &'a str>,
    fold: impl Fn(&str) -> Result<String, NameError>,
) -> Vec<(String, Vec<&'a str>)> {
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for original in originals {
        if let Ok(folded) = fold(original) {
            seen.entry(folded).or_default().push(original);
        }
    }
    seen.into_iter().filter(|(_, group)| group.len() > 1).collect()
}

macro_rules! folded_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Folds what people wrote.
            pub fn new(original: &str) -> Result<Self, NameError> {
                fold(original).map(Self)
            }
            /// The folded name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                Self::new(&value)
            }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

folded_name!(
    /// A domain: the namespace of its products' tables.
    Domain
);

/// A data product: `domain.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Product {
    /// The owning domain.
    pub domain: Domain,
    /// The product's folded name within the domain.
    name: String,
}

impl Product {
    /// Folds domain and name.
    pub fn new(domain: &str, name: &str) -> Result<Self, NameError> {
        let folded = Domain::new(domain)?;
        // SQL's own schema: no query could name a product in it.
        if folded.as_str() == "information_schema" {
            return Err(NameError::Reserved(domain.to_owned()));
        }
        Ok(Self { domain: folded, name: fold(name)? })
    }
    /// The product's folded name within the domain.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.name)
    }
}

impl std::str::FromStr for Product {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('.') {
            Some((domain, name)) if !name.contains('.') => Self::new(domain, name),
            _ => Err(NameError::Product(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Product {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<Product> for String {
    fn from(value: Product) -> String {
        value.to_string()
    }
}

/// A contract's major version: the table's suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Major(pub u32);

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The `id` of an ODCS or ODPS document, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContractId(pub String);

impl ContractId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A submission's offset in `mesh.submissions`: which of two contracts is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Iceberg table: one level of namespace, and a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The namespace: the domain.
    pub namespace: String,
    /// The table: `<object>_v<major>` and its like.
    pub table: String,
}

impl TableName {
    /// A table's name from its parts.
    pub fn new(namespace: impl Into<String>, table: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), table: table.into() }
    }
    /// `<object>_v<major>` in the domain's namespace; `object` is folded.
    pub fn of(domain: &Domain, object: &str, major: Major) -> Self {
        Self::new(domain.as_str(), format!("{object}_v{major}"))
    }
    /// Where the records go that this table refused.
    pub fn dead_letters(&self) -> Self {
        Self::new(&self.namespace, format!("{}_dead_letters", self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.table)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(original: &str, expected: Result<&str, &str>) {
        match (fold(original), expected) {
            (Ok(folded), Ok(expected)) => assert_eq!(folded, expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (got, expected) => panic!("{original}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn names_fold() {
        check("Air Quality (raw)", Ok("air_quality_raw"));
        check("Air_Quality", Ok("air_quality"));
        check(" größe ", Ok("gr_e"));
        check("a--b__c", Ok("a_b__c"));
        check("2nd", Err("start with a letter"));
        check("_x", Err("start with a letter"));
        check("顧客", Err("has no letters"));
        check(&"a".repeat(64), Err("longer than 63"));
        assert_eq!(fold(&"a".repeat(63)).unwrap().len(), 63);
        assert_eq!(fold_column("_x").as_deref(), Ok("_x"));
        assert!(matches!(fold_column("_Mesh"), Err(NameError::Reserved(_))));
    }

    #[test]
    fn collisions_are_found() {
        let found = collisions(["Air Quality", "b", "air_quality"], fold);
        assert_eq!(found, [("air_quality".to_owned(), vec!["Air Quality", "air_quality"])]);
    }

    #[test]
    fn a_domain_is_not_sqls_own_schema() {
        assert!(matches!(Product::new("Information Schema", "x"), Err(NameError::Reserved(_))));
    }

    #[test]
    fn products_and_tables_have_text_forms() {
        let product: Product = "Operations.Flights".parse().unwrap();
        assert_eq!(product.to_string(), "operations.flights");
        assert_eq!(serde_json::to_string(&product).unwrap(), "\"operations.flights\"");
        assert!("flights".parse::<Product>().is_err() && "a.b.c".parse::<Product>().is_err());
        let table = TableName::of(&product.domain, "flights", Major(2));
        assert_eq!(table.dead_letters().to_string(), "operations.flights_v2_dead_letters");
    }
}
