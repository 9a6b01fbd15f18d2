//! One row as the event that its contract describes.
//!
//! In: a row. Out: the record's key and value: JSON, or Avro in the registry's framing.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
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
    /// The encoder of a contract; `registry` is asked for the schema's id at the first Avro row.
    pub(crate) fn new(contract: &ProductContract, registry: &str, key: &str) -> Result<Self, CliError> {
        if contract.value_format() == ValueFormat::Json {
            return Ok(Self::Json);
        }
        let text = contract.avro_schema().to_string();
        let schema = Schema::parse_str(&text).map_err(|e| CliError::BadAnswer { problem: e.to_string() })?;
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, text);
        let subject = SubjectNameStrategy::TopicNameStrategyWithSchema(contract.topic().to_owned(), false, supplied);
        let settings = SrSettings::new_builder(registry.to_owned()).set_token_authorization(key).build();
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

/// A value in Avro; the times of day and of history are texts in JSON and numbers here.
fn avro(column: &Column, value: &Value) -> Result<Avro, String> {
    let wrong = |what: &str| format!("column `{}` holds {value}, which is not {what}", column.original);
    let child = |at: usize| column.children.get(at).ok_or_else(|| wrong("of the type that the contract states"));
    match (&column.ty, value) {
        (_, Value::Null) => Ok(Avro::Null),
        (Type::TimestampTz, Value::String(text)) => {
            let at = DateTime::parse_from_rfc3339(text).map_err(|_| wrong("an RFC 3339 time"))?;
            Ok(Avro::TimestampMicros(at.timestamp_micros()))
        }
        (Type::Timestamp, Value::String(text)) => {
            let at: NaiveDateTime = text.parse().map_err(|_| wrong("an ISO 8601 time without zone"))?;
            Ok(Avro::LocalTimestampMicros(at.and_utc().timestamp_micros()))
        }
        (Type::Date, Value::String(text)) => {
            let day: NaiveDate = text.parse().map_err(|_| wrong("a date"))?;
            let days = day.signed_duration_since(NaiveDate::default()).num_days();
            i32::try_from(days).map(Avro::Date).map_err(|_| wrong("a date that Avro can hold"))
        }
        (Type::Time, Value::String(text)) => {
            let time: NaiveTime = text.parse().map_err(|_| wrong("a time of day"))?;
            let micros = time.signed_duration_since(NaiveTime::MIN).num_microseconds();
            micros.map(Avro::TimeMicros).ok_or_else(|| wrong("a time of day"))
        }
        (Type::Struct(_), Value::Object(fields)) => record(&column.children, fields),
        (Type::List(_), Value::Array(items)) => {
            let element = child(0)?;
            items.iter().map(|item| avro(element, item)).collect::<Result<_, _>>().map(Avro::Array)
        }
        (Type::Map(..), Value::Object(entries)) => {
            let value = child(1)?;
            let entry = |(key, item): (&String, &Value)| Ok((key.clone(), avro(value, item)?));
            entries.iter().map(entry).collect::<Result<_, String>>().map(Avro::Map)
        }
        (_, Value::Bool(flag)) => Ok(Avro::Boolean(*flag)),
        (_, Value::String(text)) => Ok(Avro::String(text.clone())),
        (_, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(Avro::Long(integer)),
            (None, Some(float)) => Ok(Avro::Double(float)),
            (None, None) => Err(wrong("a number that Avro can hold")),
        },
        _ => Err(wrong("of the type that the contract states")),
    }
}
