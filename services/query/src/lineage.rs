//! Where an answer's columns come from.
//!
//! [`columns`] is a pure function over DataFusion's logical plan; [`event`] says it in OpenLineage's words.

pub mod columns;
pub mod dependency;
pub mod event;
mod walk;

pub use columns::{Lineage, OutputColumn, of_plan};
pub use dependency::{ColumnSource, DependencyKind};
