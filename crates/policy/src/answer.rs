//! In: the value of a rule. Out: what the mesh makes of it. Never: a guess at what a value of another shape meant.

use std::collections::BTreeMap;

use regorus::Value;

use crate::admission::Denial;
use crate::error::PolicyError;
use crate::facts::ProductFacts;
use crate::mask::MaskAction;
use crate::package::Package;
use crate::rights::RowFilter;

const DENIALS: &str = "a set of objects {\"rule\", \"path\", \"message\", \"remedy\"}, each a text";
const FILTERS: &str = "a set or array of {\"expression\": an SQL condition}";
const MASKS: &str = "an object of column to {\"action\": a mask}";

/// `allow`: undefined is no.
pub(crate) fn allow(rule: &str, value: Option<&Value>) -> Result<bool, PolicyError> {
    match value {
        None => Ok(false),
        Some(Value::Bool(allow)) => Ok(*allow),
        Some(other) => Err(wrong(rule, other, "true or false")),
    }
}

/// `deny`: a partial set, so undefined is none.
pub(crate) fn denials(rule: &str, package: &Package, value: Option<&Value>) -> Result<Vec<Denial>, PolicyError> {
    let denial = |entry: &Value| -> Result<Denial, PolicyError> {
        let text = |key: &str| text(&entry[key]).ok_or_else(|| wrong(rule, entry, DENIALS));
        Ok(Denial {
            path: text("path")?,
            rule: text("rule")?,
            message: text("message")?,
            remedy: text("remedy")?,
            package: package.to_string(),
        })
    };
    members(rule, value, DENIALS)?.into_iter().map(denial).collect()
}

/// `rowFilters`, as Trino's OPA plugin shapes them.
pub(crate) fn row_filters(rule: &str, package: &Package, value: Option<&Value>) -> Result<Vec<RowFilter>, PolicyError> {
    let filter = |entry: &Value| match text(&entry["expression"]) {
        Some(expression) if !expression.trim().is_empty() => Ok(RowFilter { expression, package: package.to_string() }),
        _ => Err(wrong(rule, entry, FILTERS)),
    };
    members(rule, value, FILTERS)?.into_iter().map(filter).collect()
}

/// `columnMasks`, in Iceberg's vocabulary.
pub(crate) fn column_masks(
    rule: &str,
    product: &ProductFacts,
    value: Option<&Value>,
) -> Result<BTreeMap<String, MaskAction>, PolicyError> {
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let Value::Object(masks) = value else { return Err(wrong(rule, value, MASKS)) };
    let mut actions = BTreeMap::new();
    for (column, mask) in masks.iter() {
        let (Some(column), Some(action)) = (text(column), text(&mask["action"])) else {
            return Err(wrong(rule, value, MASKS));
        };
        actions.insert(column.clone(), mask_of(rule, product, &column, &action)?);
    }
    Ok(actions)
}

fn mask_of(rule: &str, product: &ProductFacts, column: &str, action: &str) -> Result<MaskAction, PolicyError> {
    let rule = rule.to_owned();
    let name = column.to_owned();
    let Some(facts) = product.columns.iter().find(|known| known.name == column) else {
        return Err(PolicyError::UnknownColumn { rule, column: name, product: product.name.clone() });
    };
    let Ok(mask) = action.parse::<MaskAction>() else {
        let known = MaskAction::ALL.map(MaskAction::name).join(", ");
        return Err(PolicyError::UnknownAction { rule, column: name, action: action.to_owned(), known });
    };
    if !mask.fits(&facts.logical_type, facts.required) {
        let required = if facts.required { "required " } else { "" };
        let logical_type = format!("{required}{}", facts.logical_type);
        return Err(PolicyError::UnfitAction { rule, column: name, action: mask.name(), logical_type });
    }
    Ok(mask)
}

fn members<'v>(rule: &str, value: Option<&'v Value>, wanted: &'static str) -> Result<Vec<&'v Value>, PolicyError> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Set(set)) => Ok(set.iter().collect()),
        Some(Value::Array(array)) => Ok(array.iter().collect()),
        Some(other) => Err(wrong(rule, other, wanted)),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn wrong(rule: &str, found: &Value, wanted: &'static str) -> PolicyError {
    let mut shown = found.to_string();
    if let Some((cut, _)) = shown.char_indices().nth(200) {
        shown.truncate(cut);
        shown.push('…');
    }
    PolicyError::WrongAnswer { rule: rule.to_owned(), found: shown, wanted }
}
