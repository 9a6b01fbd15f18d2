//! What the standard leaves open and a mesh must know: names, topic, format, event time, how a table is kept.
//! In: a contract. Out: its settings; each that is wrong is a finding at its place.
//! Never: a default where the document says something else.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::refusals::{Refusals, SETTING};
use super::{StartFrom, UpkeepSettings, ValueFormat};
use crate::custom::CustomProperties;
use crate::duration;
use crate::model::{Contract, SchemaObject};
use crate::names::{Major, Product, fold, fold_column};
use crate::sla::SlaProperty;
use crate::types::Type;

const OBJECTS: &str = "MESH-CONTRACT-0040";
const NAME: &str = "MESH-CONTRACT-0041";
const MISSING: &str = "MESH-CONTRACT-0042";
const COLUMN: &str = "MESH-CONTRACT-0043";
const UPSERT: &str = "MESH-PUBLISHER-0018";

/// Where the schema object's custom properties are.
const OBJECT: &str = "/schema/0";

/// Bounds of `commitInterval`: below, a table is all snapshots; above, its offsets lag behind for hours after a crash.
const COMMIT_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// Longest id: ids are record keys, and are in every event about the document.
const LONGEST_ID: usize = 255;

/// The one schema object, whose columns have types and constraints that can be checked.
pub(super) fn object<'a>(contract: &'a Contract, refusals: &mut Refusals<'_>) -> Option<&'a SchemaObject> {
    let [object] = contract.objects.as_slice() else {
        let found = contract.objects.len();
        let message = format!("the contract has {found} schema objects, and a product has exactly one");
        let pointer = if found > 1 { "/schema/1" } else { "" };
        refusals.add(OBJECTS, pointer, message, "write one contract per object");
        return None;
    };
    for untyped in &object.untyped {
        let message = format!("a mesh cannot run column {}: {}", untyped.column, untyped.reason);
        refusals.add(COLUMN, &untyped.pointer, message, "the standard allows it; `mesh apply` will not");
    }
    if object.columns.is_empty() && object.untyped.is_empty() {
        refusals.add(MISSING, OBJECT, "the schema object has no columns", "list the `properties` that records have");
    }
    Some(object)
}

pub(super) fn id(contract: &Contract, refusals: &mut Refusals<'_>) {
    let length = contract.id.as_str().chars().count();
    if length > LONGEST_ID {
        refusals.add(SETTING, "/id", format!("the id has {length} characters"), format!("use at most {LONGEST_ID}"));
    }
}

/// No tool has filled in the document's variables: a mesh would take `${DOMAIN}` for a name.
fn filled_in(pointer: &str, text: &str, refusals: &mut Refusals<'_>) -> bool {
    let is_variable = text.contains("${");
    if is_variable {
        refusals.add(SETTING, pointer, format!("`{text}` names a variable, and a mesh has none"), "write the value");
    }
    !is_variable
}

pub(super) fn object_name(object: &SchemaObject, refusals: &mut Refusals<'_>) -> Option<String> {
    if !filled_in("/schema/0/name", &object.original, refusals) {
        return None;
    }
    match fold(&object.original) {
        Ok(name) => Some(name),
        Err(error) => {
            refusals.add(NAME, "/schema/0/name", error.to_string(), "choose a name that starts with a letter a-z");
            None
        }
    }
}

/// `domain`, and `dataProduct` or else the object's name.
pub(super) fn product(contract: &Contract, object: &SchemaObject, refusals: &mut Refusals<'_>) -> Option<Product> {
    let name = contract.data_product.as_deref().unwrap_or(&object.original);
    let at = if contract.data_product.is_some() { "/dataProduct" } else { "/schema/0/name" };
    let named = filled_in(at, name, refusals);
    let Some(domain) = contract.domain.as_deref() else {
        refusals.add(MISSING, "", "the contract has no `domain`", "write the domain that owns the product");
        return None;
    };
    if !filled_in("/domain", domain, refusals) || !named {
        return None;
    }
    match Product::new(domain, name) {
        Ok(product) => Some(product),
        Err(error) => {
            let at = if Product::new(domain, "p").is_err() { "/domain" } else { at };
            // The schema object's name is refused where it is read.
            if at != "/schema/0/name" {
                refusals.add(NAME, at, error.to_string(), "choose a name that starts with a letter a-z");
            }
            None
        }
    }
}

pub(super) fn major(contract: &Contract, refusals: &mut Refusals<'_>) -> Option<Major> {
    let version = crate::version::Version::parse(&contract.version);
    let major = version.and_then(|version| u32::try_from(version.major()).ok()).map(Major);
    if major.is_none() {
        let message = format!("`version: {}` is not of the form 1.2.3", contract.version);
        refusals.add(SETTING, "/version", message, "write major.minor.patch, such as 1.0.0");
    }
    major
}

/// The object's `physicalName` if its `physicalType` is `topic`, else `<domain>.<product>.v<major>`.
pub(super) fn topic(object: &SchemaObject, derived: Option<String>, refusals: &mut Refusals<'_>) -> Option<String> {
    let is_topic = object.physical_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("topic"));
    let stated = object.physical_name.clone().filter(|_| is_topic);
    let at = if stated.is_some() { "/schema/0/physicalName" } else { OBJECT };
    let topic = stated.or(derived)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) || topic == "." || topic == ".." {
        let message = format!("`{topic}` is no topic name");
        refusals.add(SETTING, at, message, "use up to 249 letters, digits, `.`, `_`, `-`");
        return None;
    }
    if topic.starts_with("mesh.") || topic.starts_with("__") {
        let message = format!("topic `{topic}`: `mesh.*` and `__*` are not for products");
        refusals.add(SETTING, at, message, "choose another name");
        return None;
    }
    Some(topic)
}

/// The Kafka server's `format`; several servers must agree.
pub(super) fn value_format(contract: &Contract, refusals: &mut Refusals<'_>) -> ValueFormat {
    let mut found = None;
    for (i, server) in contract.servers.iter().enumerate().filter(|(_, server)| server.kind == "kafka") {
        let Some(text) = server.properties.get("format").and_then(Value::as_str) else {
            continue;
        };
        let at = format!("/servers/{i}/format");
        let format = match text.to_lowercase().as_str() {
            "avro" => ValueFormat::Avro,
            "json" => ValueFormat::Json,
            _ => {
                let message = format!("server `{}` has `format: {text}`, which a mesh cannot read", server.server);
                refusals.add(SETTING, &at, message, "write avro or json");
                continue;
            }
        };
        if found.is_some_and(|before| before != format) {
            let message = "the Kafka servers have different formats, and one topic has one format";
            refusals.add(SETTING, &at, message, "write the same format for all of them");
        }
        found = Some(format);
    }
    found.unwrap_or(ValueFormat::Avro)
}

/// Object customProperty `eventTime`, else the element of `latency`, if they name a date or timestamp column.
pub(super) fn event_time(contract: &Contract, object: &SchemaObject, refusals: &mut Refusals<'_>) -> Option<String> {
    let find = |name: &str| {
        let folded = fold_column(name).unwrap_or_default();
        object.columns.iter().find(|c| c.original == name || c.name == folded)
    };
    let is_time = |ty: &Type| matches!(ty, Type::Date | Type::Timestamp | Type::TimestampTz);
    if let Some(value) = object.custom_properties.get("eventTime") {
        let column = value.as_str().and_then(find).filter(|column| is_time(&column.ty));
        if column.is_none() {
            let message = format!(
                "customProperty `eventTime: {}` names no date or timestamp column of {}",
                shown(value),
                object.original
            );
            refusals.add(SETTING, &custom_at(contract, OBJECT, "eventTime"), message, "name one, or leave it out");
        }
        return column.map(|column| column.name.clone());
    }
    let element = contract.sla.iter().find(|s| s.is("latency")).and_then(|s| s.element.as_deref());
    let column = element.and_then(|e| e.split(',').next()).and_then(|e| e.trim().rsplit('.').next()).and_then(find);
    column.filter(|column| is_time(&column.ty)).map(|column| column.name.clone())
}

/// How the object's custom properties want its table fed and kept.
pub(super) fn upkeep(contract: &Contract, object: &SchemaObject, refusals: &mut Refusals<'_>) -> UpkeepSettings {
    let custom = &object.custom_properties;
    let mut read = |name: &str, expected: &str, fits: &dyn Fn(&Value) -> bool| {
        if let Some(value) = custom.get(name).filter(|value| !fits(value)) {
            let message = format!("customProperty `{name}: {}` is not understood", shown(value));
            refusals.add(SETTING, &custom_at(contract, OBJECT, name), message, expected);
        }
    };
    let interval = |value: &Value| commit_interval(value).is_some();
    read("commitInterval", "write a length of time from 100ms to 1h, such as 500ms or 10s", &interval);
    let start = "write earliest-available, or leave it out to start at the topic's first record";
    read("startFrom", start, &|value| value.as_str() == Some("earliest-available"));
    let number = |value: &Value| snapshots(value).is_some();
    read("minSnapshotsToKeep", "write a whole number of 1 or more", &number);
    let mode = |value: &Value| matches!(value.as_str(), Some("append" | "upsert"));
    read("writeMode", "write append, or leave it out", &mode);
    if let Some(value) = custom.get("closed").filter(|value| flag(value).is_none()) {
        let message = format!("customProperty `closed: {}` is not understood", shown(value));
        refusals.add_at_admission(&custom_at(contract, OBJECT, "closed"), message, "write true or false");
    }
    if custom.text("writeMode") == Some("upsert") {
        let message = "`writeMode: upsert`: ingest only appends so far, and would stop the table";
        let remedy = "write `append`, or leave the property out; read the newest row of a key by SQL";
        refusals.add(UPSERT, &custom_at(contract, OBJECT, "writeMode"), message, remedy);
    }
    UpkeepSettings {
        commit_interval: custom.get("commitInterval").and_then(commit_interval),
        start_from: match custom.get("startFrom") {
            Some(_) => StartFrom::EarliestAvailable,
            None => StartFrom::WholeLog,
        },
        min_snapshots_to_keep: custom.get("minSnapshotsToKeep").and_then(snapshots),
    }
}

fn commit_interval(value: &Value) -> Option<Duration> {
    duration::parse(value.as_str()?).ok().filter(|interval| COMMIT_INTERVAL.contains(interval))
}

fn snapshots(value: &Value) -> Option<u32> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    // The table property is an integer of 32 bits.
    i32::try_from(number).ok().filter(|number| *number > 0).map(i32::cast_unsigned)
}

fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// Promises that would otherwise be ignored in silence.
pub(super) fn promises(contract: &Contract, refusals: &mut Refusals<'_>) {
    for name in ["latency", "retention"] {
        let stated: Vec<(usize, &SlaProperty)> =
            contract.sla.iter().enumerate().filter(|(_, sla)| sla.is(name)).collect();
        if let [_, (again, _), ..] = stated.as_slice() {
            let message = format!("SLA `{name}` is there {} times", stated.len());
            refusals.add(SETTING, &format!("/slaProperties/{again}"), message, "keep one");
        }
        if let Some((i, sla)) = stated.first().filter(|(_, sla)| sla.duration().is_none()) {
            let message = format!("SLA `{name}: {}` is no length of time", shown(&sla.value));
            let remedy = "write a number, and a `unit` such as h or d";
            refusals.add(SETTING, &format!("/slaProperties/{i}/value"), message, remedy);
        }
    }
}

/// A setting that is read in another place of the document: there, or under another spelling, it would be ignored.
pub(super) fn misplaced(contract: &Contract, object: &SchemaObject, refusals: &mut Refusals<'_>) {
    const OF_OBJECT: [&str; 6] =
        ["eventTime", "closed", "writeMode", "commitInterval", "startFrom", "minSnapshotsToKeep"];
    let plain = |name: &str| name.to_lowercase().replace(['_', '-', ' '], "");
    let mut check = |owner: &CustomProperties, pointer: &str, is_object: bool| {
        for name in owner.0.keys() {
            let Some(known) = OF_OBJECT.iter().find(|known| plain(known) == plain(name)) else {
                continue;
            };
            let at = custom_at(contract, pointer, name);
            match (is_object, *known == name) {
                (true, true) => {}
                (true, false) => {
                    refusals.warn(&at, format!("`{name}` is not read"), format!("did you mean `{known}`?"))
                }
                (false, _) => {
                    let message = format!("customProperty `{name}` is read at the schema object only");
                    refusals.warn(&at, message, "move it to the object's `customProperties`, or leave it out");
                }
            }
        }
    };
    check(&contract.custom_properties, "", false);
    check(&object.custom_properties, OBJECT, true);
}

/// The pointer to a custom property's value, if it is there: a name's last value wins.
pub(super) fn custom_place(contract: &Contract, owner: &str, name: &str) -> Option<String> {
    let entries = contract.document.pointer(&format!("{owner}/customProperties"))?.as_array()?;
    let place = entries.iter().rposition(|entry| entry["property"] == name)?;
    Some(format!("{owner}/customProperties/{place}/value"))
}

/// The pointer to a custom property's value; to its owner if it is not there.
fn custom_at(contract: &Contract, owner: &str, name: &str) -> String {
    custom_place(contract, owner, name).unwrap_or_else(|| owner.to_owned())
}

/// A value for a message: text without quotes.
pub(super) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
