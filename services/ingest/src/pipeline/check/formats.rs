//! Formats of text that the contract may ask for.
//!
//! In: a text. Out: whether it has the format.

use std::net::{Ipv4Addr, Ipv6Addr};

use mesh_contract::constraints::StringFormat;

/// A format, ready to be tested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordFormat(StringFormat);

impl RecordFormat {
    pub(crate) fn new(format: StringFormat) -> Self {
        Self(format)
    }

    pub(crate) fn accepts(self, text: &str) -> bool {
        match self.0 {
            StringFormat::Uuid => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
            StringFormat::Email => email(text),
            StringFormat::Uri => url::Url::parse(text).is_ok(),
            StringFormat::Hostname => hostname(text),
            StringFormat::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            StringFormat::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
        }
    }
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    !local.is_empty() && local.len() <= 64 && !local.contains(odd) && hostname(domain)
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
