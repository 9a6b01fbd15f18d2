//! One file a command.

pub(crate) mod apply;
pub(crate) mod bus;
pub(crate) mod ingest;
pub(crate) mod lineage;
pub(crate) mod policy;
pub(crate) mod produce;
pub(crate) mod products;
pub(crate) mod quality;
pub(crate) mod show;
pub(crate) mod sql;
pub(crate) mod validate;
pub(crate) mod watch;
