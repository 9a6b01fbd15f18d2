//! What manifests know about columns, in DataFusion's terms.
//!
//! In: manifest entries. Out: per column a lower and an upper bound, nulls, rows. Bounds hold every value but need not
//! be reached (strings are cut), so they are `Inexact`; counts are exact, since there are no deletes.
//! Never: a bound that some value of the file lies outside of.

use std::collections::{HashMap, HashSet};

use chrono::{Months, NaiveDate};
use datafusion::arrow::datatypes::{DataType, Schema as ArrowSchema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use iceberg::spec::{Literal, NestedFieldRef, PrimitiveLiteral, PrimitiveType, Schema, TableMetadata, Transform};

use super::files::{FileSet, ScanFile};

/// A column of the scan: its Iceberg field id and its Arrow type.
#[derive(Clone, Debug)]
pub struct ScanColumn {
    /// Iceberg's field id.
    pub field_id: i32,
    /// The table's Arrow type.
    pub data_type: DataType,
}

/// The columns of an Arrow schema that carries field ids.
pub fn columns_of(schema: &ArrowSchema) -> Vec<ScanColumn> {
    let column = |field: &std::sync::Arc<datafusion::arrow::datatypes::Field>| ScanColumn {
        field_id: super::adapter::field_id(field).unwrap_or(-1),
        data_type: field.data_type().clone(),
    };
    schema.fields().iter().map(column).collect()
}

/// Lower and upper bound of a column in a file; `None` where nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnBounds {
    /// No value is less.
    pub lower: Option<ScalarValue>,
    /// No value is greater.
    pub upper: Option<ScalarValue>,
}

/// The bounds of a column in a file: from its metrics, else from its partition.
pub fn bounds(metadata: &TableMetadata, file: &ScanFile, column: &ScanColumn) -> ColumnBounds {
    let data_file = file.data_file();
    // Metrics leave NaN out, but NaN is greater than every number to Arrow's comparisons.
    let may_be_nan = column.data_type.is_floating() && data_file.nan_value_counts().get(&column.field_id) != Some(&0);
    if may_be_nan {
        return ColumnBounds::default();
    }
    let of = |datum: Option<&iceberg::spec::Datum>| {
        datum.and_then(|d| scalar(d.data_type(), d.literal(), &column.data_type))
    };
    let metrics = ColumnBounds {
        lower: of(data_file.lower_bounds().get(&column.field_id)),
        upper: of(data_file.upper_bounds().get(&column.field_id)),
    };
    let partition = partition_bounds(metadata, file, column);
    let lower = metrics.lower.or(partition.lower);
    let upper = metrics.upper.or(partition.upper);
    ColumnBounds { lower: lower.map(|value| zero(value, true)), upper: upper.map(|value| zero(value, false)) }
}

/// A bound of zero holds both zeros: writers compare them as equal, Arrow puts −0.0 below 0.0.
fn zero(bound: ScalarValue, is_lower: bool) -> ScalarValue {
    match bound {
        ScalarValue::Float32(Some(0.0)) => ScalarValue::Float32(Some(if is_lower { -0.0 } else { 0.0 })),
        ScalarValue::Float64(Some(0.0)) => ScalarValue::Float64(Some(if is_lower { -0.0 } else { 0.0 })),
        other => other,
    }
}

/// The floating-point columns that hold no NaN in any of the files.
pub(super) fn without_nan(files: &FileSet, schema: &ArrowSchema) -> HashSet<i32> {
    let floats = schema.fields().iter().filter(|field| field.data_type().is_floating());
    let ids = floats.filter_map(|field| super::adapter::field_id(field));
    let none = |id: &i32| files.files().iter().all(|file| file.data_file().nan_value_counts().get(id) == Some(&0));
    ids.filter(none).collect()
}

/// The values that columns have in files that were written before the columns were added, by field id.
pub(super) fn initial_defaults(schema: &Schema, arrow: &ArrowSchema) -> HashMap<i32, ScalarValue> {
    let default = |field: &NestedFieldRef| {
        let Some(Literal::Primitive(value)) = &field.initial_default else { return None };
        let wanted = arrow.field_with_name(&field.name).ok()?.data_type();
        Some((field.id, constant(field.field_type.as_primitive_type()?, value, wanted)?))
    };
    schema.as_struct().fields().iter().filter_map(default).collect()
}

/// Columns that a file does not have and whose value its partition has (files of a Hive table that were added as they
/// are), as statistics of a column with one value. `None` if there are none.
pub(super) fn constants(metadata: &TableMetadata, file: &ScanFile, schema: &ArrowSchema) -> Option<Statistics> {
    let data_file = file.data_file();
    let spec = metadata.partition_spec_by_id(file.spec_id())?;
    let absent = |id: i32| {
        let has = |counts: &HashMap<i32, u64>| counts.contains_key(&id);
        !(has(data_file.column_sizes()) || has(data_file.value_counts()) || has(data_file.null_value_counts()))
    };
    let mut known = Statistics::new_unknown(schema);
    known.num_rows = exact(Some(data_file.record_count()));
    let mut found = false;
    for (field, value) in spec.fields().iter().zip(data_file.partition().iter()) {
        let (Transform::Identity, Some(Literal::Primitive(value))) = (field.transform, value) else { continue };
        let index = schema.fields().iter().position(|column| super::adapter::field_id(column) == Some(field.source_id));
        let source = metadata.current_schema().field_by_id(field.source_id);
        let source = source.and_then(|source| source.field_type.as_primitive_type());
        let (Some(index), Some(source), true) = (index, source, absent(field.source_id)) else { continue };
        let Some(value) = constant(source, value, schema.field(index).data_type()) else { continue };
        known.column_statistics[index] = ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: Precision::Exact(value.clone()),
            max_value: Precision::Exact(value),
            ..ColumnStatistics::new_unknown()
        };
        found = true;
    }
    found.then_some(known)
}

/// A value of a column; other than a bound, it need not be comparable in Iceberg's order.
fn constant(found: &PrimitiveType, value: &PrimitiveLiteral, wanted: &DataType) -> Option<ScalarValue> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let scalar = match (found, value) {
        (T::Uuid, L::UInt128(value)) => ScalarValue::FixedSizeBinary(16, Some(value.to_be_bytes().to_vec())),
        (T::Uuid | T::Fixed(_), L::Binary(bytes)) => {
            ScalarValue::FixedSizeBinary(i32::try_from(bytes.len()).ok()?, Some(bytes.clone()))
        }
        (T::Binary, L::Binary(bytes)) => ScalarValue::LargeBinary(Some(bytes.clone())),
        _ => return scalar(found, value, wanted),
    };
    if scalar.data_type() == *wanted { Some(scalar) } else { scalar.cast_to(wanted).ok() }
}

/// What the file's partition value says about a source column.
fn partition_bounds(metadata: &TableMetadata, file: &ScanFile, column: &ScanColumn) -> ColumnBounds {
    let Some(spec) = metadata.partition_spec_by_id(file.spec_id()) else { return ColumnBounds::default() };
    for (field, value) in spec.fields().iter().zip(file.data_file().partition().iter()) {
        let (true, Some(Literal::Primitive(value))) = (field.source_id == column.field_id, value) else { continue };
        let found = match field.transform {
            Transform::Identity => identity_bounds(metadata, column, value),
            Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
                time_bounds(field.transform, value, &column.data_type)
            }
            _ => ColumnBounds::default(),
        };
        if found != ColumnBounds::default() {
            return found;
        }
    }
    ColumnBounds::default()
}

fn identity_bounds(metadata: &TableMetadata, column: &ScanColumn, value: &PrimitiveLiteral) -> ColumnBounds {
    let field = metadata.current_schema().field_by_id(column.field_id);
    let value = field
        .and_then(|f| f.field_type.as_primitive_type())
        .and_then(|source| scalar(source, value, &column.data_type));
    ColumnBounds { lower: value.clone(), upper: value }
}

/// The first and last moment of a year, month, day or hour.
pub(super) fn time_bounds(transform: Transform, value: &PrimitiveLiteral, data_type: &DataType) -> ColumnBounds {
    let PrimitiveLiteral::Int(value) = value else { return ColumnBounds::default() };
    let Some((mut start, end)) = span_micros(transform, *value) else { return ColumnBounds::default() };
    if *value <= 0 {
        // Writers (iceberg-rust 0.10, Iceberg for Java before 1.0) rounded moments before 1970 towards zero.
        let Some((before, _)) = value.checked_sub(1).and_then(|value| span_micros(transform, value)) else {
            return ColumnBounds::default();
        };
        start = before;
    }
    match data_type {
        DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, zone) => ColumnBounds {
            lower: Some(ScalarValue::TimestampMicrosecond(Some(start), zone.clone())),
            upper: Some(ScalarValue::TimestampMicrosecond(Some(end - 1), zone.clone())),
        },
        DataType::Date32 => {
            let day = |micros: i64| i32::try_from(micros.div_euclid(DAY)).ok().map(|d| ScalarValue::Date32(Some(d)));
            ColumnBounds { lower: day(start), upper: day(end - 1) }
        }
        _ => ColumnBounds::default(),
    }
}

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Start (inclusive) and end (exclusive), in µs since 1970.
fn span_micros(transform: Transform, value: i32) -> Option<(i64, i64)> {
    let value64 = i64::from(value);
    match transform {
        Transform::Hour => Some((value64 * HOUR, (value64 + 1) * HOUR)),
        Transform::Day => Some((value64 * DAY, (value64 + 1) * DAY)),
        Transform::Month => Some((month_start(value)?, month_start(value.checked_add(1)?)?)),
        Transform::Year => {
            let first = value.checked_mul(12)?;
            Some((month_start(first)?, month_start(first.checked_add(12)?)?))
        }
        _ => None,
    }
}

fn month_start(months: i32) -> Option<i64> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let by = Months::new(months.unsigned_abs());
    let date = if months < 0 { epoch.checked_sub_months(by)? } else { epoch.checked_add_months(by)? };
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// An Iceberg value as a scalar of the table's type; `None` if it has no such form.
fn scalar(found: &PrimitiveType, value: &PrimitiveLiteral, wanted: &DataType) -> Option<ScalarValue> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let scalar = match (found, value) {
        (T::Boolean, L::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (T::Int, L::Int(v)) => ScalarValue::Int32(Some(*v)),
        (T::Long, L::Long(v)) => ScalarValue::Int64(Some(*v)),
        // A bound that was written before a promotion is decoded by the new type.
        (T::Long, L::Int(v)) => ScalarValue::Int64(Some(i64::from(*v))),
        (T::Float, L::Float(v)) => ScalarValue::Float32(Some(v.0)),
        (T::Double, L::Double(v)) => ScalarValue::Float64(Some(v.0)),
        (T::Double, L::Float(v)) => ScalarValue::Float64(Some(f64::from(v.0))),
        (T::Date, L::Int(v)) => ScalarValue::Date32(Some(*v)),
        (T::Time, L::Long(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (T::Timestamp, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (T::Timestamptz, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), Some("+00:00".into())),
        (T::String, L::String(v)) => ScalarValue::Utf8(Some(v.clone())),
        (T::Decimal { precision, scale }, L::Int128(v)) => {
            ScalarValue::Decimal128(Some(*v), u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?)
        }
        _ => return None,
    };
    match (scalar.data_type(), wanted) {
        (found, wanted) if found == *wanted => Some(scalar),
        // Rounded, it may lie within the values.
        (DataType::Float64, DataType::Float32) => None,
        _ => scalar.cast_to(wanted).ok(),
    }
}

/// Statistics of the whole scan. Columns that are not read have none: each costs a look at every file.
pub fn of_table(
    metadata: &TableMetadata,
    files: &FileSet,
    columns: &[ScanColumn],
    is_read: impl Fn(usize) -> bool,
) -> Statistics {
    let of = |(index, column)| match is_read(index) {
        true => of_column(metadata, files, column),
        false => ColumnStatistics::new_unknown(),
    };
    let column_statistics = columns.iter().enumerate().map(of).collect();
    Statistics {
        num_rows: exact(Some(files.rows())),
        total_byte_size: usize::try_from(files.bytes()).map_or(Precision::Absent, Precision::Inexact),
        column_statistics,
    }
}

fn of_column(metadata: &TableMetadata, files: &FileSet, column: &ScanColumn) -> ColumnStatistics {
    let mut total: Option<ColumnBounds> = None;
    for file in files.files() {
        let next = bounds(metadata, file, column);
        total = Some(match total {
            None => next,
            Some(sofar) => ColumnBounds {
                lower: extreme(sofar.lower, next.lower, std::cmp::Ordering::Less),
                upper: extreme(sofar.upper, next.upper, std::cmp::Ordering::Greater),
            },
        });
    }
    let total = total.unwrap_or_default();
    let inexact = |value: Option<ScalarValue>| value.map_or(Precision::Absent, Precision::Inexact);
    ColumnStatistics {
        null_count: if column.data_type.is_nested() {
            Precision::Absent
        } else {
            exact(files.null_count(column.field_id))
        },
        min_value: inexact(total.lower),
        max_value: inexact(total.upper),
        ..ColumnStatistics::new_unknown()
    }
}

/// The lesser (or greater) of two; nothing if either is not known.
fn extreme(a: Option<ScalarValue>, b: Option<ScalarValue>, wanted: std::cmp::Ordering) -> Option<ScalarValue> {
    let a = a?;
    let b = b?;
    if a.partial_cmp(&b)? == wanted { Some(a) } else { Some(b) }
}

fn exact(count: Option<u64>) -> Precision<usize> {
    count.and_then(|n| usize::try_from(n).ok()).map_or(Precision::Absent, Precision::Exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let day = 86_400_000_000;
        assert_eq!(span_micros(Transform::Month, 0), Some((0, 31 * day)));
        assert_eq!(span_micros(Transform::Month, -1), Some((-31 * day, 0)));
        assert_eq!(span_micros(Transform::Year, -1), Some((-365 * day, 0)));
        assert_eq!(span_micros(Transform::Day, -1), Some((-day, 0)));
        assert_eq!(span_micros(Transform::Bucket(4), 1), None);
    }

    #[test]
    fn a_bound_written_before_a_promotion_is_one_of_the_new_type() {
        let check = |found, value, wanted: DataType, expected| assert_eq!(scalar(&found, &value, &wanted), expected);
        check(PrimitiveType::Int, PrimitiveLiteral::Int(7), DataType::Int64, Some(ScalarValue::Int64(Some(7))));
        check(
            PrimitiveType::Decimal { precision: 5, scale: 2 },
            PrimitiveLiteral::Int128(125),
            DataType::Decimal128(12, 2),
            Some(ScalarValue::Decimal128(Some(125), 12, 2)),
        );
        check(PrimitiveType::Uuid, PrimitiveLiteral::UInt128(1), DataType::FixedSizeBinary(16), None);
    }

    #[test]
    fn a_bound_that_one_file_lacks_is_no_bound() {
        let five = Some(ScalarValue::Int64(Some(5)));
        let six = Some(ScalarValue::Int64(Some(6)));
        assert_eq!(extreme(five.clone(), six.clone(), std::cmp::Ordering::Less), five);
        assert_eq!(extreme(six.clone(), five.clone(), std::cmp::Ordering::Greater), six);
        assert_eq!(extreme(five, None, std::cmp::Ordering::Less), None);
    }
}
