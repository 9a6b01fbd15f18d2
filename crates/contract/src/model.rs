//! Documents, typed: any valid ODCS contract or ODPS data product.

pub(crate) mod column;
pub(crate) mod common;
pub(crate) mod hard;
pub(crate) mod literal;
pub(crate) mod odcs;
pub(crate) mod odps;
pub(crate) mod options;
pub(crate) mod rules;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::constraints::Constraints;
use crate::custom::CustomProperties;
use crate::finding::{Finding, Severity};
use crate::names::ContractId;
use crate::partition::Transform;
use crate::quality::QualityRule;
use crate::sla::SlaProperty;
use crate::types::{Field, Type, avro};
use crate::yaml::Places;

/// One document of a file.
#[derive(Debug, Clone)]
pub enum Document {
    /// ODCS.
    Contract(Box<Contract>),
    /// ODPS.
    DataProduct(Box<DataProduct>),
}

/// `description` of a contract or product.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Description {
    /// What it is for.
    pub purpose: Option<String>,
    /// What it is not for.
    pub limitations: Option<String>,
    /// How to use it.
    pub usage: Option<String>,
}

/// Somebody of the team.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TeamMember {
    /// User name or mail address.
    pub username: String,
    /// Name of the person.
    pub name: Option<String>,
    /// `owner`, `data steward`, …
    pub role: Option<String>,
    /// Left the team on this day.
    pub date_out: Option<String>,
}

/// Who is responsible.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Team {
    /// Name of the team.
    pub name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Its members.
    pub members: Vec<TeamMember>,
}

impl Team {
    /// The present member whose role is owner, else the team's name.
    pub fn owner(&self) -> Option<&str> {
        self.members
            .iter()
            .find(|m| m.date_out.is_none() && m.role.as_deref().is_some_and(|r| r.to_lowercase().contains("owner")))
            .map(|m| if m.username.is_empty() { m.name.as_deref().unwrap_or_default() } else { m.username.as_str() })
            .or(self.name.as_deref())
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its name.
    pub server: String,
    /// `kafka`, `s3`, …
    pub kind: String,
    /// `prod`, `dev`, …
    pub environment: Option<String>,
    /// All else, as written.
    pub properties: Map<String, Value>,
}

/// Who may ask for access.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its name.
    pub role: String,
    /// `read`, `write`, …
    pub access: Option<String>,
    /// What it is.
    pub description: Option<String>,
}

/// Where to get help.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportChannel {
    /// Its name.
    pub channel: String,
    /// Its address.
    pub url: Option<String>,
    /// `slack`, `email`, …
    pub tool: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// A valid ODCS document, typed.
#[derive(Debug, Clone)]
pub struct Contract {
    /// The standard's version it was written for: `v3.2.0`.
    pub api_version: String,
    /// Its id.
    pub id: ContractId,
    /// Its version: `1.2.0`.
    pub version: String,
    /// `active`, `draft`, …; absent means active.
    pub status: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// Its domain, as written.
    pub domain: Option<String>,
    /// Its product, as written.
    pub data_product: Option<String>,
    /// What it is for.
    pub description: Description,
    /// Tags.
    pub tags: Vec<String>,
    /// Where the data is.
    pub servers: Vec<Server>,
    /// The schema objects.
    pub objects: Vec<SchemaObject>,
    /// Who is responsible.
    pub team: Team,
    /// Who may ask for access.
    pub roles: Vec<Role>,
    /// Where to get help.
    pub support: Vec<SupportChannel>,
    /// What it promises.
    pub sla: Vec<SlaProperty>,
    /// Extensions.
    pub custom_properties: CustomProperties,
    /// The whole document.
    pub document: Value,
    pub(crate) places: Arc<Places>,
    /// Which document of its file.
    pub(crate) index: usize,
}

impl Contract {
    /// A finding of another check about this document, at the line and column of a JSON pointer, or of its nearest ancestor.
    pub fn finding_at(&self, file: &str, code: &'static str, pointer: &str, message: &str, remedy: &str) -> Finding {
        let place = self.places.place(pointer);
        Finding {
            code,
            severity: Severity::Error,
            file: file.to_owned(),
            document: self.index,
            path: pointer.to_owned(),
            line: place.line,
            column: place.column,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
    /// The document as canonical JSON (which is YAML too: [`crate::parse`] reads it back).
    ///
    /// Numbers keep every digit that was written, also those that a double does not hold.
    pub fn to_json(&self) -> String {
        literal::json(&self.document, &self.places, "")
    }
    /// Whether two documents mean the same: all that they say, and every digit of their limits.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.document == other.document && self.objects == other.objects
    }
}

/// One schema object: a table, topic, file.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaObject {
    /// As written.
    pub original: String,
    /// `topic`, `table`, …
    pub physical_type: Option<String>,
    /// Name of the topic or table where the data is.
    pub physical_name: Option<String>,
    /// What it holds.
    pub description: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// The columns that records carry (measures and dimensions are not among them).
    pub columns: Vec<Column>,
    /// Quality rules, the columns' included.
    pub quality: Vec<QualityRule>,
    /// Extensions.
    pub custom_properties: CustomProperties,
    /// Why columns could not be typed; a mesh refuses such a contract.
    pub untyped: Vec<Untyped>,
}

/// A column that the mesh cannot type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untyped {
    /// JSON pointer into the document.
    pub pointer: String,
    /// The column, by path.
    pub column: String,
    /// Why, and what to write.
    pub reason: String,
}

/// One column, or one nested field, element, key or value.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Folded; `element`, `key`, `value` inside arrays and maps.
    pub name: String,
    /// As written: the field's name in records.
    pub original: String,
    /// Its type.
    pub ty: Type,
    /// Fields of an object; one `element` of an array; `key` and `value` of a map.
    pub children: Vec<Column>,
    /// Never null.
    pub required: bool,
    /// Judged by quality.
    pub unique: bool,
    /// From 1; `None` if no part of the primary key.
    pub primary_key_position: Option<u32>,
    /// From 1 with its transform; `None` if no part of the partition key.
    pub partition: Option<(u32, Transform)>,
    /// What its values must satisfy.
    pub constraints: Constraints,
    /// `public`, `restricted`, …
    pub classification: Option<String>,
    /// The column that holds the encrypted value.
    pub encrypted_name: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What it holds.
    pub description: Option<String>,
    /// Name for people.
    pub business_name: Option<String>,
    /// As written.
    pub physical_type: Option<String>,
    /// Critical data element.
    pub critical: bool,
    /// Extensions.
    pub custom_properties: CustomProperties,
}

impl Column {
    /// The field's name in records: as written if Avro allows it as a name, else folded.
    pub fn record_name(&self) -> &str {
        if avro::is_name(&self.original) { &self.original } else { &self.name }
    }
    /// Name, type and nullability: what the type table needs.
    pub fn field(&self) -> Field {
        Field { name: self.name.clone(), ty: self.ty.clone(), required: self.required, doc: self.description.clone() }
    }
}

/// One port of a data product.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// The contract behind it.
    pub contract_id: Option<ContractId>,
    /// What it is.
    pub description: Option<String>,
    /// `tables`, …
    pub kind: Option<String>,
    /// Contracts that this output port is derived from: id and version.
    pub input_contracts: Vec<(ContractId, String)>,
}

/// A valid ODPS document, typed.
#[derive(Debug, Clone)]
pub struct DataProduct {
    /// The standard's version it was written for: `v1.0.0`.
    pub api_version: String,
    /// Its id.
    pub id: ContractId,
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `active`, `draft`, …
    pub status: Option<String>,
    /// Its domain, as written.
    pub domain: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// What it is for.
    pub description: Description,
    /// Tags.
    pub tags: Vec<String>,
    /// What it reads.
    pub input_ports: Vec<Port>,
    /// What it offers.
    pub output_ports: Vec<Port>,
    /// Who is responsible.
    pub team: Team,
    /// Where to get help.
    pub support: Vec<SupportChannel>,
    /// Extensions.
    pub custom_properties: CustomProperties,
    /// The whole document.
    pub document: Value,
}
