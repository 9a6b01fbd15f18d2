//! How `mesh up` reaches a real Kafka: an address, and librdkafka's properties for TLS and SASL in a file of their own.
//!
//! In: lines `key=value`, as `kcat -F` and Kafka's own tools take them; `#` begins a comment. Out: a [`BusConfig`].
//! Must never happen: a password on a command line.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_bus::BusConfig;

use crate::args::Kafka;
use crate::error::CliError;

impl Kafka {
    /// The Kafka that was named; none means the local bus.
    pub(crate) fn bus(&self) -> Result<Option<BusConfig>, CliError> {
        let Some(bootstrap) = &self.kafka else { return Ok(None) };
        let mut bus = BusConfig::new(bootstrap);
        if let Some(path) = &self.kafka_properties {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| CliError::File { action: "read", path: path.clone(), source })?;
            bus.properties = properties(path, &text)?;
        }
        Ok(Some(bus))
    }

    /// The same as flags of a command line.
    pub(crate) fn flags(&self) -> String {
        let kafka = self.kafka.iter().map(|address| format!(" --kafka {address}"));
        let file = self.kafka_properties.iter().map(|path| format!(" --kafka-properties {}", path.display()));
        kafka.chain(file).collect()
    }
}

fn properties(path: &Path, text: &str) -> Result<BTreeMap<String, String>, CliError> {
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    let told = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    told.map(|(line, number)| match line.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(CliError::BadProperty { path: path.to_owned(), line: number }),
    })
    .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_properties_and_comments_are_none() {
        let text = "# TLS\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b # c\n";
        let found = properties(Path::new("p"), text).unwrap();
        let wanted = [("sasl.password", "a=b # c"), ("security.protocol", "SASL_SSL")];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_line_that_is_no_property_is_named_without_its_text() {
        let error = properties(Path::new("client.properties"), "a=b\nsecret\n").unwrap_err();
        assert_eq!((error.code(), error.exit()), ("MESH-CLI-0016", crate::exit::Exit::Usage));
        assert!(error.to_string().contains("client.properties:2") && !error.to_string().contains("secret"), "{error}");
    }
}
