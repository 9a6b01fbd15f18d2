//! Which packages the mesh evaluates, and which may narrow which.

use std::fmt;
use std::str::FromStr;

/// Whose rule it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Holds for every domain.
    Platform,
    /// Holds for the products of this domain, and only narrows.
    Domain(String),
}

/// What a package decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageKind {
    /// May this contract be registered?
    Admission,
    /// What does this principal see of this product?
    ReadingRights,
}

/// The package of a policy module: its identity on `mesh.policies`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Package {
    pub scope: Scope,
    pub kind: PackageKind,
}

/// One Rego module as its author knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// File name or policy id, for messages.
    pub name: String,
    pub rego: String,
}

impl Module {
    /// A module by its name and text.
    pub fn new(name: impl Into<String>, rego: impl Into<String>) -> Self {
        Self { name: name.into(), rego: rego.into() }
    }
}

/// A package that the mesh never evaluates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a package that the mesh evaluates")]
pub struct NoSuchPackage;

impl Package {
    /// The platform's package of this kind.
    pub fn platform(kind: PackageKind) -> Self {
        Self { scope: Scope::Platform, kind }
    }

    /// The domain's package of this kind.
    pub fn domain(domain: impl Into<String>, kind: PackageKind) -> Self {
        Self { scope: Scope::Domain(domain.into()), kind }
    }

    /// The rule without which the package decides nothing.
    pub(crate) fn required_rule(&self) -> &'static str {
        match self.kind {
            PackageKind::Admission => "deny",
            PackageKind::ReadingRights => "allow",
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PackageKind::Admission => "admission",
            PackageKind::ReadingRights => "reading",
        };
        match &self.scope {
            Scope::Platform => write!(f, "mesh.platform.{kind}"),
            Scope::Domain(domain) => write!(f, "mesh.domain.{domain}.{kind}"),
        }
    }
}

impl FromStr for Package {
    type Err = NoSuchPackage;

    fn from_str(text: &str) -> Result<Self, NoSuchPackage> {
        let parts: Vec<&str> = text.split('.').collect();
        let (scope, kind) = match parts.as_slice() {
            ["mesh", "platform", kind] => (Scope::Platform, kind),
            ["mesh", "domain", domain, kind] if is_folded(domain) => (Scope::Domain((*domain).to_owned()), kind),
            _ => return Err(NoSuchPackage),
        };
        match *kind {
            "admission" => Ok(Self { scope, kind: PackageKind::Admission }),
            "reading" => Ok(Self { scope, kind: PackageKind::ReadingRights }),
            _ => Err(NoSuchPackage),
        }
    }
}

/// A domain's name as contracts fold it: a package of another spelling would never be evaluated.
fn is_folded(domain: &str) -> bool {
    let mut bytes = domain.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && domain.len() <= 63
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
