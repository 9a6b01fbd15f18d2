//! How a command ends, as a shell sees it.

use std::process::ExitCode;

/// What a command's end means; usage errors (2) are clap's and [`CliError`](crate::CliError)'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// The question was understood and answered, and the answer is no.
    No,
    Usage,
    /// The mesh, not the question, is at fault.
    Fault,
}

impl Exit {
    /// As a shell sees it.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Fault => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
