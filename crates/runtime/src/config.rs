//! Where a service's configuration comes from: flags, then environment, then a TOML file, then defaults.
//!
//! In: `--config FILE`, `--set key=value`, `MESH_<SERVICE>__SECTION__KEY`. Out: the runtime's own sections
//! (`[admin]`, `[log]`, `[drain]`) and the service's configuration.
//! Never: a key that is ignored. An unknown one is an error that names it, its place and the nearest known key.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::error::Kind;
use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::RuntimeError;

/// The sections that the runtime itself reads from every service's configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    pub admin: AdminConfig,
    pub log: LogConfig,
    pub drain: DrainConfig,
}

const RUNTIME_SECTIONS: [&str; 3] = ["admin", "log", "drain"];

/// `[admin]`: where health and metrics are served.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: loopback() }
    }
}

/// `[http]`: where a service with a public listener listens. Services with one embed this section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: loopback() }
    }
}

/// `[log]`: what goes to stderr. `RUST_LOG` wins over `filter`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub filter: String,
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[drain]`: how long an orderly stop may take before it is cut off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30) }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The sources of one service's configuration, strongest first: `sets`, the environment, the file.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The prefix of environment variables, such as `MESH_INGEST__`; a further `__` separates section and key.
    pub env_prefix: String,
    /// `key=value` pairs from `--set`, the key dotted, the value as in TOML (a bare word is a string).
    pub sets: Vec<String>,
}

impl Sources {
    /// The sources of service `name` without file and flags.
    pub fn of_service(name: &str) -> Self {
        Self { env_prefix: format!("MESH_{}__", name.to_ascii_uppercase().replace('-', "_")), ..Self::default() }
    }
}

/// Reads a service's configuration, and the runtime's sections beside it.
pub fn load<C: DeserializeOwned + Serialize>(sources: &Sources) -> Result<(RuntimeConfig, C), RuntimeError> {
    let runtime = extract(&figment(sources, Part::Runtime)?, &[])?;
    let service = extract(&figment(sources, Part::Service)?, &RUNTIME_SECTIONS)?;
    Ok((runtime, service))
}

fn figment(sources: &Sources, part: Part) -> Result<Figment, RuntimeError> {
    let mut figment = Figment::new();
    if let Some(path) = &sources.file {
        std::fs::read(path).map_err(|source| RuntimeError::ConfigUnreadable { path: path.clone(), source })?;
        figment = figment.merge(Only { part, inner: Toml::file_exact(path) });
    }
    if !sources.env_prefix.is_empty() {
        figment = figment.merge(Only { part, inner: Env::prefixed(&sources.env_prefix).split("__") });
    }
    for set in &sources.sets {
        figment = figment.merge(Only { part, inner: Set::parse(set)? });
    }
    Ok(figment)
}

/// Which sections of the sources are looked at: the runtime's, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Runtime,
    Service,
}

struct Only<P> {
    part: Part,
    inner: P,
}

impl<P: Provider> Provider for Only<P> {
    fn metadata(&self) -> Metadata {
        self.inner.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.inner.data()?;
        for dict in data.values_mut() {
            dict.retain(|key, _| RUNTIME_SECTIONS.contains(&key.as_str()) == (self.part == Part::Runtime));
        }
        Ok(data)
    }
}

/// One `--set key=value`.
struct Set {
    key: String,
    value: Value,
}

impl Set {
    fn parse(text: &str) -> Result<Self, RuntimeError> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let value = value.trim();
                let value = value.parse().unwrap_or_else(|_| Value::from(value));
                Ok(Self { key: key.trim().to_owned(), value })
            }
            _ => Err(RuntimeError::SetMalformed { given: text.to_owned() }),
        }
    }
}

impl Provider for Set {
    fn metadata(&self) -> Metadata {
        Metadata::named("a --set flag")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// A configuration and the keys that its type did not take.
struct Strict<C> {
    config: C,
    ignored: Vec<String>,
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Strict<C> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ignored = Vec::new();
        let config = serde_ignored::deserialize(deserializer, |path| ignored.push(path.to_string()))?;
        Ok(Self { config, ignored })
    }
}

fn extract<C: DeserializeOwned + Serialize>(figment: &Figment, also_known: &[&str]) -> Result<C, RuntimeError> {
    let strict: Strict<C> = figment.extract().map_err(|error| explain(figment, error, also_known))?;
    match strict.ignored.first() {
        None => Ok(strict.config),
        Some(key) => {
            let place = figment.find_metadata(key).map_or_else(|| "the configuration".into(), place);
            let known = known_beside(&strict.config, key);
            Err(unknown_key(key.clone(), place, known.iter().map(String::as_str).chain(also_known.iter().copied())))
        }
    }
}

fn explain(figment: &Figment, error: figment::Error, also_known: &[&str]) -> RuntimeError {
    let path = error.path.join(".");
    let place_of = |key: &str| {
        let metadata = error.metadata.as_ref().or_else(|| figment.find_metadata(key));
        metadata.map_or_else(|| "the configuration".into(), place)
    };
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let mut keys = error.path.clone();
            if keys.last() != Some(name) {
                keys.push(name.clone());
            }
            let top: &[&str] = if keys.len() == 1 { also_known } else { &[] };
            let key = keys.join(".");
            let place = place_of(&key);
            unknown_key(key, place, known.iter().chain(top).copied())
        }
        Kind::MissingField(name) => {
            let key = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let message = format!("`{key}` is missing; set it in the file, the environment or with --set {key}=…");
            RuntimeError::ConfigInvalid { message, place: all_places(figment) }
        }
        kind if path.is_empty() => RuntimeError::ConfigInvalid { message: kind.to_string(), place: place_of("") },
        kind => RuntimeError::ConfigInvalid { message: format!("`{path}`: {kind}"), place: place_of(&path) },
    }
}

fn unknown_key<'a>(key: String, place: String, known: impl Iterator<Item = &'a str>) -> RuntimeError {
    let (parent, name) = key.rsplit_once('.').map_or(("", key.as_str()), |(parent, name)| (parent, name));
    let full = |near: &str| if parent.is_empty() { near.to_owned() } else { format!("{parent}.{near}") };
    let known: Vec<&str> = known.collect();
    let nearest = known.iter().map(|near| (strsim::jaro_winkler(near, name), *near)).filter(|(score, _)| *score > 0.75);
    let hint = match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, near)) => format!("did you mean `{}`?", full(near)),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    RuntimeError::ConfigUnknownKey { key, place, hint }
}

/// The keys beside `key` in what the configuration serialises to.
fn known_beside<C: Serialize>(config: &C, key: &str) -> Vec<String> {
    let mut value = Value::serialize(config).ok();
    let mut segments: Vec<&str> = key.split('.').collect();
    segments.pop();
    for segment in segments {
        value = value.and_then(|value| value.into_dict()).and_then(|mut dict| dict.remove(segment));
    }
    let dict = value.and_then(|value| value.into_dict());
    dict.map(|dict| dict.into_keys().collect()).unwrap_or_default()
}

fn place(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ => metadata.name.replace('`', ""),
    }
}

fn all_places(figment: &Figment) -> String {
    let places: Vec<String> = figment.metadata().map(place).collect();
    if places.is_empty() { "the defaults: no file, no variable, no flag is given".into() } else { places.join(", ") }
}

#[cfg(test)]
mod tests;
