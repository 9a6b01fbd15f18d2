//! In: a bearer key. Out: the principal that has it. Never: a guess, or anything while principals are unknown.

use mesh_policy::PrincipalFacts;

use crate::error::QueryError;
use crate::world::World;

/// Who asks.
pub fn reader(world: &World, key: Option<&str>) -> Result<PrincipalFacts, QueryError> {
    world.ready()?;
    world.principal(key.filter(|key| !key.is_empty()).ok_or(QueryError::UnknownKey)?)
}
