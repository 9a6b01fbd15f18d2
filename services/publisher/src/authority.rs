//! Who may submit what: a platform admin everything, a domain admin what is about that domain alone.

use mesh_policy::Scope;
use mesh_proto::v1::Principal;

use crate::active_state::ADMIN;
use crate::pipeline::read::{Body, Part};

/// Whose right a document needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    PlatformAdmin,
    AdminOf(String),
    /// It will be refused anyway, so any admin may be told why.
    AnyAdmin,
}

impl Needs {
    /// What a document needs.
    pub(crate) fn of(part: &Part) -> Self {
        match &part.body {
            Body::Contract(contract, _) => Self::domain(contract.domain.as_deref()),
            Body::DataProduct(product) => {
                product.domain.as_ref().map_or(Self::PlatformAdmin, |d| Self::domain(Some(d)))
            }
            Body::Policy(package, _) => match &package.scope {
                Scope::Domain(domain) => Self::AdminOf(domain.clone()),
                Scope::Platform => Self::PlatformAdmin,
            },
            Body::Principals(_) => Self::PlatformAdmin,
            Body::Unreadable(_) => Self::AnyAdmin,
        }
    }

    /// A domain that cannot be folded is nobody's: the judge says so.
    fn domain(written: Option<&str>) -> Self {
        match written.map(mesh_contract::Domain::new) {
            Some(Ok(domain)) => Self::AdminOf(domain.to_string()),
            _ => Self::AnyAdmin,
        }
    }

    /// Whether the principal has it.
    pub(crate) fn granted_to(&self, principal: &Principal) -> bool {
        let platform = principal.roles.iter().any(|role| role == ADMIN);
        platform
            || match self {
                Self::PlatformAdmin => false,
                Self::AdminOf(domain) => principal.admin_of.contains(domain),
                Self::AnyAdmin => !principal.admin_of.is_empty(),
            }
    }

    /// For a refusal's text: what the principal would have to be.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::PlatformAdmin => format!("a principal with the role `{ADMIN}`"),
            Self::AdminOf(domain) => format!("an admin of the domain `{domain}`"),
            Self::AnyAdmin => "an admin of some domain".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(roles: &[&str], admin_of: &[&str], needs: &Needs, expected: bool) {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let principal = Principal { roles: own(roles), admin_of: own(admin_of), ..Principal::default() };
        assert_eq!(needs.granted_to(&principal), expected, "{roles:?} {admin_of:?} {needs:?}");
    }

    #[test]
    fn admins_act_for_their_own() {
        let weather = Needs::AdminOf("weather".to_owned());
        check(&["analyst"], &["weather"], &weather, true);
        check(&["analyst"], &["operations"], &weather, false);
        check(&["admin"], &[], &weather, true);
        check(&["analyst"], &["weather"], &Needs::PlatformAdmin, false);
        check(&["admin"], &[], &Needs::PlatformAdmin, true);
        check(&["analyst"], &["weather"], &Needs::AnyAdmin, true);
        check(&["analyst"], &[], &Needs::AnyAdmin, false);
    }
}
