//! Versions of contracts and products: `1.2.3`, `2.0.0-rc.1`, also with a leading `v`.
//! In: what a document writes. Out: their order, and what may follow what. The order is that of semantic versioning: a
//! pre-release comes before its release, and what follows a `+` counts for nothing.
//! Never: a second rule for the order of versions in another place.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;

/// A version that documents may have.
#[derive(Debug, Clone)]
pub struct Version(semver::Version);

/// The least step that a version must take for what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bump {
    /// Nothing that a program sees.
    Patch,
    /// Additions.
    Minor,
    /// A breaking change.
    Major,
}

/// Why a version may not follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// A text that is none.
    #[error("`{text}` is no version of the form 1.2.3")]
    Form {
        /// The text.
        text: String,
    },
    /// Lower than what is active.
    #[error("version {new} comes before the active {old}")]
    Older {
        /// What is active.
        old: String,
        /// What shall follow it.
        new: String,
        /// The lowest version that may.
        least: Version,
    },
    /// A smaller step than the changes need.
    #[error("version {new} is too low for what changed since the active {old}")]
    TooLow {
        /// What is active.
        old: String,
        /// What shall follow it.
        new: String,
        /// The lowest version that may.
        least: Version,
    },
}

impl VersionError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Form { .. } => "write major.minor.patch, such as 1.0.0".to_owned(),
            Self::Older { least, .. } | Self::TooLow { least, .. } => format!("set `version: {least}` or higher"),
        }
    }
}

impl Version {
    /// Reads a version; `None` if it is not of the form 1.2.3.
    pub fn parse(text: &str) -> Option<Self> {
        semver::Version::parse(text.strip_prefix(['v', 'V']).unwrap_or(text)).ok().map(Self)
    }
    /// The first number.
    pub fn major(&self) -> u64 {
        self.0.major
    }
    /// Whether this is what comes before a release: `1.1.0-rc.1`.
    pub fn is_pre_release(&self) -> bool {
        !self.0.pre.is_empty()
    }
    /// The release that this version is, or comes before.
    fn release(&self) -> semver::Version {
        semver::Version::new(self.0.major, self.0.minor, self.0.patch)
    }
    /// The lowest release that says as much as a step from this version. What changes between the pre-releases of
    /// 1.1.0, and up to 1.1.0 itself, is what 1.1.0 brings: a step of this size is already in its number.
    fn after(&self, step: Bump) -> semver::Version {
        let semver::Version { major, minor, patch, .. } = self.0;
        match step {
            Bump::Major if self.is_pre_release() && minor == 0 && patch == 0 => self.release(),
            Bump::Major => semver::Version::new(major + 1, 0, 0),
            Bump::Minor if self.is_pre_release() && patch == 0 => self.release(),
            Bump::Minor => semver::Version::new(major, minor + 1, 0),
            Bump::Patch => self.0.clone(),
        }
    }
}

/// Whether `new` may follow `old` when the changes between them need a step of this size. Words alone (`Patch`) may
/// keep the version.
pub fn follows(old: &str, new: &str, step: Bump) -> Result<(), VersionError> {
    let read = |text: &str| Version::parse(text).ok_or_else(|| VersionError::Form { text: text.to_owned() });
    let from = read(old)?;
    let to = read(new)?;
    let least = Version(from.after(step));
    let is_high_enough = match step {
        Bump::Patch => true,
        Bump::Minor | Bump::Major => Version(to.release()) >= least && to > from,
    };
    let is_older = to < from;
    let old = old.to_owned();
    let new = new.to_owned();
    match (is_older, is_high_enough) {
        (true, _) => Err(VersionError::Older { old, new, least }),
        (false, true) => Ok(()),
        (false, false) => Err(VersionError::TooLow { old, new, least }),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, step: Bump, remedy: Option<&str>) {
        let error = follows(old, new, step).err().map(|error| error.remedy());
        assert_eq!(error.as_deref(), remedy, "{new} after {old}, {step:?}");
    }

    #[test]
    fn a_step_shows_in_the_version() {
        check("1.0.0", "1.0.0", Bump::Patch, None);
        check("1.0.0", "1.1.0", Bump::Minor, None);
        check("1.0.0", "2.0.0", Bump::Minor, None);
        check("1.0.0", "1.0.1", Bump::Minor, Some("set `version: 1.1.0` or higher"));
        check("v1.4.0", "1.5.0", Bump::Major, Some("set `version: 2.0.0` or higher"));
        check("1.1.0", "1.0.9", Bump::Patch, Some("set `version: 1.1.0` or higher"));
        check("1.1.0", "next", Bump::Patch, Some("write major.minor.patch, such as 1.0.0"));
    }

    #[test]
    fn a_pre_release_comes_before_its_release() {
        check("1.1.0", "1.1.0-rc.1", Bump::Patch, Some("set `version: 1.1.0` or higher"));
        check("1.0.0", "1.1.0-rc.1", Bump::Minor, None);
        check("1.1.0-rc.1", "1.1.0-rc.2", Bump::Minor, None);
        check("1.1.0-rc.2", "1.1.0-rc.2", Bump::Minor, Some("set `version: 1.1.0` or higher"));
        check("1.1.0-rc.10", "1.1.0-rc.9", Bump::Patch, Some("set `version: 1.1.0-rc.10` or higher"));
        check("1.1.0-rc.1", "1.1.0", Bump::Minor, None);
        check("1.1.1-rc.1", "1.1.1", Bump::Minor, Some("set `version: 1.2.0` or higher"));
        check("2.0.0-rc.1", "2.0.0", Bump::Major, None);
        check("1.0.0+a", "1.0.0+b", Bump::Patch, None);
    }

    fn versions() -> impl Strategy<Value = String> {
        let pre = prop_oneof![Just(""), Just("-alpha"), Just("-rc.2"), Just("-rc.10"), Just("-1")];
        (0..3u64, 0..3u64, 0..3u64, pre, prop_oneof![Just(""), Just("+b1")])
            .prop_map(|(major, minor, patch, pre, build)| format!("{major}.{minor}.{patch}{pre}{build}"))
    }

    proptest! {
        /// Following is a one-way street: no two different versions follow each other, and a bigger step never
        /// allows what a smaller one refuses.
        #[test]
        fn following_is_an_order(old in versions(), new in versions()) {
            let a = Version::parse(&old).unwrap();
            let b = Version::parse(&new).unwrap();
            let allowed = |step| follows(&old, &new, step).is_ok();
            prop_assert_eq!(allowed(Bump::Patch), a <= b);
            prop_assert!(!allowed(Bump::Minor) || (a < b && allowed(Bump::Patch)));
            prop_assert!(!allowed(Bump::Major) || allowed(Bump::Minor));
            if let Err(VersionError::Older { least, .. } | VersionError::TooLow { least, .. }) = follows(&old, &new, Bump::Minor) {
                prop_assert!(follows(&old, &least.to_string(), Bump::Minor).is_ok(), "the remedy {} is refused", least);
            }
        }
    }
}
