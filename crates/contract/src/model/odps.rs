//! ODPS: a valid document, typed.

use serde_json::Value;

use super::common::{custom_properties, description, entries, support, team, text, texts};
use super::{DataProduct, Port};
use crate::names::ContractId;

pub(crate) fn data_product(document: &Value) -> DataProduct {
    DataProduct {
        api_version: text(document, "apiVersion").unwrap_or_default(),
        id: ContractId(text(document, "id").unwrap_or_default()),
        name: text(document, "name"),
        version: text(document, "version"),
        status: text(document, "status"),
        domain: text(document, "domain"),
        tenant: text(document, "tenant"),
        description: description(document),
        tags: texts(document, "tags"),
        input_ports: entries(document, "inputPorts").map(port).collect(),
        output_ports: entries(document, "outputPorts").map(port).collect(),
        team: team(document),
        support: support(document),
        custom_properties: custom_properties(document),
        document: document.clone(),
    }
}

fn port(port: &Value) -> Port {
    Port {
        name: text(port, "name").unwrap_or_default(),
        version: text(port, "version"),
        contract_id: text(port, "contractId").map(ContractId),
        description: text(port, "description"),
        kind: text(port, "type"),
        input_contracts: entries(port, "inputContracts")
            .filter_map(|input| Some((ContractId(text(input, "id")?), text(input, "version")?)))
            .collect(),
    }
}
