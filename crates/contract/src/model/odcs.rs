//! ODCS: a valid document, typed.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::common::{custom_properties, description, entries, support, team, text, texts};
use super::{Contract, Role, SchemaObject, Server, column, rules};
use crate::names::ContractId;
use crate::sla::SlaProperty;
use crate::yaml::Places;

pub(crate) fn contract(document: &Value, places: Arc<Places>, index: usize) -> Contract {
    Contract {
        api_version: text(document, "apiVersion").unwrap_or_default(),
        id: ContractId(text(document, "id").unwrap_or_default()),
        version: text(document, "version").unwrap_or_default(),
        status: text(document, "status"),
        name: text(document, "name"),
        tenant: text(document, "tenant"),
        domain: text(document, "domain"),
        data_product: text(document, "dataProduct"),
        description: description(document),
        tags: texts(document, "tags"),
        servers: entries(document, "servers").map(server).collect(),
        objects: entries(document, "schema")
            .enumerate()
            .map(|(i, o)| object(o, &format!("/schema/{i}"), &places))
            .collect(),
        team: team(document),
        roles: entries(document, "roles").map(role).collect(),
        support: support(document),
        sla: entries(document, "slaProperties").map(|p| sla(p, document)).collect(),
        custom_properties: custom_properties(document),
        document: document.clone(),
        places,
        index,
    }
}

fn object(object: &Value, pointer: &str, places: &Places) -> SchemaObject {
    let mut read = column::Reading { places, untyped: Vec::new() };
    let mut columns = column::columns(object, &format!("{pointer}/properties"), "", &mut read);
    column::rank(&mut columns);
    SchemaObject {
        original: text(object, "name").unwrap_or_default(),
        physical_type: text(object, "physicalType"),
        physical_name: text(object, "physicalName"),
        description: text(object, "description"),
        tags: texts(object, "tags"),
        quality: rules::of_object(object),
        custom_properties: custom_properties(object),
        columns,
        untyped: read.untyped,
    }
}

fn server(server: &Value) -> Server {
    let known = ["server", "type", "environment"];
    Server {
        server: text(server, "server").unwrap_or_default(),
        kind: text(server, "type").unwrap_or_default(),
        environment: text(server, "environment"),
        properties: server
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>(),
    }
}

fn role(role: &Value) -> Role {
    Role {
        role: text(role, "role").unwrap_or_default(),
        access: text(role, "access"),
        description: text(role, "description"),
    }
}

fn sla(property: &Value, document: &Value) -> SlaProperty {
    SlaProperty {
        property: text(property, "property").unwrap_or_default(),
        value: property.get("value").cloned().unwrap_or(Value::Null),
        value_ext: property.get("valueExt").cloned(),
        unit: text(property, "unit"),
        element: text(property, "element").or_else(|| text(document, "slaDefaultElement")),
        driver: text(property, "driver"),
        description: text(property, "description"),
    }
}
