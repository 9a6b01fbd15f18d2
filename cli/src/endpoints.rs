//! Requests of this command line to the mesh's HTTP endpoints.
//!
//! In: a request and a key. Out: the answer, or the service's own refusal with its code.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use crate::error::CliError;
use crate::exit::Exit;

/// A service's refusal, as each service writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) remedy: Option<String>,
}

/// Sends a request to `what`; an answer of any status is an answer.
pub(crate) async fn send(what: &'static str, url: &str, request: RequestBuilder) -> Result<Response, CliError> {
    let unreachable =
        |source: reqwest::Error| CliError::Unreachable { what, url: url.to_owned(), source: Box::new(source) };
    request.send().await.map_err(unreachable)
}

/// The longest answer: a query's deadline is 15 minutes at the most.
const LONGEST: Duration = Duration::from_secs(16 * 60);

/// A client that waits for long answers, but not for a dead endpoint, and for none for ever. The mesh is on this machine: no
/// proxy that the environment names knows the way there.
pub(crate) fn client() -> Result<Client, CliError> {
    Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .timeout(LONGEST)
        .build()
        .map_err(|e| CliError::BadAnswer { problem: e.to_string() })
}

/// The body of a refusal as an error; `5xx` is the mesh's fault, all else is a no.
pub(crate) async fn refusal(response: Response) -> CliError {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Refusal>(&text) {
        Ok(Refusal { code, message, remedy }) => {
            let message = remedy.map_or(message.clone(), |remedy| format!("{message}; {remedy}"));
            CliError::Refused { code, message, exit: exit_of(status) }
        }
        Err(_) => CliError::BadAnswer { problem: format!("status {status} with the body {text:?}") },
    }
}

fn exit_of(status: StatusCode) -> Exit {
    if status.is_server_error() { Exit::Fault } else { Exit::No }
}
