//! The publisher: where products come in.
//!
//! Purpose: people submit contracts, data products, policies and principals over HTTP; what standard, policy and
//! compatibility allow is provisioned and becomes active; every change of a contract and every snapshot of a product's
//! table is announced. It is the registry for the mesh's Avro schemas, too.
//!
//! | Topic | |
//! |---|---|
//! | `mesh.submissions` | out from the endpoint, in to the pipeline: revision = offset |
//! | `mesh.contracts`, `mesh.policies`, `mesh.principals` | out: what is active; read back |
//! | `mesh.contract-events` | out: proposed, then exactly one verdict id per document; read back |
//! | `mesh.schemas` | out: the registry's contents; read back |
//! | `mesh.product-changes`, `mesh.platform-changes` | out: one event per snapshot |
//! | `mesh.announced` | out: the last announced snapshot of each table; read back |
//!
//! Invariants: ADMITTED and ONE-VERDICT ([`pipeline::decide`]), ANNOUNCED ([`announce`]), NEVER-SILENT, AT-REST. A revision only ever
//! rises: tables are committed with a lower one required, records of a lower one are overwritten ([`memory`]).
//!
//! What a crash does, anywhere: nothing that lasts. All memory is on the topics above and in the tables. Submissions are
//! taken again from the newest one with a verdict; a decision that was announced as `proposed` stands; every later step
//! finds what it made. Announcements go on behind `mesh.announced`, under the ids they have anyway.
//!
//! Decisions that a user meets:
//! - A domain's admins submit its contracts, data products and `mesh.domain.<d>.*` policies; holders of the role `admin`
//!   submit everything. A file with an unreadable document is refused whole, else each document has its own verdict.
//! - A principals file adds and changes the principals that it names; `remove = true` takes one away; the others stay. One
//!   must keep the role `admin`.
//! - A data product (ODPS) is checked and recorded as its verdict event; the document stays on `mesh.submissions`.
//! - To register a schema takes the key of any principal; what is admitted is the contract's to say. Look-ups are open.
//! - New policies decide about later submissions: what is active is not judged again.

pub mod active_state;
pub mod announce;
mod authority;
pub mod config;
pub mod door;
pub mod error;
mod finding;
mod log;
pub mod memory;
pub mod pipeline;
pub mod progress;
pub mod registry;
mod service;
pub mod telemetry;

pub use config::PublisherConfig;
pub use error::PublisherError;
pub use service::Publisher;

/// Where the fault tests may kill the publisher (`mesh_runtime::fault`), in the order of the stages.
pub const FAULT_POINTS: &[&str] = &[
    "publisher.door.submitted",
    "publisher.registry.written",
    "publisher.admit.received",
    "publisher.judge.proposed",
    "publisher.provision.topic",
    "publisher.provision.subject",
    "publisher.provision.dead_letters",
    "publisher.provision.table",
    "publisher.publish.active",
    "publisher.verdict.published",
    "publisher.announce.said",
    "publisher.announce.remembered",
];
