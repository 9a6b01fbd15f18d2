//! Who knocks: a Bearer key against the hashes of the known principals.

use std::hint::black_box;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use mesh_proto::v1::Principal;
use sha2::{Digest as _, Sha256};

use crate::world::World;

/// The principal whose key it is. Takes the same time whichever key it is, and whether there is one.
pub fn principal(headers: &HeaderMap, world: &World) -> Option<Arc<Principal>> {
    let key = bearer(headers)?;
    let hash = hex::encode(Sha256::digest(key.as_bytes()));
    let mut found = None;
    for principal in world.principals.values() {
        if equal(hash.as_bytes(), principal.key_sha256.as_bytes()) {
            found = Some(principal.clone());
        }
    }
    found
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
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
}
