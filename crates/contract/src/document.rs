//! From text to findings: YAML, then the standard's schema, then what a schema cannot say.

pub(crate) mod explain;
pub(crate) mod read;
pub(crate) mod semantic;
pub(crate) mod standard;
pub(crate) mod words;
pub(crate) mod yaml;
