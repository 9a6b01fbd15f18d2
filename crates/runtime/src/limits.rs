//! What the operating system allows a process.

/// Raises the soft limit of open files to the hard one. Each segment, data file and connection is an open file; the
/// usual soft limit of 1024 is soon reached, and is only kept for programs that use `select`.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, soft = limit.current, "limit of open files kept");
    }
}

/// The soft limit of open files; `None` is unlimited.
pub fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}
