//! Arrays that hold a place in a memory pool for as long as they are there.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, GenericStringArray, OffsetSizeTrait, StringViewArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;

/// A buffer and its place.
struct Held {
    buffer: Buffer,
    _place: MemoryReservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_slice()
    }
}

fn buffer(buffer: Buffer, place: MemoryReservation) -> Buffer {
    Buffer::from(Bytes::from_owner(Held { buffer, _place: place }))
}

/// The same texts or lists; `place` is free again when nothing holds their bytes (of lists: their offsets).
pub(super) fn held(array: &ArrayRef, place: MemoryReservation) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Utf8 => texts::<i32>(array, place),
        DataType::LargeUtf8 => texts::<i64>(array, place),
        DataType::Utf8View => views(array, place),
        DataType::List(_) => lists::<i32>(array, place),
        DataType::LargeList(_) => lists::<i64>(array, place),
        _ => Ok(ArrayRef::clone(array)),
    }
}

fn texts<O: OffsetSizeTrait>(array: &ArrayRef, place: MemoryReservation) -> Result<ArrayRef> {
    let (offsets, values, nulls) = array.as_string::<O>().clone().into_parts();
    Ok(Arc::new(GenericStringArray::<O>::try_new(offsets, buffer(values, place), nulls)?))
}

fn views(array: &ArrayRef, place: MemoryReservation) -> Result<ArrayRef> {
    let (views, buffers, nulls) = array.as_string_view().clone().into_parts();
    let mut buffers = buffers.to_vec();
    // Without a buffer all texts are within their views.
    if let Some(last) = buffers.pop() {
        buffers.push(buffer(last, place));
    }
    Ok(Arc::new(StringViewArray::try_new(views, buffers, nulls)?))
}

fn lists<O: OffsetSizeTrait>(array: &ArrayRef, place: MemoryReservation) -> Result<ArrayRef> {
    let (field, offsets, values, nulls) = array.as_list::<O>().clone().into_parts();
    let length = offsets.len();
    let offsets = buffer(offsets.into_inner().into_inner(), place);
    let offsets = OffsetBuffer::new(ScalarBuffer::new(offsets, 0, length));
    Ok(Arc::new(GenericListArray::<O>::try_new(field, offsets, values, nulls)?))
}
