//! How a commit ended: the one type by which every layer decides what may be tried again and what may be deleted.

use crate::commit::Committed;
use crate::error::{LakehouseError, Result};

/// How a commit ended. Only the catalog says so; no caller guesses it from an error or a path.
#[derive(Debug)]
#[must_use = "only `Lost` frees the files of a commit"]
pub enum CommitOutcome<T = Committed> {
    /// It is in the table, by this attempt or by an earlier one.
    Stands(T),
    /// It is not in the table and never will be: files written for it alone may be deleted.
    Lost(LakehouseError),
    /// It may be in the table, or may still appear there: nothing that it names may be deleted.
    Unknown(LakehouseError),
}

impl<T> CommitOutcome<T> {
    /// For callers that wrote no files of their own: what stands, or the error.
    pub fn into_result(self) -> Result<T> {
        match self {
            Self::Stands(stands) => Ok(stands),
            Self::Lost(error) | Self::Unknown(error) => Err(error),
        }
    }

    /// The error, unless it stands.
    pub fn error(&self) -> Option<&LakehouseError> {
        match self {
            Self::Stands(_) => None,
            Self::Lost(error) | Self::Unknown(error) => Some(error),
        }
    }

    /// Surely not in the table.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// The same outcome of another thing.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> CommitOutcome<U> {
        match self {
            Self::Stands(stands) => CommitOutcome::Stands(with(stands)),
            Self::Lost(error) => CommitOutcome::Lost(error),
            Self::Unknown(error) => CommitOutcome::Unknown(error),
        }
    }
}
