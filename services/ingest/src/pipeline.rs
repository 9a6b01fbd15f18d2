//! The way of a record, stage by stage:
//!
//! 1. [`assign`]: which tables are ours; a task for each ([`table`] drives the stages below; [`progress`] holds how far it
//!    came, by the session's own [`positions`]).
//! 2. [`fetch`]: records from explicit offsets, one reader for all tables; a table gets [`source_batch`]es.
//! 3. [`decode`]: bytes become the writer's columns, by the registered [`schemas`].
//! 4. [`resolve`]: the writer's columns become the contract's.
//! 5. [`check`]: the contract's hard constraints. What any of these refuses has a [`refusal`].
//! 6. [`enrich`]: the `_mesh` column. ([`transform`] runs 3 to 6 by a table's [`plan`].)
//! 7. [`write`]: rows and dead letters into files.
//! 8. [`commit`]: one snapshot with offsets.
//! 9. [`dead_letters`]: the dead-letter table follows.
//! 10. [`lag`]: group offsets for monitors.

pub mod assign;
pub mod check;
pub mod commit;
pub mod dead_letters;
pub mod decode;
pub mod enrich;
pub mod fetch;
#[cfg(test)]
mod fixtures;
pub mod lag;
pub mod plan;
pub mod positions;
pub mod progress;
pub mod refusal;
pub mod resolve;
pub mod schemas;
pub mod source_batch;
pub mod table;
pub mod topics;
pub mod transform;
pub mod write;
