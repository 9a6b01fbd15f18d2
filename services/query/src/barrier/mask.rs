//! What stands in a masked column: Iceberg's Read Restrictions, as a function over Arrow arrays.
//!
//! In: values of a column. Out: values of the same type. Never: a value that the action does not show, a failure on
//! any value (it would be one), the key in a plan or a log.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, LargeBinaryArray, StringArray,
    new_null_array,
};
use arrow::compute::kernels::cast_utils::Parser as _;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{Datelike, NaiveDate, NaiveDateTime};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use hmac::{Hmac, Mac};
use mesh_policy::MaskAction;
use sha2::{Digest, Sha256};

/// The secrets of hashing masks: one key per mesh, one salt per query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MaskKeys {
    mesh: Arc<[u8]>,
    query: [u8; 16],
}

impl MaskKeys {
    /// The mesh's key, and the salt of one query.
    pub fn new(mesh: Arc<[u8]>, query: [u8; 16]) -> Self {
        Self { mesh, query }
    }
}

impl fmt::Debug for MaskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKeys(..)")
    }
}

/// A mask as a function of one column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mask {
    action: MaskAction,
    keys: MaskKeys,
    signature: Signature,
}

impl Mask {
    /// The function that masks by `action`.
    pub fn new(action: MaskAction, keys: MaskKeys) -> Self {
        Self { action, keys, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// Whether values of this type can be masked so; anything else must be refused before a row is read.
    pub fn fits(action: MaskAction, data_type: &DataType) -> bool {
        use DataType as D;
        match action {
            MaskAction::ReplaceWithNull => true,
            MaskAction::MaskToFixedValue => fixed_value(data_type).is_some(),
            MaskAction::MaskAlphanum | MaskAction::ShowFirst4 | MaskAction::ShowLast4 => is_text(data_type),
            MaskAction::TruncateToYear | MaskAction::TruncateToMonth => {
                matches!(data_type, D::Date32 | D::Timestamp(TimeUnit::Microsecond, _))
            }
            MaskAction::Sha256Global | MaskAction::Sha256QueryLocal => {
                is_text(data_type) || matches!(data_type, D::Int32 | D::Int64 | D::Decimal128(..))
            }
        }
    }

    fn apply(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if !Self::fits(self.action, array.data_type()) {
            return internal_err!("a mask does not fit its column");
        }
        Ok(match self.action {
            MaskAction::ReplaceWithNull => new_null_array(array.data_type(), array.len()),
            MaskAction::MaskToFixedValue => match fixed_value(array.data_type()) {
                Some(value) => value.to_array_of_size(array.len())?,
                None => return internal_err!("a type without a fixed value"),
            },
            MaskAction::MaskAlphanum => {
                texts(array, |text| text.chars().map(alphanum).collect(), |bytes| hidden(bytes, 0..0))
            }
            MaskAction::ShowFirst4 => texts(array, show_first_4, |bytes| hidden(bytes, 0..2)),
            MaskAction::ShowLast4 => texts(array, show_last_4, |bytes| hidden(bytes, 14..16)),
            MaskAction::TruncateToYear => truncate(array, |date| date.with_month(1).and_then(|d| d.with_day(1))),
            MaskAction::TruncateToMonth => truncate(array, |date| date.with_day(1)),
            MaskAction::Sha256Global | MaskAction::Sha256QueryLocal => self.hash(array),
        })
    }

    /// Strings as 64 hex digits; integers (as 8 bytes, little endian), decimals and uuids as much of the digest as they
    /// hold, other bytes as the digest.
    fn hash(&self, array: &ArrayRef) -> ArrayRef {
        match array.data_type() {
            DataType::Int64 => {
                let hashed = |v: i64| i64::from_le_bytes(first(&self.digest(&v.to_le_bytes())));
                Arc::new(array.as_primitive::<Int64Type>().iter().map(|v| v.map(hashed)).collect::<Int64Array>())
            }
            DataType::Int32 => {
                let hashed = |v: i32| i32::from_le_bytes(first(&self.digest(&i64::from(v).to_le_bytes())));
                Arc::new(array.as_primitive::<Int32Type>().iter().map(|v| v.map(hashed)).collect::<Int32Array>())
            }
            DataType::Decimal128(precision, _) => {
                let below = 10i128.pow(u32::from(*precision));
                let hashed = |v: i128| i128::from_le_bytes(first(&self.digest(&v.to_le_bytes()))) % below;
                let out = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(hashed);
                Arc::new(out.with_data_type(array.data_type().clone()))
            }
            _ => texts(array, |text| hex::encode(self.digest(text.as_bytes())), |bytes| self.digest(bytes).to_vec()),
        }
    }

    fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        if self.action == MaskAction::Sha256QueryLocal {
            return Sha256::new().chain_update(self.keys.query).chain_update(bytes).finalize().into();
        }
        // HMAC takes keys of any length.
        match Hmac::<Sha256>::new_from_slice(&self.keys.mesh) {
            Ok(hmac) => hmac.chain_update(bytes).finalize().into_bytes().into(),
            Err(_) => [0; 32],
        }
    }
}

impl ScalarUDFImpl for Mask {
    fn name(&self) -> &str {
        self.action.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [of] => Ok(of.clone()),
            _ => internal_err!("a mask takes one column"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match ColumnarValue::values_to_arrays(&args.args)?.as_slice() {
            [array] => Ok(ColumnarValue::Array(self.apply(array)?)),
            _ => internal_err!("a mask takes one column"),
        }
    }
}

fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&digest[..N]);
    out
}

/// The types of ODCS's strings: text, uuids and bytes.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::FixedSizeBinary(16) | DataType::Binary | DataType::LargeBinary)
}

/// A mask of each value: as text, or as bytes, of which a uuid takes the first 16.
fn texts(array: &ArrayRef, mask: impl Fn(&str) -> String, of_bytes: impl Fn(&[u8]) -> Vec<u8>) -> ArrayRef {
    match array.data_type() {
        DataType::FixedSizeBinary(16) => {
            let of_value = |bytes: &[u8]| of_bytes(bytes).first_chunk::<16>().copied().unwrap_or_default();
            let array = array.as_fixed_size_binary();
            let values: Vec<u8> = array.iter().flat_map(|value| value.map(of_value).unwrap_or_default()).collect();
            Arc::new(FixedSizeBinaryArray::new(16, values.into(), array.nulls().cloned()))
        }
        DataType::Binary => {
            Arc::new(array.as_binary::<i32>().iter().map(|v| v.map(&of_bytes)).collect::<BinaryArray>())
        }
        DataType::LargeBinary => {
            Arc::new(array.as_binary::<i64>().iter().map(|v| v.map(&of_bytes)).collect::<LargeBinaryArray>())
        }
        _ => Arc::new(array.as_string::<i32>().iter().map(|text| text.map(&mask)).collect::<StringArray>()),
    }
}

/// A uuid with zeros but for four of its digits; of other bytes nothing.
fn hidden(bytes: &[u8], shown: std::ops::Range<usize>) -> Vec<u8> {
    match bytes.len() {
        16 => bytes.iter().enumerate().map(|(i, byte)| if shown.contains(&i) { *byte } else { 0 }).collect(),
        _ => Vec::new(),
    }
}

fn alphanum(c: char) -> char {
    match c {
        '0'..='9' => 'n',
        '(' | ')' | ',' | '.' | '-' | '@' => c,
        _ => 'x',
    }
}

fn show_first_4(text: &str) -> String {
    text.chars().enumerate().map(|(i, c)| if i < 4 { c } else { alphanum(c) }).collect()
}

fn show_last_4(text: &str) -> String {
    let hidden = text.chars().count().saturating_sub(4);
    text.chars().enumerate().map(|(i, c)| if i < hidden { alphanum(c) } else { c }).collect()
}

/// Dates and timestamps at the start of their year or month, in UTC. What the calendar cannot hold becomes null.
fn truncate(array: &ArrayRef, start: impl Fn(NaiveDate) -> Option<NaiveDate>) -> ArrayRef {
    let epoch = NaiveDate::default();
    if array.data_type() == &DataType::Date32 {
        let day = |days: i32| {
            let date = epoch.checked_add_signed(chrono::TimeDelta::days(i64::from(days)))?;
            i32::try_from(start(date)?.signed_duration_since(epoch).num_days()).ok()
        };
        return Arc::new(array.as_primitive::<Date32Type>().unary_opt::<_, Date32Type>(day));
    }
    let micros = |micros: i64| {
        let date = chrono::DateTime::from_timestamp_micros(micros)?.date_naive();
        Some(NaiveDateTime::from(start(date)?).and_utc().timestamp_micros())
    };
    let out = array.as_primitive::<TimestampMicrosecondType>().unary_opt::<_, TimestampMicrosecondType>(micros);
    Arc::new(out.with_data_type(array.data_type().clone()))
}

/// The value that `mask-to-fixed-value` gives, null or not.
fn fixed_value(data_type: &DataType) -> Option<ScalarValue> {
    use DataType as D;
    let last_day = Date32Type::parse("9999-12-31")?;
    Some(match data_type {
        D::Boolean => ScalarValue::Boolean(Some(false)),
        D::Int32 => ScalarValue::Int32(Some(999_999_999)),
        D::Int64 => ScalarValue::Int64(Some(999_999_999)),
        D::Float32 => ScalarValue::Float32(Some(0.0)),
        D::Float64 => ScalarValue::Float64(Some(0.0)),
        D::Decimal128(precision, scale) => ScalarValue::Decimal128(Some(0), *precision, *scale),
        D::Utf8 => ScalarValue::Utf8(Some("XXXXXXXX".to_owned())),
        D::FixedSizeBinary(16) => ScalarValue::FixedSizeBinary(16, Some(vec![0; 16])),
        D::Binary => ScalarValue::Binary(Some(Vec::new())),
        D::LargeBinary => ScalarValue::LargeBinary(Some(Vec::new())),
        D::Date32 => ScalarValue::Date32(Some(last_day)),
        D::Time64(TimeUnit::Microsecond) => ScalarValue::Time64Microsecond(Some(0)),
        D::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(i64::from(last_day) * 86_400_000_000), zone.clone())
        }
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray};

    fn keys(salt: u8) -> MaskKeys {
        MaskKeys::new(b"one key per mesh".as_slice().into(), [salt; 16])
    }

    fn text(action: MaskAction, value: &str) -> String {
        let array: ArrayRef = Arc::new(StringArray::from(vec![Some(value), None]));
        let masked = Mask::new(action, keys(1)).apply(&array).unwrap();
        assert!(masked.is_null(1) || action == MaskAction::MaskToFixedValue, "null stays null");
        masked.as_string::<i32>().value(0).to_owned()
    }

    #[test]
    fn strings_show_what_their_action_says() {
        use MaskAction as A;
        let check = |action, value, expected| assert_eq!(text(action, value), expected, "{action}");
        check(A::MaskAlphanum, "N14-a@é.(7)", "xnn-x@x.(n)");
        check(A::ShowFirst4, "N14228", "N142nn");
        check(A::ShowLast4, "4111-1111-1111-4444", "nnnn-nnnn-nnnn-4444");
        check(A::ShowLast4, "abcd", "abcd");
        check(A::MaskToFixedValue, "N14228", "XXXXXXXX");
        assert_eq!(text(A::Sha256Global, "N14228").len(), 64);
    }

    #[test]
    fn one_value_has_one_global_hash_and_one_local_hash_per_query() {
        let of = |action, salt, value: &str| {
            let array: ArrayRef = Arc::new(StringArray::from(vec![value]));
            Mask::new(action, keys(salt)).apply(&array).unwrap().as_string::<i32>().value(0).to_owned()
        };
        let (global, local) = (MaskAction::Sha256Global, MaskAction::Sha256QueryLocal);
        assert_eq!(of(global, 1, "a"), of(global, 2, "a"));
        assert_ne!(of(global, 1, "a"), of(global, 1, "b"));
        assert_eq!(of(local, 1, "a"), of(local, 1, "a"));
        assert_ne!(of(local, 1, "a"), of(local, 2, "a"));
        let bare = hex::encode(Sha256::digest(b"a"));
        assert_ne!(of(global, 1, "a"), bare, "a hash without the key could be looked up");
    }

    #[test]
    fn times_begin_their_year_or_month() {
        let day = |date: &str| Date32Type::parse(date).unwrap();
        let array: ArrayRef = Arc::new(Date32Array::from(vec![Some(day("2013-02-28")), Some(day("1969-12-31")), None]));
        let year = Mask::new(MaskAction::TruncateToYear, keys(1)).apply(&array).unwrap();
        let month = Mask::new(MaskAction::TruncateToMonth, keys(1)).apply(&array).unwrap();
        assert_eq!(
            year.as_ref(),
            &Date32Array::from(vec![Some(day("2013-01-01")), Some(day("1969-01-01")), None]) as &dyn Array
        );
        assert_eq!(
            month.as_ref(),
            &Date32Array::from(vec![Some(day("2013-02-01")), Some(day("1969-12-01")), None]) as &dyn Array
        );
        let micros = |date| i64::from(day(date)) * 86_400_000_000;
        let array: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![micros("2013-02-28") + 5]).with_timezone("+00:00"));
        let year = Mask::new(MaskAction::TruncateToYear, keys(1)).apply(&array).unwrap();
        assert_eq!(year.as_primitive::<TimestampMicrosecondType>().value(0), micros("2013-01-01"));
        assert_eq!(year.data_type(), array.data_type());
    }

    #[test]
    fn no_value_fails() {
        let array: ArrayRef = Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX]));
        assert!(Mask::new(MaskAction::TruncateToYear, keys(1)).apply(&array).is_ok());
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX]));
        assert!(Mask::new(MaskAction::TruncateToMonth, keys(1)).apply(&array).is_ok());
    }

    /// What policies may ask for, of every type that a column of that logical type may have.
    #[test]
    fn what_a_policy_admits_can_be_masked() {
        let columns = [
            "string, physicalType: varchar",
            "string, physicalType: uuid",
            "string, logicalTypeOptions: {format: binary}",
            "integer",
            "integer, logicalTypeOptions: {format: i32}",
            "integer, logicalTypeOptions: {format: u64}",
            "integer, physicalType: 'decimal(9)'",
            "number",
            "number, logicalTypeOptions: {format: f32}",
            "number, physicalType: 'decimal(38,9)'",
            "boolean",
            "date",
            "time",
            "timestamp",
            "timestamp, logicalTypeOptions: {timezone: false}",
        ];
        for column in columns {
            let document = format!(
                "{{apiVersion: v3.2.0, kind: DataContract, id: x, version: 1.0.0, domain: d, schema: [{{name: t, \
                 properties: [{{name: c, logicalType: {column}}}]}}]}}"
            );
            let contract = mesh_contract::ProductContract::parse("x", &document).unwrap();
            let schema = mesh_lakehouse::schema::table_schema(&contract.iceberg_schema(None)).unwrap();
            let schema = iceberg::arrow::schema_to_arrow_schema(&schema).unwrap();
            let of = schema.field_with_name("c").unwrap().data_type();
            let logical_type = column.split(',').next().unwrap();
            for action in MaskAction::ALL.into_iter().filter(|action| action.fits(logical_type, false)) {
                assert!(Mask::fits(action, of), "{action} on {column}: {of}");
                let masked = Mask::new(action, keys(1)).apply(&new_null_array(of, 2)).unwrap();
                assert_eq!((masked.data_type(), masked.len()), (of, 2), "{action} on {column}");
            }
        }
    }

    #[test]
    fn bytes_and_decimals_show_what_their_action_says() {
        use MaskAction as A;
        let bytes: Vec<u8> = (1..=16).collect();
        let uuid = |action| {
            let values: ArrayRef = Arc::new(FixedSizeBinaryArray::new(16, bytes.clone().into(), None));
            let masked = Mask::new(action, keys(1)).apply(&values).unwrap();
            masked.as_fixed_size_binary().value(0).to_vec()
        };
        let all_but =
            |shown: &[usize]| (0..16).map(|i| if shown.contains(&i) { bytes[i] } else { 0 }).collect::<Vec<_>>();
        assert_eq!(uuid(A::ShowFirst4), all_but(&[0, 1]));
        assert_eq!(uuid(A::ShowLast4), all_but(&[14, 15]));
        assert_eq!((uuid(A::MaskAlphanum), uuid(A::MaskToFixedValue)), (vec![0; 16], vec![0; 16]));
        assert_eq!(uuid(A::Sha256Global), uuid(A::Sha256Global));
        assert!(uuid(A::Sha256Global) != bytes && uuid(A::Sha256Global) != uuid(A::Sha256QueryLocal));

        let values = arrow::array::Decimal128Array::from(vec![Some(5), None, Some(-7)]);
        let values: ArrayRef = Arc::new(values.with_precision_and_scale(5, 2).unwrap());
        let masked = Mask::new(A::Sha256Global, keys(1)).apply(&values).unwrap();
        let masked = masked.as_primitive::<Decimal128Type>();
        assert!(masked.is_null(1) && masked.value(0) != 5 && masked.value(0).abs() < 100_000);
        assert_eq!(masked.data_type(), &DataType::Decimal128(5, 2));

        let values: ArrayRef = Arc::new(LargeBinaryArray::from(vec![Some(b"secret".as_slice()), None]));
        let of = |action| Mask::new(action, keys(1)).apply(&values).unwrap();
        assert_eq!(of(A::Sha256Global).as_binary::<i64>().value(0).len(), 32);
        assert!(of(A::ShowLast4).as_binary::<i64>().value(0).is_empty() && of(A::ShowLast4).is_null(1));
    }

    #[test]
    fn keys_are_not_printed() {
        let printed = format!("{:?}", Mask::new(MaskAction::Sha256Global, keys(1)));
        assert!(!printed.contains("111") && printed.contains("MaskKeys(..)"), "{printed}");
    }
}
