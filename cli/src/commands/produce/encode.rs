//! One row as the event that its contract describes.
//!
//! In: a row. Out: the record's key and value: JSON, or Avro in the registry's framing.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_contract::types::{calendar, number};
use mesh_contract::{Column, ProductContract, Type, ValueFormat};
use schema_registry_converter::async_impl::avro::AvroEncoder;
use schema_registry_converter::async_impl::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema};
use serde_json::Value;

use super::rows::Fields;
use crate::error::CliError;
use crate::exit::Exit;

/// Turns rows into record values.
pub(crate) enum Encoder {
    Json,
    Avro { encoder: Box<AvroEncoder>, subject: Box<SubjectNameStrategy>, schema: Box<Schema> },
}

impl Encoder {
    /// The encoder of a contract; it looks up the schema's id in `registry` at the first Avro row.
    pub(crate) fn new(contract: &ProductContract, registry: &str, key: &str) -> Result<Self, CliError> {
        if contract.value_format() == ValueFormat::Json {
            return Ok(Self::Json);
        }
        let text = contract.avro_schema().to_string();
        let schema = Schema::parse_str(&text).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, text);
        let subject = SubjectNameStrategy::TopicNameStrategyWithSchema(contract.topic().to_owned(), false, supplied);
        let settings = SrSettings::new_builder(registry.to_owned()).set_token_authorization(key).no_proxy().build();
        let encoder = AvroEncoder::new(settings.map_err(|error| refused(&error))?);
        Ok(Self::Avro { encoder: Box::new(encoder), subject: Box::new(subject), schema: Box::new(schema) })
    }

    /// The record's value; a text says what does not fit.
    pub(crate) async fn value(&self, columns: &[Column], fields: &Fields) -> Result<Result<Vec<u8>, String>, CliError> {
        let Self::Avro { encoder, subject, schema } = self else {
            return Ok(serde_json::to_vec(fields).map_err(|e| e.to_string()));
        };
        let record = match record(columns, fields).and_then(|record| record.resolve(schema).map_err(|e| e.to_string()))
        {
            Ok(record) => record,
            Err(problem) => return Ok(Err(problem)),
        };
        encoder.encode_value(record, subject).await.map(Ok).map_err(|error| refused(&error))
    }
}

/// What may pass when it is tried again is the mesh's fault; all else is the registry's no.
fn refused(error: &SRCError) -> CliError {
    let why = error.cause.iter().map(|cause| format!(" ({cause})")).collect::<String>();
    let exit = if error.retriable { Exit::Fault } else { Exit::No };
    CliError::Registry { problem: format!("{}{why}", error.error), exit }
}

/// What a row lacks to be an event: nothing stands for a value that the contract requires.
pub(crate) fn missing(columns: &[Column], fields: &Fields) -> Result<(), String> {
    let absent = |column: &&Column| fields.get(column.record_name()).is_none_or(Value::is_null);
    match columns.iter().filter(|column| column.required).find(absent) {
        Some(column) => Err(format!("column `{}` has no value, and the contract requires one", column.original)),
        None => Ok(()),
    }
}

/// The record's key: of one key column its text, of several a JSON array, of none nothing.
pub(crate) fn key(contract: &ProductContract, fields: &Fields) -> Option<Vec<u8>> {
    let values: Vec<&Value> = contract
        .record_key_columns()
        .iter()
        .map(|column| fields.get(column.record_name()).unwrap_or(&Value::Null))
        .collect();
    match values.as_slice() {
        [] => None,
        [Value::String(text)] => Some(text.clone().into_bytes()),
        [one] => Some(one.to_string().into_bytes()),
        several => serde_json::to_vec(several).ok(),
    }
}

fn record(columns: &[Column], fields: &Fields) -> Result<Avro, String> {
    let field = |column: &Column| {
        let value = avro(column, fields.get(column.record_name()).unwrap_or(&Value::Null))?;
        Ok((column.record_name().to_owned(), value))
    };
    columns.iter().map(field).collect::<Result<_, String>>().map(Avro::Record)
}

/// A value in Avro, by its column's type: what Avro's own resolution would make of a text or a number in another type's
/// place is not what was meant (it takes a decimal's digits for its bytes).
fn avro(column: &Column, value: &Value) -> Result<Avro, String> {
    let wrong = |what: &str| format!("column `{}` holds {value}, which is not {what}", column.original);
    match (&column.ty, value) {
        (_, Value::Null) => Ok(Avro::Null),
        (Type::Boolean, Value::Bool(flag)) => Ok(Avro::Boolean(*flag)),
        (Type::Boolean, _) => Err(wrong("true or false")),
        (Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. }, value) => {
            number(&column.ty, value).ok_or_else(|| wrong(&format!("a value of type {}", column.ty)))
        }
        (Type::Struct(_) | Type::List(_) | Type::Map(..), value) => nested(column, value, &wrong),
        (ty, Value::String(text)) => scalar(ty, text).ok_or_else(|| wrong(expected(ty))),
        (ty, _) => Err(wrong(expected(ty))),
    }
}

/// A number of exactly its column's type; none if it does not fit.
fn number(ty: &Type, value: &Value) -> Option<Avro> {
    match ty {
        Type::Int => i32::try_from(value.as_i64()?).ok().map(Avro::Int),
        Type::Long => value.as_i64().map(Avro::Long),
        #[allow(clippy::cast_possible_truncation)] // To the nearest that 32 bits have, as the contract asks.
        Type::Float => value.as_f64().map(|number| number as f32).filter(|n| n.is_finite()).map(Avro::Float),
        Type::Double => value.as_f64().map(Avro::Double),
        Type::Decimal { precision, scale } => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            number::decimal(&text, *precision, *scale).ok().map(|digits| Avro::Decimal(digits.to_be_bytes().into()))
        }
        _ => None,
    }
}

/// A value that JSON has as a text; none if the text is no such value.
fn scalar(ty: &Type, text: &str) -> Option<Avro> {
    match ty {
        Type::String | Type::Uuid => Some(Avro::String(text.to_owned())),
        Type::Binary => BASE64.decode(text).ok().map(Avro::Bytes),
        Type::TimestampTz => calendar::instant(text).ok().map(Avro::TimestampMicros),
        Type::Timestamp => calendar::local(text).ok().map(Avro::LocalTimestampMicros),
        Type::Date => calendar::date(text).ok().map(Avro::Date),
        Type::Time => calendar::time(text).ok().map(Avro::TimeMicros),
        _ => None,
    }
}

fn expected(ty: &Type) -> &'static str {
    match ty {
        Type::TimestampTz => "an RFC 3339 time",
        Type::Timestamp => "an ISO 8601 time without zone",
        Type::Date => "a date",
        Type::Time => "a time of day",
        Type::Binary => "base64",
        _ => "a text",
    }
}

fn nested(column: &Column, value: &Value, wrong: &dyn Fn(&str) -> String) -> Result<Avro, String> {
    let child = |at: usize| column.children.get(at).ok_or_else(|| wrong("of the type that the contract states"));
    match (&column.ty, value) {
        (Type::Struct(_), Value::Object(fields)) => record(&column.children, fields),
        (Type::List(_), Value::Array(items)) => {
            let element = child(0)?;
            items.iter().map(|item| avro(element, item)).collect::<Result<_, _>>().map(Avro::Array)
        }
        (Type::Map(key, _), Value::Object(entries)) if key.ty == Type::String => {
            let value = child(1)?;
            let entry = |(key, item): (&String, &Value)| Ok((key.clone(), avro(value, item)?));
            entries.iter().map(entry).collect::<Result<_, String>>().map(Avro::Map)
        }
        _ => Err(wrong("of the type that the contract states")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::writer::datum::GenericDatumWriter;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    /// A product of one column, `x`, which may be null or not.
    fn product(column: &str, required: bool) -> ProductContract {
        let text = format!(
            "{{apiVersion: v3.1.0, kind: DataContract, id: u, version: 1.0.0, status: active, domain: d, \
             schema: [{{name: o, properties: [{{name: x, required: {required}, {column}}}]}}]}}"
        );
        ProductContract::parse("test", &text).unwrap()
    }

    /// The value as a reader of the written record has it, of a column that may be null and of one that may not.
    fn written(column: &str, value: &Value) -> Result<Avro, String> {
        let read = |required| {
            let contract = product(column, required);
            let columns = &contract.object().columns;
            let schema = Schema::parse_str(&contract.avro_schema().to_string()).unwrap();
            let fields = Fields::from_iter([("x".to_owned(), value.clone())]);
            let record = record(columns, &fields)?.resolve(&schema).map_err(|e| e.to_string())?;
            let bytes = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap();
            match GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut bytes.as_slice()).unwrap() {
                Avro::Record(fields) => Ok(fields.into_iter().next().unwrap().1),
                other => Err(format!("{other:?}")),
            }
        };
        let of_required = read(true)?;
        assert_eq!(read(false)?, Avro::Union(1, Box::new(of_required.clone())));
        Ok(of_required)
    }

    #[track_caller]
    fn check(column: &str, value: Value, wanted: Avro) {
        assert_eq!(written(column, &value), Ok(wanted));
    }

    #[track_caller]
    fn check_refused(column: &str, values: &[Value]) {
        for value in values {
            let error = written(column, value).unwrap_err();
            assert!(error.starts_with(&format!("column `x` holds {value}, which is not ")), "{error}");
        }
    }

    #[test]
    fn a_decimal_is_its_digits() {
        let decimal = |digits: i128| Avro::Decimal(digits.to_be_bytes().into());
        let money = "logicalType: number, physicalType: 'decimal(12,2)'";
        check(money, json!("12.50"), decimal(1250));
        check(money, json!("-0.07"), decimal(-7));
        check(money, json!("+3.1000"), decimal(310));
        check(money, json!(12.5), decimal(1250));
        check(money, json!(-4), decimal(-400));
        check(money, json!("1e3"), decimal(100_000));
        check_refused(money, &[json!("1.005"), json!("12345678901"), json!("1e-3"), json!(""), json!("."), json!("x")]);
        let unsigned = "logicalType: integer, logicalTypeOptions: {format: u64}";
        check(unsigned, json!("18446744073709551615"), decimal(i128::from(u64::MAX)));
        check(unsigned, json!(7), decimal(7));
        let longest = "logicalType: number, physicalType: 'decimal(38,0)'";
        check(longest, json!("-99999999999999999999999999999999999999"), decimal(1 - 10_i128.pow(38)));
        check_refused(longest, &[json!("100000000000000000000000000000000000000")]);
    }

    #[test]
    fn a_number_has_its_columns_type() {
        check("logicalType: number", json!(40), Avro::Double(40.0));
        check("logicalType: number", json!(1.5), Avro::Double(1.5));
        check("logicalType: number, logicalTypeOptions: {format: f32}", json!(1.5), Avro::Float(1.5));
        check("logicalType: integer", json!(-5), Avro::Long(-5));
        check("logicalType: integer, logicalTypeOptions: {format: i32}", json!(7), Avro::Int(7));
        check_refused("logicalType: integer", &[json!(1.5), json!("1"), json!(true)]);
        check_refused("logicalType: integer, logicalTypeOptions: {format: i32}", &[json!(2_147_483_648_i64)]);
        check_refused("logicalType: number", &[json!("x"), json!([])]);
        check_refused("logicalType: boolean", &[json!(1), json!("true")]);
    }

    #[test]
    fn a_text_is_what_its_column_says() {
        check("logicalType: string", json!("12"), Avro::String("12".into()));
        check("logicalType: string, physicalType: binary", json!("AP8="), Avro::Bytes(vec![0, 255]));
        check("logicalType: date", json!("1970-01-03"), Avro::Date(2));
        check("logicalType: time", json!("00:00:01.5"), Avro::TimeMicros(1_500_000));
        check("logicalType: timestamp", json!("1970-01-01T01:00:00+01:00"), Avro::TimestampMicros(0));
        let plain = "logicalType: timestamp, logicalTypeOptions: {timezone: false}";
        check(plain, json!("1970-01-01T00:00:01"), Avro::LocalTimestampMicros(1_000_000));
        let uuid = "1481531d-ccc9-46d9-a56f-5b67459c0537";
        let read = written("logicalType: string, physicalType: uuid", &json!(uuid)).unwrap();
        assert!(matches!(read, Avro::Uuid(read) if read.to_string() == uuid), "{read:?}");
        check_refused("logicalType: string, physicalType: binary", &[json!("A"), json!(1)]);
        check_refused("logicalType: timestamp", &[json!("yesterday"), json!(0)]);
        check_refused(plain, &[json!("1970-01-01T00:00:01Z")]);
        check_refused("logicalType: date", &[json!("1970-13-01"), json!("70-01-01"), json!("10000-01-01")]);
        check_refused("logicalType: time", &[json!("23:59:60"), json!("24:00:00")]);
    }

    #[test]
    fn a_nested_value_is_its_parts() {
        let optional = |value| Avro::Union(1, Box::new(value));
        let list = "logicalType: array, items: {logicalType: number, physicalType: 'decimal(4,1)'}";
        check(list, json!(["1.5"]), Avro::Array(vec![optional(Avro::Decimal(15_i128.to_be_bytes().into()))]));
        check_refused(list, &[json!({}), json!("[]")]);
        let object = "logicalType: object, properties: [{name: y, logicalType: integer}]";
        check(object, json!({"y": 1}), Avro::Record(vec![("y".into(), optional(Avro::Long(1)))]));
        check_refused(object, &[json!([])]);
    }
}
