//! Maps: from maps, and from lists of entries, which is how Avro has keys that are not text.
//!
//! In: a map, or a list of structs with `key` and `value`. Out: the table's map, and a refusal for each row with a key that
//! is missing or stands twice: engines that read such a map lose one of the two values.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::row::{RowConverter, SortField};
use arrow_array::{Array as _, ArrayRef, ListArray, MapArray, StructArray, cast::AsArray as _};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef};

use crate::pipeline::refusal::{Reason, Refusal};
use crate::pipeline::resolve::{Bad, Stop, lift, mismatch, value};

pub(crate) fn map(from: &MapArray, to: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    let pairs = Pairs {
        keys: from.keys(),
        values: from.values(),
        offsets: from.offsets(),
        nulls: from.nulls(),
        from: from.data_type(),
    };
    pairs.resolve(to, place, bad)
}

pub(crate) fn entries(from: &ListArray, to: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
    let stop = || mismatch(from.data_type(), to.data_type(), place);
    let pairs = from.values().as_struct_opt().ok_or_else(stop)?;
    let [first, second] = pairs.columns() else { return Err(stop()) };
    if pairs.column_names() != ["key", "value"] || pairs.null_count() > 0 {
        return Err(stop());
    }
    let pairs =
        Pairs { keys: first, values: second, offsets: from.offsets(), nulls: from.nulls(), from: from.data_type() };
    pairs.resolve(to, place, bad)
}

struct Pairs<'a> {
    keys: &'a ArrayRef,
    values: &'a ArrayRef,
    offsets: &'a OffsetBuffer<i32>,
    nulls: Option<&'a NullBuffer>,
    from: &'a DataType,
}

impl Pairs<'_> {
    fn resolve(self, to: &FieldRef, place: &str, bad: &mut Bad) -> Result<ArrayRef, Stop> {
        let DataType::Struct(fields) = to.data_type() else { return Err(mismatch(self.from, to.data_type(), place)) };
        let [key, second] = fields.as_ref() else { return Err(mismatch(self.from, to.data_type(), place)) };
        let at = format!("{place}{{key}}");
        let mut inner = Vec::new();
        let keys = value(self.keys, key.data_type(), &at, &mut inner)?;
        let values = value(self.values, second.data_type(), &format!("{place}{{}}"), &mut inner)?;
        let missing = (0..keys.len()).filter(|index| keys.is_null(*index));
        inner.extend(missing.map(|index| (index, Refusal::at(Reason::Type, &at, "an entry of the map has no key"))));
        lift(inner, self.offsets, bad);
        for row in repeated(&keys, self.offsets)? {
            bad.push((row, Refusal::at(Reason::Type, &at, "the map has a key twice")));
        }
        let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        Ok(Arc::new(MapArray::try_new(to.clone(), self.offsets.clone(), pairs, self.nulls.cloned(), false)?))
    }
}

/// The rows that have a key twice.
fn repeated(keys: &ArrayRef, offsets: &OffsetBuffer<i32>) -> Result<Vec<usize>, ArrowError> {
    if offsets.lengths().all(|length| length < 2) {
        return Ok(Vec::new());
    }
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let keys = converter.convert_columns(std::slice::from_ref(keys))?;
    let bound = |at: i32| usize::try_from(at).unwrap_or_default();
    let mut seen = HashSet::new();
    let is_repeated = |ends: &[i32]| {
        seen.clear();
        (bound(ends[0])..bound(ends[1])).any(|at| !seen.insert(keys.row(at)))
    };
    let rows: Vec<bool> = offsets.windows(2).map(is_repeated).collect();
    Ok(rows.iter().enumerate().filter_map(|(row, repeated)| repeated.then_some(row)).collect())
}
