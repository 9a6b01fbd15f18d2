//! The names under which the mesh writes into snapshot summaries and table properties.

/// Snapshot summary: source offsets (see [`crate::offsets`]).
pub const OFFSETS: &str = "mesh.offsets";
/// Snapshot summary and table property: the contract revision that governs.
pub const CONTRACT_REVISION: &str = "mesh.contract-revision";
/// Snapshot summary: W3C traceparent of the commit's span.
pub const TRACEPARENT: &str = "mesh.traceparent";
/// Snapshot summary: dead-letter files written for this range, not yet in the dead-letter table.
pub const DEAD_LETTERS_PENDING: &str = "mesh.dead-letters-pending";
/// Snapshot summary: how many records of its range are dead letters. Absent means none.
pub const DEAD_LETTERS: &str = "mesh.dead-letters";
/// Snapshot summary: up to where the dead-letter table must have the dead letters, as `mesh.offsets` writes offsets.
pub const DEAD_LETTER_OFFSETS: &str = "mesh.dead-letter-offsets";
/// Snapshot summary: event-time watermark in µs, capped at commit time.
pub const WATERMARK: &str = "mesh.watermark";
/// Snapshot summary: id of the attempt that made the snapshot; how an unknown outcome is recognised.
pub const COMMIT_ID: &str = "mesh.commit-id";
/// Snapshot summary: the ranges this snapshot moved (partition → from, to), for announcements.
pub const RANGES: &str = "mesh.ranges";
/// Snapshot summary: a new start for the table's source; who recorded it, when and why, as JSON.
pub const REBASE: &str = "mesh.rebase";
/// Table property: copy of the offsets with snapshot id, sequence number and start.
pub const OFFSETS_MIRROR: &str = "mesh.offsets-mirror";
/// Table property: the product that the table belongs to, `domain.name`.
pub const PRODUCT: &str = "mesh.product";
/// Table property: the contract's columns by path and field id, as of the contract revision (see [`crate::columns`]).
pub const CONTRACT_COLUMNS: &str = "mesh.contract-columns";
/// Table property of Iceberg: how many earlier metadata files the metadata log keeps.
pub const METADATA_VERSIONS: &str = "write.metadata.previous-versions-max";
/// What [`METADATA_VERSIONS`] is for tables of the mesh.
pub const KEPT_METADATA: &str = "5";
/// Table property of Iceberg that the mesh reads as: so many snapshots of `main` are kept, older ones expire.
pub const KEPT_SNAPSHOTS: &str = "history.expire.min-snapshots-to-keep";
/// Summary keys that later snapshots of ours repeat, so that they outlive the one that was the first with them.
pub(crate) const CARRIED: &[&str] = &[OFFSETS, DEAD_LETTERS_PENDING, DEAD_LETTER_OFFSETS, WATERMARK, CONTRACT_REVISION];
/// The same for snapshots that move offsets: these name the pending dead letters themselves.
pub(crate) const CARRIED_BY_MOVES: &[&str] = &[WATERMARK, CONTRACT_REVISION];
