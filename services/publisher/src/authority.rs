//! Whose right a document needs: a platform administrator may submit everything, a domain administrator what is about
//! that domain alone ([`mesh_policy::authority`] says who is one).

use mesh_policy::{Authority, Scope};

use crate::pipeline::read::{Body, Part};

/// What a document needs.
pub(crate) fn needed(part: &Part) -> Authority {
    match &part.body {
        Body::Contract(contract, _) => of_domain(contract.domain.as_deref()),
        Body::DataProduct(product) => {
            product.domain.as_ref().map_or(Authority::Platform, |domain| of_domain(Some(domain)))
        }
        Body::Policy(package, _) => match &package.scope {
            Scope::Domain(domain) => Authority::Domain(domain.clone()),
            Scope::Platform => Authority::Platform,
        },
        Body::Principals(_) => Authority::Platform,
        // It will be refused anyway, so any administrator may learn why.
        Body::Unreadable(_) => Authority::AnyDomain,
    }
}

/// A domain that cannot be folded is refused by the judgement, so any administrator may learn why.
fn of_domain(written: Option<&str>) -> Authority {
    match written.map(mesh_contract::Domain::new) {
        Some(Ok(domain)) => Authority::Domain(domain.to_string()),
        _ => Authority::AnyDomain,
    }
}
