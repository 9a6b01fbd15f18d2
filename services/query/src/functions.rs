//! The functions that statements may use: DataFusion's, without those by which a short statement asks for any amount
//! of memory, and with those that make long values out of short ones counted.
//!
//! DataFusion counts what sorts, joins and groups hold, but not what functions allocate. So [`guard`] puts each
//! function that can make more than it was given behind a [`Counted`](counted::Counted) one, whose results are held
//! in the query's memory pool for as long as they are there.

mod counted;
mod guard;
mod held;
mod pieces;
mod sizes;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;

pub use guard::{Constants, guard};
pub use pieces::UnnestInPieces;

/// Made of a count, or of a type whose values have no bound (`arrow_cast` to `LargeUtf8`).
const LEFT_OUT: [&str; 6] =
    ["range", "generate_series", "array_repeat", "array_resize", "arrow_cast", "arrow_try_cast"];
/// Tables of a count.
const TABLES_LEFT_OUT: [&str; 2] = ["range", "generate_series"];

/// Leaves the functions in `state` that a statement may use.
pub fn restrict(state: &mut SessionState) -> Result<()> {
    for name in LEFT_OUT {
        state.deregister_udf(name)?;
    }
    for name in TABLES_LEFT_OUT {
        state.deregister_udtf(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
