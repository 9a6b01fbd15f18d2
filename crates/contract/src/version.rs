//! Versions of contracts and products: `1.2.3`, also with a leading `v`.

/// Reads a version; `None` if it is not of the form 1.2.3.
pub(crate) fn parse(text: &str) -> Option<semver::Version> {
    semver::Version::parse(text.strip_prefix(['v', 'V']).unwrap_or(text)).ok()
}
