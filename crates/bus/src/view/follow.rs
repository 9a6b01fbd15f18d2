//! Reads a view's topic: once to its end into a fresh map, then record by record into the live one.
//!
//! If the log moves under us (retention, a recreated topic), everything is read again and the maps are compared, so
//! that a key deleted meanwhile does not live on.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde::de::DeserializeOwned;

use super::state::{Load, Place, Read, Shared, State, Unreadable};
use crate::tail::{Next, Tail};
use crate::topics::TopicDescription;
use crate::{Bus, Message, Result, Start};

/// Marks the view as failed when the follower goes away, by a panic or however else.
struct Alive<'a, T>(&'a Shared<T>);

impl<T> Drop for Alive<'_, T> {
    fn drop(&mut self) {
        self.0.fail("its follower ended");
    }
}

/// Follows the topic until it is dropped. An error is logged once, and the topic read again after a pause.
pub(super) async fn run<T>(bus: Bus, topic: TopicDescription, shared: Arc<Shared<T>>, revision: fn(&T) -> i64)
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let pauses = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100));
    let pauses = pauses.with_max_delay(Duration::from_secs(10)).without_max_times();
    let _alive = Alive(&shared);
    let mut logged = None;
    let mut pause = pauses.build();
    loop {
        let before = *shared.version.borrow();
        let Err(error) = pass(&bus, &topic, &shared, revision).await;
        if *shared.version.borrow() != before {
            pause = pauses.build();
        }
        let text = mesh_runtime::report::chain(&error);
        if logged.as_ref() != Some(&text) {
            tracing::error!(topic = topic.name, code = error.code(), error = text, "view failed");
            logged = Some(text.clone());
        }
        if *shared.load.borrow() != Load::Loading {
            shared.fail(&format!("[{}] {text}", error.code()));
        }
        tokio::time::sleep(pause.next().unwrap_or(Duration::from_secs(10))).await;
    }
}

async fn pass<T: DeserializeOwned>(
    bus: &Bus,
    topic: &TopicDescription,
    shared: &Shared<T>,
    revision: fn(&T) -> i64,
) -> Result<std::convert::Infallible> {
    let mut tail = Tail::open(bus, topic, Start::Beginning, None)?;
    let mut fresh = State::default();
    while let Next::Record(message) = tail.next().await? {
        fresh.apply(read(&message, revision));
    }
    shared.replace(fresh);
    loop {
        if let Next::Record(message) = tail.next().await? {
            shared.apply(read(&message, revision));
        }
    }
}

/// Reads one record; one that cannot be read is logged here, since it stays in the view as such.
fn read<T: DeserializeOwned>(message: &Message<'_>, revision: fn(&T) -> i64) -> Read<T> {
    let place = Place { partition: message.partition(), offset: message.offset() };
    let bytes = message.key().unwrap_or_default();
    let unreadable = |key: &str, cause| {
        let record = Unreadable { key: key.to_owned(), partition: place.partition, offset: place.offset, cause };
        let error = record.clone().into_error(message.topic());
        tracing::error!(code = error.code(), error = mesh_runtime::report::chain(&error), "record skipped");
        Read::Unreadable { key: key.to_owned(), record }
    };
    let Ok(key) = std::str::from_utf8(bytes) else {
        return unreadable(&String::from_utf8_lossy(bytes), None);
    };
    if message.payload().is_none() {
        return Read::Tombstone { key: key.to_owned(), revision: message.erased_at() };
    }
    match message.event().and_then(|event| event.decode::<T>()) {
        Ok(value) => Read::Value { key: key.to_owned(), revision: revision(&value), value, place },
        Err(error) => unreadable(key, Some(Arc::new(error))),
    }
}
