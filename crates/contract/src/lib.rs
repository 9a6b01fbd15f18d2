//! Contracts of data products: documents in, typed contracts, findings, types and verdicts out.
//!
//! - [`parse`] reads ODCS and ODPS documents (several in one YAML) and says, with file, line and column, what is wrong
//!   and what to write instead ([`Finding`]).
//! - [`Contract`] is any valid ODCS document, typed. [`ProductContract`] is one that a mesh can run: one schema object,
//!   every type resolved, names folded. Services hold a `ProductContract`.
//! - [`types`] is the one table ODCS ↔ Avro ↔ Arrow ↔ Iceberg ↔ JSON.
//! - [`compare`] is the compatibility verdict, field by field.
//!
//! Modules depend on one another in one direction: texts (`yaml`, with the places of keys and values), `finding`, the
//! `standard`'s schemas, the typed `model`, the `meaning` that no schema states, the `product` that a mesh can run, and
//! `parse`, which takes a file through all of them. `tests/modules.rs` holds them to it.
//!
//! Pure: no I/O, no clock, no runtime.

pub mod compatibility;
pub mod constraints;
pub mod custom;
pub mod duration;
pub mod error;
pub mod finding;
mod meaning;
pub mod model;
pub mod names;
mod parse;
pub mod partition;
mod pattern;
pub mod product;
pub mod quality;
mod scalar;
pub mod sla;
mod standard;
pub mod types;
pub mod version;
mod yaml;

pub use compatibility::{Compatibility, FieldChange, compare};
pub use constraints::{Bound, Rule, Scalar};
pub use custom::CustomProperties;
pub use error::ContractError;
pub use finding::{Finding, Severity};
pub use model::hard::HardConstraint;
pub use model::{Column, Contract, DataProduct, Document, SchemaObject};
pub use names::{ContractId, Domain, Major, Product, Revision, TableName};
pub use parse::{Parsed, parse, parse_bytes};
pub use partition::{PartitionField, PartitionSpec, Transform};
pub use product::{ProductContract, StartFrom, UpkeepSettings, ValueFormat};
pub use quality::{CheckTarget, Metric, Operator, QualityRule, RuleKind, Unit};
pub use sla::SlaProperty;
pub use types::{Field, Type, TypeError};
pub use version::{Bump, Version, VersionError};
