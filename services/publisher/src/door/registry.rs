//! The registry's paths as Confluent's clients use them, on the contents of `mesh.schemas`.
//!
//! In: Avro schemas. Out: ids and versions, or Confluent's error codes. A schema is valid only if an active contract
//! covers it; otherwise 409 with the contract's verdict. To register takes the key of any principal (`Basic NAME:KEY`
//! or `Bearer KEY`); to look up takes none, since a schema is a product-level fact and consumers need it to read.
//! Never: an id that the log does not have.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_contract::ProductContract;
use mesh_proto::cloudevents::types as event_types;
use mesh_proto::registry::SchemaId;
use mesh_proto::topics;
use mesh_proto::v1::ActiveContract;
use mesh_runtime::fault;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Unread};
use super::{Shared, authn};
use crate::error::PublisherError;
use crate::registry::{canonical, record};

/// What a client sends.
#[derive(Debug, Deserialize)]
pub(super) struct RegisterRequest {
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    /// Some clients write null for none.
    #[serde(default)]
    references: Option<Vec<Value>>,
}

/// A refusal as Confluent writes it.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error_code: u32,
    message: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error_code": self.error_code, "message": self.message }));
        match self.status {
            StatusCode::UNAUTHORIZED => (self.status, [(header::WWW_AUTHENTICATE, "Basic")], body).into_response(),
            status => (status, body).into_response(),
        }
    }
}

type Answer = Result<Json<Value>, Refused>;

fn refused(status: StatusCode, error_code: u32, message: impl Into<String>) -> Refused {
    Refused { status, error_code, message: message.into() }
}

fn no_subject(subject: &str) -> Refused {
    refused(StatusCode::NOT_FOUND, 40401, format!("Subject '{subject}' not found."))
}

fn unknown() -> Refused {
    let message = format!(
        "MESH-PUBLISHER-0001: {}; set basic.auth.user.info to NAME:KEY, or send `Authorization: Bearer KEY`",
        authn::UNKNOWN
    );
    refused(StatusCode::UNAUTHORIZED, 40101, message)
}

fn unwritten(error: &PublisherError) -> Refused {
    if error.is_too_large() {
        return unread(Unread::TooLong);
    }
    let message = format!("PublisherError while writing the schema: {}", mesh_runtime::report::chain(error));
    refused(StatusCode::INTERNAL_SERVER_ERROR, 50001, message)
}

fn unread(unread: Unread) -> Refused {
    match unread {
        Unread::TooLong => {
            let message =
                "MESH-PUBLISHER-0003: the schema is longer than the endpoint or a record takes; shorten its docs";
            refused(StatusCode::PAYLOAD_TOO_LARGE, 413, message)
        }
        Unread::TooSlow => {
            refused(StatusCode::REQUEST_TIMEOUT, 408, "MESH-PUBLISHER-0008: the request came too slowly")
        }
        Unread::Stopping => {
            refused(StatusCode::SERVICE_UNAVAILABLE, 503, "MESH-PUBLISHER-0008: the publisher stops; send it again")
        }
        Unread::Cut => refused(StatusCode::BAD_REQUEST, 400, "MESH-PUBLISHER-0008: the request was cut off"),
        Unread::NotUtf8 => invalid("MESH-PUBLISHER-0007: the request is not UTF-8 text"),
    }
}

fn timed_out() -> Refused {
    let message = "MESH-PUBLISHER-0005: the schema was not acknowledged and read back in time; register it again, \
                   which gives the id that it may have by then";
    refused(StatusCode::INTERNAL_SERVER_ERROR, 50002, message)
}

fn no_version(version: &str) -> Refused {
    refused(StatusCode::NOT_FOUND, 40402, format!("Version {version} not found."))
}

fn no_schema() -> Refused {
    refused(StatusCode::NOT_FOUND, 40403, "Schema not found")
}

fn invalid(message: impl Into<String>) -> Refused {
    refused(StatusCode::UNPROCESSABLE_ENTITY, 42201, message)
}

pub(super) async fn not_found() -> Refused {
    refused(StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found")
}

pub(super) async fn not_allowed() -> Refused {
    refused(StatusCode::METHOD_NOT_ALLOWED, 405, "HTTP 405 Method Not Allowed")
}

pub(super) async fn subjects(State(shared): State<Shared>) -> Json<Value> {
    Json(shared.memory.schemas(|index| index.subjects().map(Value::from).collect()))
}

/// What is compatible is the contract's to say, so the registry itself asks for nothing between versions.
pub(super) async fn config() -> Json<Value> {
    Json(json!({ "compatibilityLevel": "NONE" }))
}

pub(super) async fn mode() -> Json<Value> {
    Json(json!({ "mode": "READWRITE" }))
}

pub(super) async fn types() -> Json<Value> {
    Json(json!(["AVRO"]))
}

pub(super) async fn by_id(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let id = id.parse().map_err(|_| no_schema())?;
    let text = shared.memory.schemas(|index| index.schema(id).map(|schema| schema.text.to_string()));
    text.map(|text| Json(json!({ "schema": text }))).ok_or_else(no_schema)
}

pub(super) async fn uses(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let id = id.parse().map_err(|_| no_schema())?;
    let uses = shared.memory.schemas(|index| {
        index.schema(id).map(|_| {
            let uses = index.uses(id);
            uses.map(|(subject, version)| json!({ "subject": subject, "version": version })).collect::<Vec<_>>()
        })
    });
    uses.map(|uses| Json(json!(uses))).ok_or_else(no_schema)
}

pub(super) async fn versions(State(shared): State<Shared>, Path(subject): Path<String>) -> Answer {
    let count = shared.memory.schemas(|index| index.versions(&subject).map(<[i64]>::len));
    count.map(|count| Json((1..=count).collect())).ok_or_else(|| no_subject(&subject))
}

pub(super) async fn version(State(shared): State<Shared>, Path((subject, version)): Path<(String, String)>) -> Answer {
    stored(&shared, &subject, &version).map(Json)
}

pub(super) async fn version_text(
    State(shared): State<Shared>,
    Path((subject, version)): Path<(String, String)>,
) -> Result<String, Refused> {
    stored(&shared, &subject, &version).map(|stored| stored["schema"].as_str().unwrap_or_default().to_owned())
}

fn stored(shared: &Shared, subject: &str, version: &str) -> Result<Value, Refused> {
    shared.memory.schemas(|index| {
        let ids = index.versions(subject).ok_or_else(|| no_subject(subject))?;
        let number = match version {
            "latest" | "-1" => ids.len(),
            other => other.parse::<usize>().ok().filter(|number| *number >= 1).ok_or_else(|| {
                let message = format!("The specified version '{other}' is not a valid version id.");
                refused(StatusCode::UNPROCESSABLE_ENTITY, 42202, message)
            })?,
        };
        let id = ids.get(number - 1).copied().ok_or_else(|| no_version(version))?;
        let schema = index.schema(id).ok_or_else(no_schema)?;
        Ok(json!({ "subject": subject, "version": number, "id": id, "schema": schema.text.as_ref() }))
    })
}

/// Is this text registered under the subject?
pub(super) async fn look_up(State(shared): State<Shared>, Path(subject): Path<String>, request: Request) -> Answer {
    let text = text(&body::text(request, &shared).await.map_err(unread)?)?;
    shared.memory.schemas(|index| {
        index.versions(&subject).ok_or_else(|| no_subject(&subject))?;
        let id = index.id_of(&text).ok_or_else(no_schema)?;
        let version = index.version_of(&subject, id).ok_or_else(no_schema)?;
        Ok(Json(json!({ "subject": subject, "version": version, "id": id, "schema": text })))
    })
}

/// Writes, reads back, answers with what the log says.
pub(super) async fn register(
    State(shared): State<Shared>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let principal = authn::principal(&headers, &shared.memory.active_state()).ok_or_else(unknown)?;
    let text = text(&body::text(request, &shared).await.map_err(unread)?)?;
    tokio::task::block_in_place(|| covered(&shared, &subject, &text))?;
    let known =
        shared.memory.schemas(|index| index.id_of(&text).filter(|id| index.version_of(&subject, *id).is_some()));
    let id = match known {
        Some(id) => id,
        None => {
            let written = tokio::time::timeout(shared.bounds.verdict_wait, write(&shared, &subject, &text)).await;
            let id = written.map_err(|_| timed_out())?.map_err(|error| unwritten(&error))?;
            tracing::info!(subject, id, principal = principal.name, "schema registered");
            id
        }
    };
    Ok(Json(json!({ "id": id })))
}

async fn write(shared: &Shared, subject: &str, text: &str) -> Result<i64, PublisherError> {
    let (key, schema) = record(subject, text);
    let event = shared.log.event(topics::SCHEMAS, event_types::SCHEMA, &key, &schema)?.keyed(&key);
    let delivered = shared.log.publish(topics::SCHEMAS, &event).await?;
    fault::point("publisher.registry.written");
    shared.memory.has_read(topics::SCHEMAS, delivered.offset).await;
    let known = shared.memory.schemas(|index| index.id_of(text));
    Ok(known.unwrap_or_else(|| SchemaId::at_offset(delivered.offset).map_or(0, |id| i64::from(id.0))))
}

/// The canonical text of what a client sent, if it is an Avro schema.
fn text(body: &str) -> Result<String, Refused> {
    let request: RegisterRequest =
        serde_json::from_str(body).map_err(|problem| invalid(format!("Invalid request: {problem}")))?;
    if let Some(other) = request.schema_type.filter(|kind| kind != "AVRO") {
        return Err(invalid(format!("Invalid schema type {other}: this registry holds AVRO")));
    }
    if request.references.is_some_and(|references| !references.is_empty()) {
        return Err(invalid("Invalid schema: references to other subjects are not supported; write the types out"));
    }
    apache_avro::Schema::parse_str(&request.schema).map_err(|problem| invalid(format!("Invalid schema: {problem}")))?;
    // A bare name such as `string` is a schema as well, but no JSON.
    let text = canonical(&request.schema).or_else(|_| canonical(&json!(request.schema).to_string()));
    text.map_err(|problem| invalid(format!("Invalid schema: {problem}")))
}

/// 409 unless an active contract of the subject's topic can read what is written by this schema.
fn covered(shared: &Shared, subject: &str, text: &str) -> Result<(), Refused> {
    let conflict = |message: String| refused(StatusCode::CONFLICT, 409, message);
    let active_state = shared.memory.active_state();
    let mut problems = Vec::new();
    for active in subject.strip_suffix("-value").into_iter().flat_map(|topic| active_state.on_topic(topic)) {
        let name = format!("{} {}", active.contract_id, active.version);
        match covers(active, &name, text) {
            Ok(None) => return Ok(()),
            Ok(Some(why)) | Err(why) => problems.push(format!("contract {name}: {why}")),
        }
    }
    if problems.is_empty() {
        let remedy = match subject.ends_with("-key") {
            true => "keys are texts, not Avro: give the producer a string serializer for keys",
            false => "apply a contract whose topic is the subject without `-value`",
        };
        return Err(conflict(format!("MESH-PUBLISHER-0026: no active contract covers subject '{subject}'; {remedy}")));
    }
    Err(conflict(format!("MESH-PUBLISHER-0026: the schema is not covered by {}", problems.join(", nor by "))))
}

/// Why the contract does not cover the schema; an error is a reason as well, never a pass.
fn covers(active: &ActiveContract, name: &str, text: &str) -> Result<Option<String>, String> {
    let contract = ProductContract::parse(name, &active.document).map_err(|e| mesh_runtime::report::chain(&e))?;
    let verdict = contract.covers(text).map_err(|e| mesh_runtime::report::chain(&e))?;
    Ok((!verdict.covered).then(|| verdict.problems.join("; ")))
}
