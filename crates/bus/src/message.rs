//! One record as it was fetched: it borrows librdkafka's memory and copies nothing.

use std::borrow::Cow;

use mesh_proto::ProtoError;
use mesh_proto::cloudevents::Event;
use mesh_proto::trace::TraceContext;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::compacted::ERASED_AT;
use crate::ffi;

/// A record of a [`Batch`](crate::Batch).
#[derive(Debug)]
pub struct Message<'a>(pub(crate) BorrowedMessage<'a>);

impl<'a> Message<'a> {
    pub fn topic(&self) -> &str {
        self.0.topic()
    }

    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Milliseconds since 1970; `None` if the record has no timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// The value; `None` is a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// The headers in their order; a name may come twice, a value may be null. A name that is no UTF-8 comes as `\u{fffd}`.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.headers().into_iter().flat_map(|headers| {
            let at = |index| ffi::header(headers, index);
            (0..).map_while(at).map(|(name, value)| (name.to_str().unwrap_or("\u{fffd}"), value))
        })
    }

    /// The last header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.headers().filter(|(key, _)| *key == name).last()?.1?;
        std::str::from_utf8(value).ok().map(Cow::Borrowed)
    }

    /// The producer's place in its trace, if the record has a valid `traceparent`.
    pub fn trace(&self) -> Option<TraceContext> {
        self.header("traceparent")?.parse().ok()
    }

    /// The revision that a tombstone carries.
    pub fn erased_at(&self) -> Option<i64> {
        self.header(ERASED_AT)?.parse().ok()
    }

    /// The record as a CloudEvent.
    pub fn event(&self) -> Result<Event, ProtoError> {
        Event::read(self.headers(), self.payload().unwrap_or_default())
    }

    /// The bytes of key, value and headers: what the record weighs in a buffer.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum();
        self.key().map_or(0, <[u8]>::len) + self.payload().map_or(0, <[u8]>::len) + headers
    }
}
