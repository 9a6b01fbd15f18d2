//! Stage 2a. In: a row rule and the table's columns. Out: the condition as an expression that Arrow kernels evaluate.
//! Never: a condition that fails on the rows; what does not fit the column's type is reported before any row is read.

use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_ext::FieldAccessor as _;
use datafusion::logical_expr::{Expr, Operator, binary_expr, ident, lit};
use serde_json::Value;

use super::checks::RowRule;

/// The condition under which a row counts.
pub(crate) fn of(rule: &RowRule, column: &str, schema: &Schema) -> Result<Expr, String> {
    let (value, data_type) = resolve(column, schema)?;
    match rule {
        RowRule::Null => Ok(value.is_null()),
        RowRule::Missing(missing) => Ok(value.clone().is_null().or(one_of(value, missing, &data_type))),
        RowRule::Invalid { valid, pattern } => {
            let known = valid.as_ref().map(|valid| !one_of(value.clone(), valid, &data_type));
            let form = pattern.as_deref().map(|pattern| mismatch(value.clone(), pattern, &data_type)).transpose()?;
            let invalid = [known, form].into_iter().flatten().reduce(Expr::or).unwrap_or(lit(false));
            Ok(value.is_not_null().and(invalid))
        }
    }
}

/// A column by its path, as the contract folds it.
pub(crate) fn resolve(path: &str, schema: &Schema) -> Result<(Expr, DataType), String> {
    let mut parts = path.split('.');
    let name = parts.next().unwrap_or_default();
    let no_column = || format!("the table has no column `{path}`");
    let field = schema.field_with_name(name).map_err(|_| no_column())?;
    let mut value = ident(name);
    let mut data_type = field.data_type().clone();
    for part in parts {
        let DataType::Struct(fields) = &data_type else { return Err(no_column()) };
        let inner = inner_type(fields, part).ok_or_else(no_column)?;
        (value, data_type) = (value.field(part), inner);
    }
    Ok((value, data_type))
}

fn inner_type(fields: &Fields, name: &str) -> Option<DataType> {
    fields.find(name).map(|(_, field)| field.data_type().clone())
}

/// Null and what the column's type cannot hold are in no list: no value of the column equals them.
fn one_of(value: Expr, list: &[Value], data_type: &DataType) -> Expr {
    let literals: Vec<Expr> = list.iter().filter_map(|entry| literal(entry, data_type)).collect();
    if literals.is_empty() { lit(false) } else { value.in_list(literals, false) }
}

fn literal(value: &Value, data_type: &DataType) -> Option<Expr> {
    let scalar = match value {
        Value::Null => return None,
        Value::Bool(bool) => ScalarValue::Boolean(Some(*bool)),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => ScalarValue::Int64(Some(integer)),
            None => ScalarValue::Float64(number.as_f64()),
        },
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        nested => ScalarValue::Utf8(Some(nested.to_string())),
    };
    let cast = scalar.cast_to(data_type).ok().filter(|cast| !cast.is_null())?;
    // 0.5 is no integer: what changed on its way into the column's type equals none of its values.
    let back = cast.cast_to(&scalar.data_type()).ok();
    let is_text = matches!(scalar, ScalarValue::Utf8(_));
    (is_text || back == Some(scalar)).then(|| lit(cast))
}

fn mismatch(value: Expr, pattern: &str, data_type: &DataType) -> Result<Expr, String> {
    if !matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Err(format!("`pattern` is for texts, and the column is {data_type}"));
    }
    regex::Regex::new(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
    Ok(binary_expr(value, Operator::RegexNotMatch, lit(pattern)))
}
