//! Columns, and what is inside them, compared one by one.
//! Never: "compatible" for a pair of constraints whose order is not known.

use std::cmp::Ordering;

use super::{ChangeKind, FieldChange};
use crate::constraints::{Bound, Constraints, Scalar};
use crate::model::Column;
use crate::types::Type;

struct Changes<'a> {
    path: &'a str,
    out: &'a mut Vec<FieldChange>,
}

impl Changes<'_> {
    fn push(&mut self, kind: ChangeKind, breaking: bool, reason: String) {
        self.out.push(FieldChange { path: self.path.to_owned(), kind, breaking, reason });
    }
    /// A constraint that got tighter breaks, one that got looser does not.
    fn constraint(&mut self, what: &str, narrowed: bool) {
        if narrowed {
            self.push(ChangeKind::Narrowed, true, format!("{what} is tighter: records once accepted are refused"));
        } else {
            self.push(ChangeKind::Widened, false, format!("{what} is looser"));
        }
    }
}

/// The columns of a row or of an object.
pub(super) fn compare(old: &[Column], new: &[Column], parent: &str, out: &mut Vec<FieldChange>) {
    for column in old {
        let path = format!("{parent}{}", column.name);
        match new.iter().find(|c| c.name == column.name) {
            Some(now) => compare_column(column, now, &path, out),
            None => Changes { path: &path, out }.push(
                ChangeKind::Removed,
                true,
                "the column is removed: queries that name it fail".to_owned(),
            ),
        }
    }
    for column in new.iter().filter(|c| old.iter().all(|o| o.name != c.name)) {
        let path = format!("{parent}{}", column.name);
        let reason = if column.required {
            "a new required column: records once accepted lack it"
        } else {
            "a new optional column"
        };
        Changes { path: &path, out }.push(ChangeKind::Added, column.required, reason.to_owned());
    }
}

fn compare_column(old: &Column, new: &Column, path: &str, out: &mut Vec<FieldChange>) {
    let mut changes = Changes { path, out };
    if old.record_name() != new.record_name() {
        let from = old.record_name();
        let to = new.record_name();
        changes.push(ChangeKind::Type, true, format!("records call it `{to}`, not `{from}`"));
    }
    if !same_kind(&old.ty, &new.ty) {
        changes.push(ChangeKind::Type, true, format!("{} becomes {}: queries change type", old.ty, new.ty));
        return;
    }
    match (old.required, new.required) {
        (false, true) => changes.push(ChangeKind::Required, true, "null was allowed and is refused now".to_owned()),
        (true, false) => changes.push(ChangeKind::Required, false, "null is allowed now".to_owned()),
        _ => {}
    }
    constraints(&old.constraints, &new.constraints, &mut changes);
    documentation(old, new, &mut changes);
    match &old.ty {
        Type::Struct(_) => compare(&old.children, &new.children, &format!("{path}."), out),
        Type::List(_) | Type::Map(..) => {
            for (was, is) in old.children.iter().zip(&new.children) {
                let inside = match was.name.as_str() {
                    "element" => format!("{path}[]"),
                    "key" => format!("{path}{{key}}"),
                    _ => format!("{path}{{}}"),
                };
                compare_column(was, is, &inside, out);
            }
        }
        _ => {}
    }
}

/// Objects, arrays and maps are compared inside; all else must be equal.
fn same_kind(old: &Type, new: &Type) -> bool {
    matches!(
        (old, new),
        (Type::Struct(_), Type::Struct(_)) | (Type::List(_), Type::List(_)) | (Type::Map(..), Type::Map(..))
    ) || old == new
}

fn constraints(old: &Constraints, new: &Constraints, changes: &mut Changes<'_>) {
    values(&old.enumeration, &new.enumeration, changes);
    let was = old.minimum.as_ref().map(|b| reached(b, 1));
    let is = new.minimum.as_ref().map(|b| reached(b, 1));
    ordered("the minimum", was.as_ref(), is.as_ref(), least, changes);
    let was = old.maximum.as_ref().map(|b| reached(b, -1));
    let is = new.maximum.as_ref().map(|b| reached(b, -1));
    ordered("the maximum", was.as_ref(), is.as_ref(), greatest, changes);
    let up = |was: &u64, is: &u64| Some(is.cmp(was));
    let down = |was: &u64, is: &u64| Some(was.cmp(is));
    for (what, was, is) in [
        ("minLength", old.min_length, new.min_length),
        ("minItems", old.min_items, new.min_items),
        ("minProperties", old.min_properties, new.min_properties),
    ] {
        // None at least is all there is.
        let was = was.filter(|n| *n > 0);
        let is = is.filter(|n| *n > 0);
        ordered(what, was.as_ref(), is.as_ref(), up, changes);
    }
    ordered("maxLength", old.max_length.as_ref(), new.max_length.as_ref(), down, changes);
    ordered("maxItems", old.max_items.as_ref(), new.max_items.as_ref(), down, changes);
    ordered("maxProperties", old.max_properties.as_ref(), new.max_properties.as_ref(), down, changes);
    ordered("multipleOf", old.multiple_of.as_ref(), new.multiple_of.as_ref(), multiple, changes);
    ordered("the pattern", old.pattern.as_ref(), new.pattern.as_ref(), |_, _| None, changes);
    ordered("the format", old.format.as_ref(), new.format.as_ref(), |_, _| None, changes);
    if old.unique_items != new.unique_items {
        changes.constraint("uniqueItems", new.unique_items);
    }
}

/// `order` says how the new value compares in tightness to the old one; not at all counts as tighter.
fn ordered<T: PartialEq>(
    what: &str,
    old: Option<&T>,
    new: Option<&T>,
    order: impl Fn(&T, &T) -> Option<Ordering>,
    changes: &mut Changes<'_>,
) {
    match (old, new) {
        (None, Some(_)) => changes.constraint(what, true),
        (Some(_), None) => changes.constraint(what, false),
        (Some(was), Some(is)) if was != is => changes.constraint(what, order(was, is) != Some(Ordering::Less)),
        _ => {}
    }
}

fn values(old: &Option<Vec<Scalar>>, new: &Option<Vec<Scalar>>, changes: &mut Changes<'_>) {
    match (old, new) {
        (None, Some(_)) => changes.constraint("enum", true),
        (Some(_), None) => changes.constraint("enum", false),
        (Some(was), Some(is)) => {
            let lost = was.iter().any(|value| !is.contains(value));
            if lost || is.iter().any(|value| !was.contains(value)) {
                changes.constraint("enum", lost);
            }
        }
        (None, None) => {}
    }
}

/// Whole numbers and days: beyond 4 is from 5 on.
fn reached(bound: &Bound, step: i8) -> Bound {
    let next = match &bound.value {
        Scalar::Long(n) if !bound.inclusive => n.checked_add(i64::from(step)).map(Scalar::Long),
        Scalar::Date(n) if !bound.inclusive => n.checked_add(i32::from(step)).map(Scalar::Date),
        _ => None,
    };
    next.map_or_else(|| bound.clone(), |value| Bound { value, inclusive: true })
}

fn least(was: &Bound, is: &Bound) -> Option<Ordering> {
    Some(is.value.partial_cmp(&was.value)?.then(was.inclusive.cmp(&is.inclusive)))
}

fn greatest(was: &Bound, is: &Bound) -> Option<Ordering> {
    Some(was.value.partial_cmp(&is.value)?.then(was.inclusive.cmp(&is.inclusive)))
}

/// Looser if every multiple of the old is one of the new.
fn multiple(was: &Scalar, is: &Scalar) -> Option<Ordering> {
    let looser = match (was, is) {
        (Scalar::Long(was), Scalar::Long(is)) => was.checked_rem(*is) == Some(0),
        (Scalar::Decimal(was), Scalar::Decimal(is)) => was.checked_rem(*is) == Some(0),
        _ => return None,
    };
    Some(if looser { Ordering::Less } else { Ordering::Greater })
}

fn documentation(old: &Column, new: &Column, changes: &mut Changes<'_>) {
    let texts = [
        ("the description", old.description != new.description),
        ("the classification", old.classification != new.classification),
        ("the tags", old.tags != new.tags),
        ("the business name", old.business_name != new.business_name),
        ("a custom property", old.custom_properties != new.custom_properties),
    ];
    for (what, _) in texts.iter().filter(|(_, differs)| *differs) {
        changes.push(ChangeKind::Documentation, false, format!("{what} differs"));
    }
    if old.unique != new.unique {
        changes.push(ChangeKind::Promise, false, "`unique`, which quality judges, differs".to_owned());
    }
}
