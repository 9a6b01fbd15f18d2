//! The barrier: a product as a reader with row filters or masks may see it, and nothing else of it (NO-LEAK).
//!
//! In: a table and a [`Restriction`]. Out: a table whose plan is one leaf. Within it, the policy's row filters run
//! first, then the masks; the reader's own expressions run outside, on what is left. The planner outside sees no
//! children, no files, no policy, no metrics, no column statistics and a row count rounded to a power of ten.
//!
//! What must never happen: an expression of the reader's that runs on a hidden row or value and could show it by
//! failing, by its result, or by the plan's shape. So the leaf takes only comparisons of a bare, unmasked column with
//! a literal of its type, and dynamic filters on such columns ([`accept`]): they cannot fail. It takes no limit.
//! An error from within is sealed: a code and an id, no value. Timing is out of scope, as in PostgreSQL.

mod accept;
mod exec;
mod mask;
mod observed;
mod restriction;
mod rows;
mod table;

pub use exec::GovernedScanExec;
pub use mask::{Mask, MaskKeys};
pub use observed::observed;
pub use restriction::{BarrierError, Restriction};
pub use rows::Sealed;
pub use table::{GovernedTable, shown_schema};

#[cfg(test)]
mod leaks;
