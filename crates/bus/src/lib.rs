//! Kafka as Meshwork uses it, over rdkafka: the same code on the local bus and on Apache Kafka.
//!
//! In: a [`BusConfig`]. Out, all from one [`Bus`]:
//! - [`Producer`]: idempotent, acknowledged by all replicas; [`Producer::publish`] for CloudEvents;
//! - [`Partitions`]: records from explicit offsets, in batches; the caller owns the offsets, Kafka does not;
//! - [`TopicReader`]: a topic of events for an onlooker;
//! - [`Compacted`]: which record of a compacted topic counts; [`View`]: such a topic as a live typed map;
//! - [`Shards`]: a consumer group as a lease on work;
//! - topics: [`Bus::ensure_topics`], [`Bus::describe_topics`] with their ids, watermarks, lag offsets for monitors;
//! - [`SpanExporter`]: spans to `mesh.spans`.
//!
//! Every error names what was wanted, where, and what to do; what librdkafka reports only to its callbacks (a wrong
//! password, a certificate that does not verify, a refused connection) is in it.
//! Never: a topic created by a typo, an offset skipped because the log was truncated, a record that is reported as
//! written and is not, a consumer that waits for a lost broker unseen.

mod bus;
mod callbacks;
pub mod compacted;
mod config;
mod error;
mod ffi;
mod message;
mod partitions;
mod producer;
mod reader;
mod shards;
mod spans;
mod tail;
mod topics;
mod view;

pub use bus::Bus;
pub use compacted::Compacted;
pub use config::BusConfig;
pub use error::BusError;
pub use message::Message;
pub use partitions::{Batch, Partitions, ReadOptions, Start};
pub use producer::{Delivered, Pending, Producer, ProducerOptions, Record};
pub use reader::{Received, TopicReader};
pub use shards::{Owned, ShardOptions, Shards, shard_of};
pub use spans::SpanExporter;
pub use topics::{TopicDescription, TopicPartition, TopicSpec};
pub use view::{Changes, Unreadable, View, ViewChange};

/// The result of anything on the bus.
pub type Result<T> = std::result::Result<T, BusError>;
