//! A topic of CloudEvents, read whole by an onlooker: a person at a command line.
//!
//! In: a topic and where to start. Out: its events, up to the end of now or as they come.

use std::time::Duration;

use mesh_proto::ProtoError;
use mesh_proto::cloudevents::Event;

use crate::tail::{Next, Tail};
use crate::{Bus, Result, Start};

/// How long a reader waits for brokers that are lost before that is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reader of all partitions of one topic.
pub struct TopicReader {
    tail: Tail,
    topic: String,
    caught_up: bool,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// One record of the topic.
#[derive(Debug)]
pub struct Received {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<String>,
    /// False for a tombstone.
    pub has_value: bool,
    /// The event, or why the record is none.
    pub event: std::result::Result<Event, ProtoError>,
}

impl TopicReader {
    pub(crate) async fn open(bus: &Bus, topic: &str, start: Start) -> Result<Self> {
        let description = bus.describe_topic(topic).await?;
        let tail = Tail::open(bus, &description, start, Some(PATIENCE))?;
        Ok(Self { tail, topic: topic.to_owned(), caught_up: false })
    }

    /// The next record, however long it takes. Cancellation safe.
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            match self.tail.next().await? {
                Next::Record(message) => return Ok(received(&message)),
                Next::CaughtUp => self.caught_up = true,
            }
        }
    }

    /// The next record of those that are there now; `None` once every partition was read to its end.
    pub async fn next_until_caught_up(&mut self) -> Result<Option<Received>> {
        if self.caught_up {
            return Ok(None);
        }
        match self.tail.next().await? {
            Next::Record(message) => Ok(Some(received(&message))),
            Next::CaughtUp => {
                self.caught_up = true;
                Ok(None)
            }
        }
    }
}

fn received(message: &crate::Message<'_>) -> Received {
    Received {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        has_value: message.payload().is_some(),
        event: message.event(),
    }
}
