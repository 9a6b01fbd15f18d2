//! In: a request's `Authorization`, as `Bearer KEY` or, as registry clients send it, `Basic NAME:KEY`. Out: whose key it is.
//! Never: a key that is kept, logged or compared; only its hash is.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_proto::v1::Principal;
use sha2::{Digest as _, Sha256};

/// What principals are known by.
pub fn key_sha256(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// What a request says about who sends it. How long a comparison of hashes takes says nothing about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Basic credentials carry one.
    name: Option<String>,
    key_sha256: String,
}

impl Credentials {
    /// Those of a request, if it carries a key.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let text = text.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::new(None, text);
        }
        let basic = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(text).ok()).flatten()?;
        let basic = String::from_utf8(basic).ok()?;
        let (name, key) = basic.split_once(':')?;
        Self::new(Some(name.to_owned()), key)
    }

    fn new(name: Option<String>, key: &str) -> Option<Self> {
        (!key.is_empty()).then(|| Self { name, key_sha256: key_sha256(key) })
    }

    /// Whether it is this principal's key, and name if one is given.
    pub fn are_of(&self, principal: &Principal) -> bool {
        principal.key_sha256.eq_ignore_ascii_case(&self.key_sha256)
            && self.name.as_ref().is_none_or(|name| *name == principal.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(authorization: Option<&str>, expected: Option<&str>) {
        let principal = |name: &str, key_sha256| Principal { name: name.into(), key_sha256, ..Principal::default() };
        let principals = [
            principal("ana", key_sha256("secret")),
            principal("ben", key_sha256("other").to_uppercase()),
            // One without a key is found by none.
            principal("none", String::new()),
        ];
        let mut headers = HeaderMap::new();
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        let credentials = Credentials::of(&headers);
        let found = credentials.and_then(|of| principals.iter().find(|principal| of.are_of(principal)));
        assert_eq!(found.map(|principal| principal.name.as_str()), expected, "{authorization:?}");
    }

    #[test]
    fn a_key_names_its_principal() {
        check(Some("Bearer secret"), Some("ana"));
        check(Some("bearer  other"), Some("ben"));
        for stranger in
            [None, Some("Bearer wrong"), Some("Bearer "), Some("Bearer"), Some("Basic secret"), Some("secret")]
        {
            check(stranger, None);
        }
    }

    #[test]
    fn basic_credentials_must_name_whose_key_it_is() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check(Some(&basic("ana:secret")), Some("ana"));
        for stranger in ["ben:secret", ":secret", "secret", "ana:", "none:"] {
            check(Some(&basic(stranger)), None);
        }
        check(Some("Basic ana:secret"), None);
    }
}
