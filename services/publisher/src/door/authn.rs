//! Who knocks: a key against the hashes of the known principals, as `Bearer KEY` or, as registry clients send it,
//! `Basic NAME:KEY`.

use std::hint::black_box;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_proto::v1::Principal;
use sha2::{Digest as _, Sha256};

use crate::world::World;

/// What a request without a known key is told.
pub(super) const UNKNOWN: &str = "the request carries no key of a principal of this mesh";

/// The principal whose key it is, and whose name, if one is given. Takes the same time whichever key it is, and whether there is one.
pub fn principal(headers: &HeaderMap, world: &World) -> Option<Arc<Principal>> {
    let (name, key) = credentials(headers)?;
    let hash = hex::encode(Sha256::digest(key.as_bytes()));
    let mut found = None;
    for principal in world.principals.values() {
        if equal(hash.as_bytes(), principal.key_sha256.as_bytes()) {
            found = Some(principal.clone());
        }
    }
    found.filter(|principal: &Arc<Principal>| name.is_none_or(|name| name == principal.name))
}

/// The key, and the name that Basic credentials carry.
fn credentials(headers: &HeaderMap) -> Option<(Option<String>, String)> {
    let (scheme, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let text = text.trim();
    let (name, key) = if scheme.eq_ignore_ascii_case("bearer") {
        (None, text.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let (name, key) = decoded.split_once(':')?;
        (Some(name.to_owned()), key.to_owned())
    } else {
        return None;
    };
    (!key.is_empty()).then_some((name, key))
}

/// Equality that looks at every byte.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0u8, |all, (a, b)| black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(authorization: Option<&str>, expected: Option<&str>) {
        let mut world = World::default();
        for (name, key) in [("ana", "secret"), ("ben", "other")] {
            let key_sha256 = hex::encode(Sha256::digest(key));
            let principal = Principal { name: name.into(), key_sha256, ..Principal::default() };
            world.principals.insert(name.into(), Arc::new(principal));
        }
        // One without a key must not be found by an empty one.
        world.principals.insert("none".into(), Arc::new(Principal { name: "none".into(), ..Principal::default() }));
        let mut headers = HeaderMap::new();
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        assert_eq!(principal(&headers, &world).map(|p| p.name.clone()).as_deref(), expected, "{authorization:?}");
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
