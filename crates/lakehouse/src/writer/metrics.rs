//! Column metrics of a data file, by field id, from its Parquet footer; NaNs are counted while writing, since Parquet
//! leaves them out of its statistics. Columns within lists and maps have sizes only, as in Iceberg's own writers.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use iceberg::spec::{Datum, PrimitiveType, Schema};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

/// Longest bound of a string or binary, in characters or bytes: enough to prune by, little in a manifest.
const BOUND: usize = 16;

/// Metrics by field id.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) sizes: HashMap<i32, u64>,
    pub(super) values: HashMap<i32, u64>,
    pub(super) nulls: HashMap<i32, u64>,
    pub(super) lower: HashMap<i32, Datum>,
    pub(super) upper: HashMap<i32, Datum>,
}

/// The metrics of a footer's columns.
pub(super) fn of(footer: &ParquetMetaData, schema: &Schema) -> Columns {
    let mut columns = Columns::default();
    // A column one of whose row groups has no bounds has none.
    let mut unbounded = Vec::new();
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let descr = chunk.column_descr();
        let info = descr.self_type().get_basic_info();
        if !info.has_id() {
            continue;
        }
        let id = info.id();
        *columns.sizes.entry(id).or_default() += u64::try_from(chunk.compressed_size()).unwrap_or_default();
        if descr.max_rep_level() > 0 {
            continue;
        }
        let ty = schema.field_by_id(id).and_then(|field| field.field_type.as_primitive_type());
        if !columns.add(id, chunk, ty) {
            unbounded.push(id);
        }
    }
    for id in unbounded {
        columns.lower.remove(&id);
        columns.upper.remove(&id);
    }
    columns
}

impl Columns {
    /// False if the chunk has values but no bounds.
    fn add(&mut self, id: i32, chunk: &ColumnChunkMetaData, ty: Option<&PrimitiveType>) -> bool {
        let values = u64::try_from(chunk.num_values()).unwrap_or_default();
        *self.values.entry(id).or_default() += values;
        let Some(statistics) = chunk.statistics() else { return false };
        let nulls = statistics.null_count_opt();
        if let Some(nulls) = nulls {
            *self.nulls.entry(id).or_default() += nulls;
        }
        let Some(ty) = ty else { return false };
        let bound = |bytes: Option<&[u8]>| datum(bytes?, statistics, ty);
        match (bound(statistics.min_bytes_opt()), bound(statistics.max_bytes_opt())) {
            (Some(min), Some(max)) => {
                let below = truncated(&min, false).unwrap_or(min);
                self.lower
                    .entry(id)
                    .and_modify(|old| {
                        if below < *old {
                            *old = below.clone()
                        }
                    })
                    .or_insert(below);
                let Some(above) = truncated(&max, true) else { return false };
                self.upper
                    .entry(id)
                    .and_modify(|old| {
                        if above > *old {
                            *old = above.clone()
                        }
                    })
                    .or_insert(above);
                true
            }
            _ => nulls == Some(values),
        }
    }
}

/// A statistic's bytes as Iceberg's single value. Parquet keeps small decimals as little-endian integers.
fn datum(bytes: &[u8], statistics: &Statistics, ty: &PrimitiveType) -> Option<Datum> {
    let small_decimal = matches!(ty, PrimitiveType::Decimal { .. })
        && matches!(statistics, Statistics::Int32(_) | Statistics::Int64(_));
    match small_decimal {
        true => Datum::try_from_bytes(&bytes.iter().rev().copied().collect::<Vec<_>>(), ty.clone()).ok(),
        false => Datum::try_from_bytes(bytes, ty.clone()).ok(),
    }
}

/// A bound short enough; an upper one is rounded up, and `None` if it cannot be.
fn truncated(bound: &Datum, up: bool) -> Option<Datum> {
    use iceberg::spec::PrimitiveLiteral::{Binary, String};
    match bound.literal() {
        String(text) if bound.data_type() == &PrimitiveType::String && text.chars().nth(BOUND).is_some() => {
            let head: Vec<char> = text.chars().take(BOUND).collect();
            match up {
                true => next_text(head).map(Datum::string),
                false => Some(Datum::string(head.into_iter().collect::<std::string::String>())),
            }
        }
        Binary(bytes) if bound.data_type() == &PrimitiveType::Binary && bytes.len() > BOUND => {
            let head = bytes.iter().take(BOUND).copied().collect::<Vec<u8>>();
            match up {
                true => next_bytes(head).map(Datum::binary),
                false => Some(Datum::binary(head)),
            }
        }
        _ => Some(bound.clone()),
    }
}

/// The least text of this length that is greater than all that begin with it.
fn next_text(mut head: Vec<char>) -> Option<String> {
    while let Some(last) = head.pop() {
        let after = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(after) = after {
            head.push(after);
            return Some(head.into_iter().collect());
        }
    }
    None
}

fn next_bytes(mut head: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = head.pop() {
        if let Some(after) = last.checked_add(1) {
            head.push(after);
            return Some(head);
        }
    }
    None
}

/// Which columns can hold NaN.
#[derive(Debug)]
pub(super) struct NanCounter {
    ids: Vec<i32>,
}

impl NanCounter {
    pub(super) fn new(schema: &ArrowSchema) -> Self {
        let mut ids = Vec::new();
        schema.fields().iter().for_each(|field| float_ids(field, &mut ids));
        Self { ids }
    }

    pub(super) fn zeros(&self) -> HashMap<i32, u64> {
        self.ids.iter().map(|id| (*id, 0)).collect()
    }

    /// Adds a batch's NaNs to the columns that are counted.
    pub(super) fn count(rows: &RecordBatch, counts: &mut HashMap<i32, u64>) {
        if !counts.is_empty() {
            let columns = rows.schema_ref().fields().iter().zip(rows.columns());
            columns.for_each(|(field, column)| count_column(field, column, counts));
        }
    }
}

fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

fn float_ids(field: &Field, ids: &mut Vec<i32>) {
    match field.data_type() {
        DataType::Float32 | DataType::Float64 => ids.extend(field_id(field)),
        DataType::Struct(fields) => fields.iter().for_each(|f| float_ids(f, ids)),
        _ => {}
    }
}

fn count_column(field: &Field, column: &ArrayRef, counts: &mut HashMap<i32, u64>) {
    let nans = match field.data_type() {
        DataType::Float32 => nans::<Float32Type>(column.as_primitive(), |v| v.is_nan()),
        DataType::Float64 => nans::<Float64Type>(column.as_primitive(), |v| v.is_nan()),
        DataType::Struct(fields) => {
            fields.iter().zip(column.as_struct().columns()).for_each(|(f, c)| count_column(f, c, counts));
            return;
        }
        _ => return,
    };
    if let Some(count) = field_id(field).and_then(|id| counts.get_mut(&id)) {
        *count += nans;
    }
}

fn nans<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, is_nan: impl Fn(T::Native) -> bool) -> u64 {
    let count = match column.null_count() {
        0 => column.values().iter().filter(|v| is_nan(**v)).count(),
        _ => column.iter().flatten().filter(|v| is_nan(*v)).count(),
    };
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bound: Datum, lower: Option<Datum>, upper: Option<Datum>) {
        assert_eq!((truncated(&bound, false), truncated(&bound, true)), (lower, upper), "{bound}");
    }

    #[test]
    fn short_bounds_stay_and_long_ones_are_cut() {
        let same = |d: Datum| check(d.clone(), Some(d.clone()), Some(d));
        same(Datum::string("sixteen letters."));
        same(Datum::long(7));
        same(Datum::binary([255; 16]));
        check(
            Datum::string("seventeen letters"),
            Some(Datum::string("seventeen letter")),
            Some(Datum::string("seventeen lettes")),
        );
        check(
            Datum::binary([1; 17]),
            Some(Datum::binary([1; 16])),
            Some(Datum::binary([[1; 15].as_slice(), &[2]].concat())),
        );
    }

    #[test]
    fn an_upper_bound_that_cannot_be_rounded_up_is_none() {
        check(Datum::binary([255; 17]), Some(Datum::binary([255; 16])), None);
        let top = char::MAX.to_string().repeat(17);
        check(Datum::string(&top), Some(Datum::string(char::MAX.to_string().repeat(16))), None);
        // The last letter has no successor, the one before has.
        let text = format!("{}{}", "a".repeat(15), char::MAX.to_string().repeat(2));
        let expected = format!("{}b", "a".repeat(14));
        check(
            Datum::string(&text),
            Some(Datum::string(format!("{}{}", "a".repeat(15), char::MAX))),
            Some(Datum::string(expected)),
        );
    }

    #[test]
    fn a_bound_is_never_a_surrogate() {
        let text = format!("{}{}{}", "a".repeat(15), '\u{d7ff}', "b");
        assert_eq!(truncated(&Datum::string(text), true), Some(Datum::string(format!("{}\u{e000}", "a".repeat(15)))));
    }
}
