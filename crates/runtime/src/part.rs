//! The names of a service's parts, the same in all services: in readiness, in `mesh_up`, in log lines, in errors.

/// The brokers: whether they answer.
pub const BUS: &str = "bus";
/// Where requests come in.
pub const LISTENER: &str = "listener";
/// The admin port itself.
pub const ADMIN: &str = "admin";

/// What a service knows of a topic: whether all of it could be read and is followed.
pub fn view(topic: &str) -> String {
    format!("view:{topic}")
}

/// One table: whether it is fed.
pub fn table(name: impl std::fmt::Display) -> String {
    format!("table:{name}")
}

/// Any other long task.
pub fn task(name: &str) -> String {
    format!("task:{name}")
}
