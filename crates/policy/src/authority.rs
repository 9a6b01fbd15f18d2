//! Who administers what.
//! In: a principal's roles and the domains that it administers. Out: whether it may act for a domain or the platform.
//! Never: a second rule for this in a service.

use crate::facts::PrincipalFacts;

/// The role that acts for the whole platform.
pub const ADMIN: &str = "admin";

/// Whose right an action needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A platform administrator's.
    Platform,
    /// Of an administrator of this domain (its folded name), or of the platform's.
    Domain(String),
    /// Of any administrator: for what is refused anyway, and whose author should learn why.
    AnyDomain,
}

impl Authority {
    /// Whether a principal has it.
    pub fn granted_to(&self, roles: &[String], admin_of: &[String]) -> bool {
        is_platform_admin(roles)
            || match self {
                Self::Platform => false,
                Self::Domain(domain) => owns(admin_of, domain),
                Self::AnyDomain => !admin_of.is_empty(),
            }
    }
}

/// Says what a principal would have to be.
impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Platform => write!(f, "a principal with the role `{ADMIN}`"),
            Self::Domain(domain) => write!(f, "an admin of the domain `{domain}`"),
            Self::AnyDomain => f.write_str("an admin of some domain"),
        }
    }
}

/// Whether these roles act for the whole platform.
pub fn is_platform_admin(roles: &[String]) -> bool {
    roles.iter().any(|role| role == ADMIN)
}

/// Whether a principal may act for a domain: as its administrator, or as the platform's.
pub fn administers(roles: &[String], admin_of: &[String], domain: &str) -> bool {
    is_platform_admin(roles) || owns(admin_of, domain)
}

/// Whether the domain is the principal's own. A platform administrator is not meant: what only owners may see, such as
/// the raw bytes of dead letters, is not theirs.
pub fn owns(admin_of: &[String], domain: &str) -> bool {
    admin_of.iter().any(|own| own == domain)
}

impl PrincipalFacts {
    /// As [`owns`].
    pub fn owns(&self, domain: &str) -> bool {
        owns(&self.admin_of, domain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(prop_oneof![Just("admin"), Just("weather"), Just("ops"), Just("adm")], 0..3)
            .prop_map(|list| list.into_iter().map(str::to_owned).collect())
    }

    proptest! {
        #[test]
        fn administrators_act_for_their_own(roles in list(), admin_of in list()) {
            let platform = roles.iter().any(|role| role == "admin");
            prop_assert_eq!(Authority::Platform.granted_to(&roles, &admin_of), platform);
            prop_assert_eq!(Authority::AnyDomain.granted_to(&roles, &admin_of), platform || !admin_of.is_empty());
            for domain in ["admin", "weather", "adm"] {
                let own = admin_of.iter().any(|one| one == domain);
                prop_assert_eq!(Authority::Domain(domain.to_owned()).granted_to(&roles, &admin_of), platform || own);
                prop_assert_eq!(administers(&roles, &admin_of, domain), platform || own);
                prop_assert_eq!(owns(&admin_of, domain), own);
            }
        }
    }
}
