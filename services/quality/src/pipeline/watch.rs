//! Stage 0. In: `mesh.product-changes` and `mesh.platform-changes` from now on. Out: which tables moved, and when.
//! The events only wake: what a table holds, the table itself says, so an event that comes twice does nothing twice,
//! and what happened before the first read is seen when the tables are loaded.
//! Never: an event of a type that is not known taken for one that is.

use chrono::{DateTime, Utc};
use mesh_bus::{Bus, Message, Partitions, ReadOptions, Start, TopicPartition};
use mesh_proto::ProtoError;
use mesh_proto::cloudevents::types;
use mesh_proto::topics;
use mesh_proto::v1::{ProductChanged, ProductDropped, ProductGap, ProductRecreated, ProductRewound, TableRef};

use crate::error::{self, QualityError};

/// A table moved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    /// `namespace.name`: a table that was dropped and made again has another uuid than its contract knows.
    pub(crate) table: String,
    /// The snapshot's sequence number; `None` where the head went elsewhere than forward.
    pub(crate) sequence: Option<i64>,
    pub(crate) committed_at: Option<DateTime<Utc>>,
}

/// A reader that starts after the last change of now.
pub(crate) async fn from_now(bus: &Bus) -> Result<Partitions, QualityError> {
    let action = "read product changes";
    let reader = bus.partitions("mesh-quality", ReadOptions::default()).map_err(error::bus(action))?;
    for topic in [topics::PRODUCT_CHANGES, topics::PLATFORM_CHANGES] {
        let partitions = bus.describe_topic(topic).await.map_err(error::bus(action))?.partitions;
        for partition in 0..partitions {
            // An offset rather than "the end", which would be looked up later than the tables are.
            let (_, end) = bus.watermarks(topic, partition).await.map_err(error::bus(action))?;
            reader.add(&[(TopicPartition::new(topic, partition), Start::At(end))]).map_err(error::bus(action))?;
        }
    }
    Ok(reader)
}

/// What a record says.
pub(crate) fn read(message: &Message<'_>) -> Result<Option<Notice>, QualityError> {
    let place = |source| QualityError::Foreign {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        source,
    };
    notice(message).map_err(place)
}

fn notice(message: &Message<'_>) -> Result<Option<Notice>, ProtoError> {
    let event = message.event()?;
    let elsewhere = |table: Option<TableRef>| Some(Notice { table: name(table), sequence: None, committed_at: None });
    Ok(match event.event_type.as_str() {
        types::PRODUCT_CHANGED => {
            let changed: ProductChanged = event.decode()?;
            let committed_at = changed
                .committed_at
                .as_ref()
                .and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?));
            Some(Notice { table: name(changed.table), sequence: Some(changed.sequence_number), committed_at })
        }
        types::PRODUCT_REWOUND => elsewhere(event.decode::<ProductRewound>()?.table),
        types::PRODUCT_GAP => elsewhere(event.decode::<ProductGap>()?.table),
        types::PRODUCT_DROPPED => elsewhere(event.decode::<ProductDropped>()?.table),
        types::PRODUCT_RECREATED => elsewhere(event.decode::<ProductRecreated>()?.table),
        // A later version's event: it may matter to somebody, not to us.
        other => {
            tracing::warn!(event_type = other, topic = message.topic(), offset = message.offset(), "unknown event");
            None
        }
    })
}

fn name(table: Option<TableRef>) -> String {
    table.map(|table| table_name(&table)).unwrap_or_default()
}

/// `namespace.name`.
pub(crate) fn table_name(table: &TableRef) -> String {
    format!("{}.{}", table.namespace, table.name)
}
