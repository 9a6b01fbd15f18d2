//! What the standard leaves open and a mesh must know: names, topic, format, partition, event time.
//! Each function reads one setting of a contract, or says what to write instead.

use std::time::Duration;

use serde_json::Value;

use crate::duration;
use crate::error::ContractError;
use crate::model::{Column, Contract, SchemaObject};
use crate::names::{Major, Product, fold};
use crate::partition::{PartitionField, PartitionSpec};
use crate::product::{StartFrom, Upkeep, ValueFormat};
use crate::sla::SlaProperty;
use crate::types::Type;

fn setting(contract: &Contract, reason: String) -> ContractError {
    ContractError::Setting { id: contract.id.to_string(), reason }
}

/// Every column has a type and constraints that can be checked.
pub(super) fn typed(contract: &Contract, object: &SchemaObject) -> Result<(), ContractError> {
    if let Some(untyped) = object.untyped.first() {
        return Err(ContractError::Type {
            id: contract.id.to_string(),
            column: untyped.column.clone(),
            reason: untyped.reason.clone(),
        });
    }
    if object.columns.is_empty() {
        return Err(ContractError::Missing {
            id: contract.id.to_string(),
            field: "schema.properties",
            remedy: "list the properties that records have",
        });
    }
    Ok(())
}

/// No tool has filled in the document's variables: a mesh would take `${DOMAIN}` for a name.
fn filled_in<'a>(contract: &Contract, field: &str, text: &'a str) -> Result<&'a str, ContractError> {
    match text.contains("${") {
        true => Err(setting(contract, format!("`{field}: {text}` names a variable: a mesh has none, write the value"))),
        false => Ok(text),
    }
}

pub(super) fn object_name(contract: &Contract, object: &SchemaObject) -> Result<String, ContractError> {
    filled_in(contract, "name", &object.original)?;
    fold(&object.original).map_err(|source| ContractError::Name {
        id: contract.id.to_string(),
        what: "the schema object's `name`",
        source,
    })
}

/// `domain`, and `dataProduct` or else the object's name.
pub(super) fn product(contract: &Contract, object: &SchemaObject) -> Result<Product, ContractError> {
    let domain = contract.domain.as_deref().ok_or_else(|| ContractError::Missing {
        id: contract.id.to_string(),
        field: "domain",
        remedy: "write the domain that owns the product",
    })?;
    let name = contract.data_product.as_deref().unwrap_or(&object.original);
    let (domain, name) = (filled_in(contract, "domain", domain)?, filled_in(contract, "dataProduct", name)?);
    Product::new(domain, name).map_err(|source| ContractError::Name {
        id: contract.id.to_string(),
        what: "`domain` or `dataProduct`",
        source,
    })
}

pub(super) fn major(contract: &Contract) -> Result<Major, ContractError> {
    crate::version::Version::parse(&contract.version)
        .and_then(|version| u32::try_from(version.major()).ok())
        .map(Major)
        .ok_or_else(|| setting(contract, format!("`version: {}` is not of the form 1.2.3", contract.version)))
}

/// The object's `physicalName` if its `physicalType` is `topic`, else `<domain>.<product>.v<major>`.
pub(super) fn topic(
    contract: &Contract,
    object: &SchemaObject,
    product: &Product,
    major: Major,
) -> Result<String, ContractError> {
    let is_topic = object.physical_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("topic"));
    let topic = match (&object.physical_name, is_topic) {
        (Some(name), true) => name.clone(),
        _ => format!("{product}.v{major}"),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) || topic == "." || topic == ".." {
        return Err(setting(
            contract,
            format!("`physicalName: {topic}` is no topic name: use up to 249 letters, digits, `.`, `_`, `-`"),
        ));
    }
    if topic.starts_with("mesh.") || topic.starts_with("__") {
        return Err(setting(
            contract,
            format!("topic `{topic}`: `mesh.*` and `__*` are not for products: choose another"),
        ));
    }
    Ok(topic)
}

/// The Kafka server's `format`; several servers must agree.
pub(super) fn value_format(contract: &Contract) -> Result<ValueFormat, ContractError> {
    let mut found = None;
    for server in contract.servers.iter().filter(|server| server.kind == "kafka") {
        let Some(text) = server.properties.get("format").and_then(Value::as_str) else {
            continue;
        };
        let format = match text.to_lowercase().as_str() {
            "avro" => ValueFormat::Avro,
            "json" => ValueFormat::Json,
            _ => {
                let reason = format!("server `{}` has `format: {text}`: write avro or json", server.server);
                return Err(setting(contract, reason));
            }
        };
        if found.is_some_and(|before| before != format) {
            let reason = "its Kafka servers have different formats: one topic has one format".to_owned();
            return Err(setting(contract, reason));
        }
        found = Some(format);
    }
    Ok(found.unwrap_or(ValueFormat::Avro))
}

/// A record key is never null and has a text form.
pub(super) fn key(contract: &Contract, object: &SchemaObject) -> Result<(), ContractError> {
    for column in object.columns.iter().filter(|c| c.primary_key_position.is_some()) {
        if !column.required {
            let reason = format!("primary key column {} may be null: add `required: true`", column.name);
            return Err(setting(contract, reason));
        }
        if !column.ty.is_primitive() || matches!(column.ty, Type::Float | Type::Double | Type::Binary) {
            let reason = format!("primary key column {} is {}: keys are text, numbers, dates", column.name, column.ty);
            return Err(setting(contract, reason));
        }
    }
    Ok(())
}

/// Records in JSON carry dates and times in ISO 8601; another `format` would be misread.
pub(super) fn json_formats(
    contract: &Contract,
    object: &SchemaObject,
    format: ValueFormat,
) -> Result<(), ContractError> {
    let properties = contract.document.pointer("/schema/0/properties").unwrap_or(&Value::Null);
    if format == ValueFormat::Avro {
        return Ok(());
    }
    match foreign_format(properties) {
        None => Ok(()),
        Some((name, text)) => Err(setting(
            contract,
            format!("{}.{name} has `format: {text}`: JSON records carry ISO 8601 dates and times", object.original),
        )),
    }
}

/// The first temporal property with a format of its own: among properties, and inside each.
fn foreign_format(properties: &Value) -> Option<(String, String)> {
    properties.as_array().into_iter().flatten().find_map(|property| {
        let name = property.get("name").and_then(Value::as_str).unwrap_or_default();
        foreign_inside(property).map(|format| (name.to_owned(), format))
    })
}

fn foreign_inside(property: &Value) -> Option<String> {
    let temporal = matches!(property.get("logicalType").and_then(Value::as_str), Some("date" | "time" | "timestamp"));
    let format = property.pointer("/logicalTypeOptions/format").and_then(Value::as_str).filter(|_| temporal);
    let foreign = format.filter(|format| {
        let plain: String = format.chars().filter(|c| *c != '\'').collect();
        !plain.starts_with("yyyy-MM-dd") && !plain.starts_with("HH:mm")
    });
    let parts = ["/items", "/map/key", "/map/value"];
    foreign
        .map(str::to_owned)
        .or_else(|| parts.iter().filter_map(|part| property.pointer(part)).find_map(foreign_inside))
        .or_else(|| property.get("properties").and_then(foreign_format).map(|(_, format)| format))
}

pub(super) fn partition(contract: &Contract, object: &SchemaObject) -> Result<PartitionSpec, ContractError> {
    let mut columns: Vec<(u32, PartitionField, &Column)> = object
        .columns
        .iter()
        .filter_map(|column| {
            let (position, transform) = column.partition?;
            let name = transform.field_name(&column.name);
            Some((position, PartitionField { column: column.name.clone(), name, transform }, column))
        })
        .collect();
    columns.sort_by_key(|(position, ..)| *position);
    for (_, field, column) in &columns {
        if !field.transform.accepts(&column.ty) {
            let reason =
                format!("column {} is {}: it cannot be partitioned by {}", column.name, column.ty, field.transform);
            return Err(setting(contract, reason));
        }
        let taken = field.name != field.column && object.columns.iter().any(|c| c.name == field.name);
        if taken {
            let reason = format!("partition field {} has the name of a column: rename the column", field.name);
            return Err(setting(contract, reason));
        }
    }
    Ok(PartitionSpec { fields: columns.into_iter().map(|(_, field, _)| field).collect() })
}

/// Object customProperty `eventTime`, else the element of `latency`, if they name a date or timestamp column.
pub(super) fn event_time(contract: &Contract, object: &SchemaObject) -> Result<Option<String>, ContractError> {
    let find = |name: &str| {
        let folded = crate::names::fold_column(name).unwrap_or_default();
        object.columns.iter().find(|c| c.original == name || c.name == folded)
    };
    let is_time = |column: &&Column| matches!(column.ty, Type::Date | Type::Timestamp | Type::TimestampTz);
    if let Some(value) = object.custom_properties.get("eventTime") {
        let name = value.as_str().unwrap_or_default();
        return match find(name).filter(is_time) {
            Some(column) => Ok(Some(column.name.clone())),
            None => Err(setting(
                contract,
                format!("customProperty `eventTime: {value}` names no date or timestamp column of {}", object.original),
            )),
        };
    }
    let element = contract.sla.iter().find(|s| s.is("latency")).and_then(|s| s.element.as_deref());
    let column = element.and_then(|e| e.split(',').next()).and_then(|e| e.trim().rsplit('.').next()).and_then(find);
    Ok(column.filter(is_time).map(|column| column.name.clone()))
}

/// Custom properties whose value would otherwise be ignored in silence.
pub(super) fn flags(contract: &Contract, object: &SchemaObject) -> Result<(), ContractError> {
    match object.custom_properties.get("writeMode").map(|v| v.as_str().unwrap_or_default()) {
        None | Some("append" | "upsert") => {}
        Some(other) => {
            return Err(setting(contract, format!("customProperty `writeMode: {other}`: write append or upsert")));
        }
    }
    for name in ["latency", "retention"] {
        let stated: Vec<&SlaProperty> = contract.sla.iter().filter(|s| s.is(name)).collect();
        if stated.len() > 1 {
            return Err(setting(contract, format!("SLA `{name}` is there {} times: keep one", stated.len())));
        }
        if let Some(sla) = stated.first().filter(|s| s.duration().is_none()) {
            return Err(setting(
                contract,
                format!(
                    "SLA `{name}: {}` is no length of time: write a number, and a `unit` such as h or d",
                    sla.value
                ),
            ));
        }
    }
    Ok(())
}

/// Bounds of `commitInterval`: below, a table is all snapshots; above, its offsets lag behind for hours after a crash.
const COMMIT_INTERVAL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3_600)];

/// How the object's custom properties want its table fed and kept.
pub(super) fn upkeep(contract: &Contract, object: &SchemaObject) -> Result<Upkeep, ContractError> {
    let wrong = |name: &str, value: &Value, why: &str| {
        setting(
            contract,
            format!(
                "customProperty `{name}: {}` {why}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ),
        )
    };
    let mut upkeep = Upkeep::default();
    if let Some(value) = object.custom_properties.get("commitInterval") {
        let interval = value.as_str().and_then(|text| duration::parse(text).ok());
        let [least, most] = COMMIT_INTERVAL;
        let inside = interval.filter(|interval| (least..=most).contains(interval));
        let why = "is no length of time from 100ms to 1h: write a number and a unit, such as 500ms or 10s";
        upkeep.commit_interval = Some(inside.ok_or_else(|| wrong("commitInterval", value, why))?);
    }
    if let Some(value) = object.custom_properties.get("startFrom") {
        let why = "is not known: write earliest-available, or leave it out to start at the topic's first record";
        upkeep.start_from = match value.as_str() {
            Some("earliest-available") => StartFrom::EarliestAvailable,
            _ => return Err(wrong("startFrom", value, why)),
        };
    }
    if let Some(value) = object.custom_properties.get("minSnapshotsToKeep") {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (1..=i32::MAX as u32).contains(number));
        let why = "is no number of snapshots: write a whole number of 1 or more";
        upkeep.min_snapshots_to_keep = Some(number.ok_or_else(|| wrong("minSnapshotsToKeep", value, why))?);
    }
    Ok(upkeep)
}
