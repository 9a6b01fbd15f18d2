//! The functions that statements may use: DataFusion's, without those by which a short statement asks for any amount
//! of memory. What functions allocate is not counted by the query's memory pool, so it must be bounded here.
//!
//! In: a session. Out: the same, with `repeat`, `lpad` and `rpad` bounded, and without functions that make lists of
//! any length. Never: a text longer than [`TEXT_BYTES`] made of a short one by a count.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// Made of a count, or of a type whose values have no bound (`arrow_cast` to `LargeUtf8`).
const LEFT_OUT: [&str; 6] =
    ["range", "generate_series", "array_repeat", "array_resize", "arrow_cast", "arrow_try_cast"];
/// What one of the bounded functions may make for one batch.
const TEXT_BYTES: i64 = 64 << 20;

/// Leaves the functions in `state` that a statement may use.
pub fn restrict(state: &mut SessionState) -> Result<()> {
    for name in LEFT_OUT {
        state.deregister_udf(name)?;
    }
    for (name, size) in [("repeat", Size::Times), ("lpad", Size::Width), ("rpad", Size::Width)] {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, size })))?;
    }
    Ok(())
}

/// How long a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// The first argument, as often as the second says.
    Times,
    /// As many characters as the second argument says.
    Width,
}

impl Size {
    fn of(self, length: i64, count: i64) -> i64 {
        match self {
            Self::Times => length.saturating_mul(count.max(0)),
            Self::Width => count.max(0),
        }
    }
}

/// A function of a text and a count, that refuses to make too much.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    size: Size,
}

impl Bounded {
    fn bytes(&self, text: &ArrayRef, count: &ArrayRef) -> Result<i64> {
        let lengths = cast(&length(text)?, &DataType::Int64)?;
        let counts = cast(count, &DataType::Int64)?;
        let (lengths, counts) = (lengths.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
        let both = lengths.iter().zip(counts.iter()).filter_map(|(length, count)| length.zip(count));
        Ok(both.fold(0, |sum, (length, count)| sum.saturating_add(self.size.of(length, count))))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [text, count, ..] = ColumnarValue::values_to_arrays(&args.args)?.as_slice() {
            let bytes = self.bytes(text, count)?;
            if bytes > TEXT_BYTES {
                return exec_err!("{} would make {bytes} bytes; at most {TEXT_BYTES} at a time", self.name());
            }
        }
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use datafusion::common::DataFusionError;
    use datafusion::prelude::SessionContext;

    /// The one value of an answer, or the error.
    async fn answer(sql: &str) -> Result<String, DataFusionError> {
        let mut state = SessionContext::new().state();
        restrict(&mut state)?;
        let batches = SessionContext::new_with_state(state).sql(sql).await?.collect().await?;
        let value = arrow::util::display::array_value_to_string(batches[0].column(0), 0)?;
        Ok(value)
    }

    #[tokio::test]
    async fn texts_of_a_count_are_bounded() {
        let check = async |sql: &str, expected: Option<&str>| match (answer(sql).await, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected, "{sql}"),
            (Err(error), None) => assert!(error.to_string().contains("at most"), "{sql}: {error}"),
            (found, expected) => panic!("{sql}: {found:?}, not {expected:?}"),
        };
        check("SELECT repeat('ab', 3)", Some("ababab")).await;
        check("SELECT repeat(x, n) FROM (VALUES ('ab', -1), ('c', 2)) AS t(x, n)", Some("")).await;
        check("SELECT lpad('7', 3, '0')", Some("007")).await;
        check("SELECT rpad(CAST(NULL AS VARCHAR), 3)", Some("")).await;
        check("SELECT length(repeat('x', 1000000000))", None).await;
        check("SELECT lpad('x', 2000000000)", None).await;
        check("SELECT rpad(x, n, 'ab') FROM (VALUES ('x', 1), ('y', 100000000)) AS t(x, n)", None).await;
    }

    #[tokio::test]
    async fn lists_of_any_length_cannot_be_made() {
        for call in ["range(1, 9)", "generate_series(1, 9)", "list_repeat(1, 9)", "array_resize([1], 9)"] {
            let error = answer(&format!("SELECT {call}")).await.unwrap_err();
            assert!(error.to_string().contains("Invalid function"), "{call}: {error}");
        }
    }
}
