//! In: a request's credentials. Out: the principal that has it. Never: a guess, or anything while principals are unknown.

use mesh_policy::PrincipalFacts;
use mesh_runtime::Credentials;

use crate::catalog_view::CatalogView;
use crate::error::QueryError;

/// Who asks.
pub fn reader(catalog_view: &CatalogView, credentials: Option<&Credentials>) -> Result<PrincipalFacts, QueryError> {
    catalog_view.ready()?;
    catalog_view.principal(credentials.ok_or(QueryError::UnknownKey)?)
}
