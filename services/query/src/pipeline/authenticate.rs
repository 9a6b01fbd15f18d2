//! In: a request's credentials. Out: the principal that has it. Never: a guess, or anything while principals are unknown.

use mesh_policy::PrincipalFacts;
use mesh_runtime::Credentials;

use crate::error::QueryError;
use crate::world::World;

/// Who asks.
pub fn reader(world: &World, credentials: Option<&Credentials>) -> Result<PrincipalFacts, QueryError> {
    world.ready()?;
    world.principal(credentials.ok_or(QueryError::UnknownKey)?)
}
