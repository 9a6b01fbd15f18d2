//! Service levels: units of time that are known, elements that are there.

use serde_json::Value;

use super::{Notes, list, references, text, written};
use crate::duration;
use crate::sla::canonical;
use crate::standard::words;

const UNIT: &str = "MESH-CONTRACT-0027";

/// The standard's properties whose value is a length of time.
const TIMES: [&str; 7] =
    ["latency", "retention", "frequency", "timetodetect", "timetonotify", "timetorepair", "timeliness"];

pub(super) fn check(document: &Value, notes: &mut Notes) {
    let mut known = references::Known::new(document);
    if let Some(element) = text(document, "slaDefaultElement") {
        references::element(&mut known, element, "/slaDefaultElement", notes);
    }
    for (pointer, sla) in list(document, "slaProperties", "") {
        if let Some(element) = text(sla, "element") {
            references::element(&mut known, element, &format!("{pointer}/element"), notes);
        }
        let property = text(sla, "property").unwrap_or_default();
        if TIMES.contains(&canonical(property).as_str()) {
            length_of_time(sla, property, &pointer, notes);
        }
    }
}

fn length_of_time(sla: &Value, property: &str, pointer: &str, notes: &mut Notes) {
    let number = sla.get("value").and_then(|v| v.as_f64().or_else(|| v.as_str()?.trim().parse().ok()));
    match written(sla, "unit") {
        Some(unit) if duration::seconds(unit).is_none() => {
            let hint = words::did_you_mean(unit, ["seconds", "minutes", "hours", "days", "weeks", "months", "years"]);
            let message = format!("`{unit}` is no unit of time, and `{property}` is a length of time");
            notes.error(UNIT, &format!("{pointer}/unit"), message, format!("{hint}write s, min, h, d, w, month or y"));
        }
        Some(unit @ ("m" | "M")) => {
            let message = format!("`{unit}` is read as minutes");
            notes.warning(UNIT, &format!("{pointer}/unit"), message, "write min or month");
        }
        None if number.is_some() && text(sla, "unit").is_none() => {
            let message = format!("`{property}` has a number without a `unit`, so its length is unknown");
            notes.warning(UNIT, pointer, message, "add `unit: h`, `unit: d` or another unit of time");
        }
        _ => {}
    }
    if number.is_some_and(|n| n < 0.0) {
        let message = format!("`{property}` is less than nothing");
        notes.error("MESH-CONTRACT-0023", &format!("{pointer}/value"), message, "write a positive number");
    }
}
