//! `physicalType` against `logicalType`, as far as source systems agree on the words.

use serde_json::Value;

use super::{Notes, Scope, text};
use crate::types::odcs;

pub(super) fn check(property: &Value, pointer: &str, object: &Scope<'_>, notes: &mut Notes) {
    let (Some(logical), Some(written)) = (text(property, "logicalType"), text(property, "physicalType")) else {
        return;
    };
    let Some(physical) = odcs::physical(written) else {
        return;
    };
    let moment = matches!(physical, odcs::Physical::Timestamp { .. } | odcs::Physical::Time);
    let as_text = object.before_3_1 && logical == "string" && moment;
    if !physical.fits(logical) && !as_text {
        notes.error(
            "MESH-CONTRACT-0025",
            &format!("{pointer}/physicalType"),
            format!("`physicalType: {written}` cannot hold `logicalType: {logical}`"),
            "correct one of the two",
        );
        return;
    }
    // More digits than a table holds are a database's own business: no contradiction.
    if let odcs::Physical::Decimal(Some((precision, scale))) = physical
        && (scale > precision || precision == 0 || (logical == "integer" && scale > 0))
        && let Err(reason) = odcs::type_of(property)
    {
        notes.error("MESH-CONTRACT-0025", &format!("{pointer}/physicalType"), reason, "correct the type");
    }
}
