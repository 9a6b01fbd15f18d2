//! A function whose results are counted: what it will make is reserved in the query's memory pool before it makes it.
//!
//! In: a function that may make long values of short ones. Out: the same values, or the error that there is no memory.
//! Never: an allocation that is not reserved in the pool.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    ColumnarValue, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    binary::BinaryTypeCoercer,
};
use datafusion::physical_expr::PhysicalExpr as _;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};

use super::guard::Constants;
use super::held::held;
use super::sizes::{Size, array_bytes};

/// Steps that a function may take for one batch: some seconds.
const STEPS: u64 = 4_000_000_000;

/// A function that makes no more than the pool has room for.
pub(super) struct Counted {
    inner: Arc<ScalarUDF>,
    size: Size,
    constants: Arc<Constants>,
}

impl Counted {
    pub(super) fn new(inner: Arc<ScalarUDF>, size: Size, constants: Arc<Constants>) -> Self {
        Self { inner, size, constants }
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({})", self.inner.name())
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// No `simplify`: it could put the inner function in this one's place.
impl ScalarUDFImpl for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let bound = self.size.bound(&args.args, rows)?;
        if self.size == Size::Steps {
            if bound > STEPS {
                return exec_err!("{} would take {bound} steps; at most {STEPS} at a time", self.name());
            }
            return self.inner.invoke_with_args(args);
        }
        let place = self.constants.place(bound)?;
        match self.inner.invoke_with_args(args)? {
            ColumnarValue::Array(array) => {
                place.shrink(place.size().saturating_sub(usize::try_from(array_bytes(&array)?).unwrap_or(usize::MAX)));
                Ok(ColumnarValue::Array(held(&array, place)?))
            }
            ColumnarValue::Scalar(scalar) => {
                drop(place);
                self.constants.keep(scalar.size())?;
                Ok(ColumnarValue::Scalar(scalar))
            }
        }
    }
}

/// `a || b` as a function, so that it can be counted.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Concatenation {
    signature: Signature,
}

impl Concatenation {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &'static str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = arg_types else { return exec_err!("|| takes two arguments") };
        let (left, right) = BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [left, right] = arg_types else { return exec_err!("|| takes two arguments") };
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let batch = arrow::array::RecordBatch::try_from_iter(["left", "right"].into_iter().zip(columns))?;
        let column = |index| Arc::new(Column::new(["left", "right"][index], index));
        let value = BinaryExpr::new(column(0), Operator::StringConcat, column(1)).evaluate(&batch)?;
        match value {
            ColumnarValue::Array(array) if scalars => {
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?))
            }
            value => Ok(value),
        }
    }
}
