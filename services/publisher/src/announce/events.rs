//! In: what happened to a table. Out: its event, whose id comes from table and snapshots alone.

use mesh_lakehouse::Table;
use mesh_proto::cloudevents::{Event, types};
use mesh_proto::v1::{ProductChanged, ProductDropped, ProductGap, ProductRecreated, ProductRewound, TableRef};

use super::describe::{Owner, table_ref};
use crate::error::PublisherError;
use crate::log::Log;

/// Where no snapshot was announced before: Iceberg's own word for no snapshot.
const NO_SNAPSHOT: i64 = -1;

/// One thing to announce about a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Snapshot(Box<ProductChanged>),
    /// With the time at which `main` was moved: the same rewind may happen again.
    Rewound(ProductRewound, i64),
    Gap(ProductGap),
    Dropped(ProductDropped),
    Recreated(ProductRecreated),
}

fn now() -> Option<pbjson_types::Timestamp> {
    Some(mesh_proto::timestamp(chrono::Utc::now()))
}

pub(super) fn gap(table: &Table, owner: &Owner, last: Option<i64>, first_known: i64) -> Change {
    Change::Gap(ProductGap {
        table: Some(table_ref(table)),
        product: owner.product.clone(),
        last_announced_snapshot_id: last.unwrap_or(NO_SNAPSHOT),
        first_known_snapshot_id: first_known,
        at: now(),
    })
}

/// At the time at which `main` was moved, by the table's log, so that every publisher writes the same.
pub(super) fn rewound(table: &Table, owner: &Owner, from: i64, to: Option<i64>, moved: i64) -> Change {
    let rewound = ProductRewound {
        table: Some(table_ref(table)),
        product: owner.product.clone(),
        from_snapshot_id: from,
        to_snapshot_id: to,
        at: now(),
    };
    Change::Rewound(rewound, moved)
}

pub(super) fn recreated(table: &TableRef, owner: &Owner, previous: &str) -> Change {
    Change::Recreated(ProductRecreated {
        table: Some(table.clone()),
        product: owner.product.clone(),
        previous_uuid: previous.to_owned(),
        at: now(),
    })
}

pub(super) fn dropped(table: &TableRef, owner: &Owner) -> Change {
    Change::Dropped(ProductDropped { table: Some(table.clone()), product: owner.product.clone(), at: now() })
}

impl Change {
    fn table_ref(&self) -> Option<&TableRef> {
        match self {
            Self::Snapshot(changed) => changed.table.as_ref(),
            Self::Rewound(rewound, _) => rewound.table.as_ref(),
            Self::Gap(gap) => gap.table.as_ref(),
            Self::Dropped(dropped) => dropped.table.as_ref(),
            Self::Recreated(recreated) => recreated.table.as_ref(),
        }
    }

    fn uuid(&self) -> &str {
        self.table_ref().map_or("", |table| &table.uuid)
    }

    /// `namespace.name`.
    pub(super) fn table(&self) -> String {
        self.table_ref().map(|table| format!("{}.{}", table.namespace, table.name)).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => types::PRODUCT_CHANGED,
            Self::Rewound(..) => types::PRODUCT_REWOUND,
            Self::Gap(_) => types::PRODUCT_GAP,
            Self::Dropped(_) => types::PRODUCT_DROPPED,
            Self::Recreated(_) => types::PRODUCT_RECREATED,
        }
    }

    pub(super) fn id(&self) -> String {
        let uuid = self.uuid();
        match self {
            Self::Snapshot(changed) => format!("{uuid}-{}", changed.snapshot_id),
            Self::Rewound(rewound, moved) => {
                let to = rewound.to_snapshot_id.unwrap_or(NO_SNAPSHOT);
                format!("{uuid}-rewound-{}-{to}-{moved}", rewound.from_snapshot_id)
            }
            Self::Gap(gap) => format!("{uuid}-gap-{}-{}", gap.last_announced_snapshot_id, gap.first_known_snapshot_id),
            Self::Dropped(_) => format!("{uuid}-dropped"),
            Self::Recreated(recreated) => format!("{uuid}-recreated-{}", recreated.previous_uuid),
        }
    }

    /// Without the lists that a writer may make as long as it likes, for a record that Kafka does not take.
    pub(super) fn short(self) -> Self {
        match self {
            Self::Snapshot(changed) => {
                Self::Snapshot(Box::new(ProductChanged { source: Vec::new(), schema_diff: None, ..*changed }))
            }
            other => other,
        }
    }

    /// The event, keyed by the table's uuid, in the trace of the commit that it describes.
    pub(super) fn event(&self, log: &Log, topic: &'static str) -> Result<Event, PublisherError> {
        let (kind, id) = (self.kind(), self.id());
        let event = match self {
            Self::Snapshot(changed) => {
                let event = log.event(topic, kind, &id, changed.as_ref())?.in_sequence(changed.sequence_number);
                event.about(&changed.product).traced(changed.traceparent.parse().ok())
            }
            Self::Rewound(rewound, _) => log.event(topic, kind, &id, rewound)?.about(&rewound.product),
            Self::Gap(gap) => log.event(topic, kind, &id, gap)?.about(&gap.product),
            Self::Dropped(dropped) => log.event(topic, kind, &id, dropped)?.about(&dropped.product),
            Self::Recreated(recreated) => log.event(topic, kind, &id, recreated)?.about(&recreated.product),
        };
        Ok(event.keyed(self.uuid()))
    }
}
