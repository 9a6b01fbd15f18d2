//! The one place with `unsafe`: two admin requests that rdkafka's safe API lacks, positions of some partitions, and a header
//! whose name may be anything.
//!
//! DescribeTopics, because only it tells a topic's id; AlterConsumerGroupOffsets, to write lag offsets for any group
//! without a consumer per group. Both requests follow one pattern: build the request, hand it to librdkafka with a queue of our
//! own, wait for the one result event on that queue, copy everything out of it, destroy it.
//! Never: a pointer that outlives what it points into. All are freed by [`Owned`], results are copied.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::error::{IsError as _, KafkaError};
use rdkafka::message::BorrowedHeaders;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;
use uuid::Uuid;

use crate::topics::{TopicDescription, TopicPartition};

/// A native object that we own: destroyed once, when it goes out of scope.
struct Owned<T> {
    ptr: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `ptr` must be null or a pointer that nothing else destroys, `destroy` the function that librdkafka names for it.
    fn new(ptr: *mut T, destroy: unsafe extern "C" fn(*mut T), what: &str) -> Result<Self, KafkaError> {
        match ptr.is_null() {
            true => Err(KafkaError::AdminOpCreation(format!("librdkafka gave no {what}"))),
            false => Ok(Self { ptr, destroy }),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new`, the pointer is ours, not null, not destroyed yet, and this is its destructor.
        unsafe { (self.destroy)(self.ptr) }
    }
}

/// Ids and partition counts of those of the topics that exist. Blocks up to `timeout`.
pub(crate) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    timeout: Duration,
) -> Result<Vec<TopicDescription>, KafkaError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.iter().map(|name| CString::new(name.as_str())).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: `pointers` holds `len` valid C strings; librdkafka copies them during the call.
    let topics = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    let topics = Owned::new(topics, sys::rd_kafka_TopicCollection_destroy, "topic collection")?;
    let event =
        request(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, |options, queue| {
            // SAFETY: client, collection, options and queue are alive; librdkafka copies the collection and the options.
            unsafe { sys::rd_kafka_DescribeTopics(client.native_ptr(), topics.ptr, options, queue) }
        })?;
    // SAFETY: the event is the answer to DescribeTopics; results point into it and are copied while `event` lives.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr);
        if result.is_null() {
            return Err(KafkaError::AdminOpCreation("librdkafka answered another request".into()));
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let found = (0..count).filter_map(|i| described(*list.add(i)).transpose());
        found.collect()
    }
}

/// One topic of the answer; `None` if it does not exist.
///
/// # Safety
/// `topic` points into a result event that is alive.
unsafe fn described(topic: *const sys::rd_kafka_TopicDescription_t) -> Result<Option<TopicDescription>, KafkaError> {
    use sys::rd_kafka_resp_err_t as Code;
    // SAFETY: the caller's promise; all pointers got here point into the same event. A null error means no error.
    unsafe {
        match sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic)) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => return Ok(None),
            code => return Err(KafkaError::AdminOp(code.into())),
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let (most, least) = match id.is_null() {
            true => (0, 0),
            false => (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)),
        };
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        Ok(Some(TopicDescription { name, id: Uuid::from_u64_pair(most as u64, least as u64), partitions }))
    }
}

/// Writes a group's offsets as an administrator, not as a member. Blocks up to `timeout`.
pub(crate) fn alter_group_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    next: &[(TopicPartition, i64)],
    timeout: Duration,
) -> Result<(), KafkaError> {
    if next.is_empty() {
        return Ok(());
    }
    let mut offsets = TopicPartitionList::with_capacity(next.len());
    for (place, offset) in next {
        offsets.add_partition_offset(&place.topic, place.partition, Offset::Offset(*offset))?;
    }
    let group = CString::new(group)?;
    // SAFETY: both arguments are alive and are copied during the call.
    let altered = unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.ptr()) };
    let altered = Owned::new(altered, sys::rd_kafka_AlterConsumerGroupOffsets_destroy, "offsets request")?;
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
    let event = request(client, op, timeout, |options, queue| {
        let mut array = [altered.ptr];
        // SAFETY: client, request, options and queue are alive; librdkafka copies the request during the call.
        unsafe {
            sys::rd_kafka_AlterConsumerGroupOffsets(client.native_ptr(), array.as_mut_ptr(), 1, options, queue);
        }
    })?;
    // SAFETY: the event is the answer to AlterConsumerGroupOffsets; results point into it and are read while it lives.
    unsafe {
        let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.ptr);
        let mut groups = 0;
        let list = sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut groups);
        for i in 0..groups {
            group_result(*list.add(i))?;
        }
    }
    Ok(())
}

/// The error of a group, or of the first of its partitions that has one.
///
/// # Safety
/// `group` points into a result event that is alive.
unsafe fn group_result(group: *const sys::rd_kafka_group_result_t) -> Result<(), KafkaError> {
    // SAFETY: the caller's promise; the partition list belongs to the event too and holds `cnt` elements.
    unsafe {
        let code = sys::rd_kafka_error_code(sys::rd_kafka_group_result_error(group));
        if code.is_error() {
            return Err(KafkaError::AdminOp(code.into()));
        }
        let partitions = sys::rd_kafka_group_result_partitions(group);
        if partitions.is_null() {
            return Ok(());
        }
        let count = usize::try_from((*partitions).cnt).unwrap_or(0);
        let failed = (0..count).map(|i| (*(*partitions).elems.add(i)).err).find(|code| code.is_error());
        failed.map_or(Ok(()), |code| Err(KafkaError::AdminOp(code.into())))
    }
}

/// The offsets that a consumer is handed next in these partitions; `None` where nothing was handed out since it was
/// assigned. No request to a broker. (The safe API does this for the whole assignment only.)
pub(crate) fn positions<C: ClientContext>(
    client: &Client<C>,
    places: &[TopicPartition],
) -> Result<Vec<Option<i64>>, KafkaError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    // SAFETY: client and list are alive; librdkafka writes the offsets into the list's elements during the call.
    let code = unsafe { sys::rd_kafka_position(client.native_ptr(), list.ptr()) };
    if code.is_error() {
        return Err(KafkaError::OffsetFetch(code.into()));
    }
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok(list.elements().iter().map(offset).collect())
}

/// A header by its index, as it is: rdkafka panics on a name that is no UTF-8, and any producer may write one.
pub(crate) fn header(headers: &BorrowedHeaders, index: usize) -> Option<(&CStr, Option<&[u8]>)> {
    let native: *const BorrowedHeaders = headers;
    let mut name = std::ptr::null();
    let mut value = std::ptr::null();
    let mut size = 0;
    // SAFETY: a reference to `BorrowedHeaders` is a pointer to librdkafka's headers under another type (so rdkafka makes
    // and reads it itself). Name and value point into them and live as long; an error leaves the three untouched.
    unsafe {
        let found = sys::rd_kafka_header_get_all(native.cast(), index, &mut name, &mut value, &mut size);
        if found.is_error() || name.is_null() {
            return None;
        }
        let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
        Some((CStr::from_ptr(name), value))
    }
}

/// Sends one admin request and waits for its answer, which may itself be an error.
fn request<C: ClientContext>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Owned<sys::rd_kafka_event_t>, KafkaError> {
    let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client is alive; both objects are ours to destroy.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client.native_ptr(), op) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy, "admin options")?;
    // SAFETY: as above.
    let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
    let queue = Owned::new(queue, sys::rd_kafka_queue_destroy, "queue")?;
    let mut reason = [0 as c_char; 256];
    // SAFETY: the options are alive, the buffer is as long as stated.
    let set = unsafe {
        sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr, millis, reason.as_mut_ptr(), reason.len())
    };
    if set.is_error() {
        return Err(KafkaError::AdminOp(set.into()));
    }
    send(options.ptr, queue.ptr);
    // A second beyond the request's own timeout, so that its error comes rather than nothing.
    // SAFETY: the queue is alive; the event is ours to destroy.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.ptr, millis.saturating_add(1000)) };
    if event.is_null() {
        return Err(KafkaError::AdminOp(rdkafka::error::RDKafkaErrorCode::OperationTimedOut));
    }
    let event = Owned::new(event, sys::rd_kafka_event_destroy, "event")?;
    // SAFETY: the event is alive.
    let code = unsafe { sys::rd_kafka_event_error(event.ptr) };
    match code.is_error() {
        true => Err(KafkaError::AdminOp(code.into())),
        false => Ok(event),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_may_be_any_bytes() {
        // SAFETY: a plain constructor.
        let native = unsafe { sys::rd_kafka_headers_new(2) };
        let native = Owned::new(native, sys::rd_kafka_headers_destroy, "headers").unwrap();
        for (name, value) in [(&b"\xff\xfe"[..], &b"1"[..]), (b"plain", b"")] {
            let (name_size, size) = (name.len().cast_signed(), value.len().cast_signed());
            // SAFETY: the headers are alive, both slices have the given lengths and are copied.
            unsafe {
                sys::rd_kafka_header_add(native.ptr, name.as_ptr().cast(), name_size, value.as_ptr().cast(), size)
            };
        }
        // SAFETY: what rdkafka does to make such a reference; the headers outlive it.
        let headers = unsafe { &*native.ptr.cast::<BorrowedHeaders>() };
        let found: Vec<_> =
            (0..).map_while(|at| header(headers, at)).map(|(name, value)| (name.to_bytes(), value.unwrap())).collect();
        assert_eq!(found, [(&b"\xff\xfe"[..], &b"1"[..]), (b"plain", b"")]);
    }
}
