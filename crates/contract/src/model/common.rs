//! Parts that ODCS and ODPS share.
//! In: JSON that the standard's schema has accepted, so that a wrong shape cannot occur and reads as absent.

use serde_json::{Map, Value};

use super::{Description, SupportChannel, Team, TeamMember};
use crate::custom::CustomProperties;

pub(crate) fn text(object: &Value, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

pub(crate) fn flag(object: &Value, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn entries<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    object.get(name).and_then(Value::as_array).into_iter().flatten()
}

pub(crate) fn texts(object: &Value, name: &str) -> Vec<String> {
    entries(object, name).filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn custom_properties(object: &Value) -> CustomProperties {
    let mut map = Map::new();
    for entry in entries(object, "customProperties") {
        if let (Some(name), Some(value)) = (text(entry, "property"), entry.get("value")) {
            map.insert(name, value.clone());
        }
    }
    CustomProperties(map)
}

pub(crate) fn description(document: &Value) -> Description {
    let Some(description) = document.get("description") else {
        return Description::default();
    };
    Description {
        purpose: text(description, "purpose"),
        limitations: text(description, "limitations"),
        usage: text(description, "usage"),
    }
}

/// The team object, or, before 3.1.0, the list of its members.
pub(crate) fn team(document: &Value) -> Team {
    match document.get("team") {
        Some(Value::Array(members)) => Team { members: members.iter().map(member).collect(), ..Team::default() },
        Some(team) => Team {
            name: text(team, "name"),
            description: text(team, "description"),
            members: entries(team, "members").map(member).collect(),
        },
        None => Team::default(),
    }
}

fn member(member: &Value) -> TeamMember {
    TeamMember {
        username: text(member, "username").unwrap_or_default(),
        name: text(member, "name"),
        role: text(member, "role"),
        date_out: text(member, "dateOut"),
    }
}

pub(crate) fn support(document: &Value) -> Vec<SupportChannel> {
    entries(document, "support")
        .map(|channel| SupportChannel {
            channel: text(channel, "channel").unwrap_or_default(),
            url: text(channel, "url"),
            tool: text(channel, "tool"),
            description: text(channel, "description"),
        })
        .collect()
}
