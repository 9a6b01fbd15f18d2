//! Rego rules: may this contract be registered, and who sees what of a product.
//!
//! In: Rego modules ([`Module`]), a contract or a reader as JSON. Out: [`Denial`]s, or a [`ReadingRights`] in the vocabulary
//! of Iceberg's Read Restrictions. Never: I/O, an unbounded evaluation, or an answer that means "yes" because a rule
//! was missing, failed or had the wrong shape (NEVER-SILENT).
//!
//! - Packages are `mesh.platform.{admission,reading}` and `mesh.domain.<d>.{admission,reading}` ([`Package`]), one
//!   module each. A domain's module may only narrow what the platform's allows ([`ReadingRights::narrowed_by`]).
//! - [`PolicySet`] is compiled once per revision; clones share it, and any number of threads may evaluate it.
//! - [`testing`] runs the policies' own tests as `opa test` does.

mod admission;
mod answer;
pub mod authority;
mod engine;
mod error;
mod facts;
mod mask;
mod package;
mod rights;
mod set;
pub mod testing;

pub use admission::{AdmissionInput, Denial};
pub use authority::{ADMIN, Authority};
pub use error::PolicyError;
pub use facts::{ColumnFacts, PrincipalFacts, ProductFacts};
pub use mask::{MaskAction, NoSuchAction};
pub use package::{Module, NoSuchPackage, Package, PackageKind, Scope};
pub use rights::{ReadingRights, RowFilter};
pub use set::PolicySet;
