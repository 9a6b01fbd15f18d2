//! `version` follows semantic versioning, and dates are dates.

use chrono::NaiveDate;
use serde_json::Value;

use super::{Kind, Notes, list, text, written};
use crate::scalar::timestamp;
use crate::version::Version;

const VERSION: &str = "MESH-CONTRACT-0020";
const DATE: &str = "MESH-CONTRACT-0009";

pub(super) fn check(kind: Kind, document: &Value, notes: &mut Notes) {
    version_of(document, "", notes);
    if kind == Kind::Odps {
        for ports in ["inputPorts", "outputPorts"] {
            for (pointer, port) in list(document, ports, "") {
                version_of(port, &pointer, notes);
                for (pointer, input) in list(port, "inputContracts", &pointer) {
                    version_of(input, &pointer, notes);
                }
            }
        }
    }
    for name in ["contractCreatedTs", "productCreatedTs"] {
        // The text asks for ISO 8601 in UTC: without an offset it is UTC.
        if let Some(stamp) = written(document, name).filter(|stamp| timestamp(stamp).is_none()) {
            let message = format!("`{stamp}` is no date and time");
            notes.error(DATE, &format!("/{name}"), message, "write it like 2026-01-31T12:00:00Z");
        }
    }
    let members = document.get("team").filter(|team| team.is_array()).map(|_| list(document, "team", ""));
    let members = members.or_else(|| document.get("team").map(|team| list(team, "members", "/team")));
    for (pointer, member) in members.into_iter().flatten() {
        for name in ["dateIn", "dateOut"] {
            if let Some(day) = written(member, name).filter(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d").is_err()) {
                let message = format!("`{day}` is no date");
                notes.error(DATE, &format!("{pointer}/{name}"), message, "write it like 2026-01-31");
            }
        }
        team_dates(member, &pointer, notes);
    }
}

fn team_dates(member: &Value, pointer: &str, notes: &mut Notes) {
    let day = |name: &str| NaiveDate::parse_from_str(text(member, name)?, "%Y-%m-%d").ok();
    if let (Some(from), Some(to)) = (day("dateIn"), day("dateOut"))
        && to < from
    {
        let message = format!("`dateOut` {to} is before `dateIn` {from}");
        notes.error("MESH-CONTRACT-0023", &format!("{pointer}/dateOut"), message, "correct one of the two");
    }
}

fn version_of(owner: &Value, pointer: &str, notes: &mut Notes) {
    let Some(written) = written(owner, "version") else {
        return;
    };
    if Version::parse(written).is_none() {
        let numbers: Vec<&str> = written.trim_start_matches(['v', 'V']).split('.').collect();
        let all_numbers = numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let remedy = match (all_numbers, numbers.as_slice()) {
            (true, [major]) => format!("write {major}.0.0"),
            (true, [major, minor]) => format!("write {major}.{minor}.0"),
            _ => "write major.minor.patch, such as 1.0.0".to_owned(),
        };
        let message = format!("`{written}` is no semantic version");
        notes.error(VERSION, &format!("{pointer}/version"), message, remedy);
    }
}
