//! Mask actions by the names of Iceberg REST's Read Restrictions, and which of two reveals less.

use std::fmt;
use std::str::FromStr;

/// What a reader sees instead of a column's value. The names are those of the Read Restrictions in Iceberg's REST
/// specification; `apply-expression` is not taken, since its result could be the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MaskAction {
    /// Digits become `n`, other characters `x`; `( ) , . - @` stay. Strings only.
    MaskAlphanum,
    /// One fixed value for each primitive type, null included: 999999999, 0.0, `XXXXXXXX`, 9999-12-31, …
    MaskToFixedValue,
    /// Null. Columns that may be null only.
    ReplaceWithNull,
    /// The first four characters, the rest as `mask-alphanum`. Strings only.
    ShowFirst4,
    /// The last four characters, the rest as `mask-alphanum`. Strings only.
    ShowLast4,
    /// 1 January of the same year. Dates and timestamps.
    TruncateToYear,
    /// The first of the same month. Dates and timestamps.
    TruncateToMonth,
    /// A hash that is the same for the same value everywhere, so that masked columns still join. In a mesh it is keyed
    /// (HMAC-SHA-256, one key per mesh): a plain SHA-256 of a tail number is undone with a list of tail numbers.
    Sha256Global,
    /// A hash with a salt of the query: equal values are equal within one answer only.
    Sha256QueryLocal,
}

impl MaskAction {
    /// Every action.
    pub const ALL: [Self; 9] = [
        Self::MaskAlphanum,
        Self::MaskToFixedValue,
        Self::ReplaceWithNull,
        Self::ShowFirst4,
        Self::ShowLast4,
        Self::TruncateToYear,
        Self::TruncateToMonth,
        Self::Sha256Global,
        Self::Sha256QueryLocal,
    ];

    /// Iceberg's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaskAlphanum => "mask-alphanum",
            Self::MaskToFixedValue => "mask-to-fixed-value",
            Self::ReplaceWithNull => "replace-with-null",
            Self::ShowFirst4 => "show-first-4",
            Self::ShowLast4 => "show-last-4",
            Self::TruncateToYear => "truncate-to-year",
            Self::TruncateToMonth => "truncate-to-month",
            Self::Sha256Global => "sha-256-global",
            Self::Sha256QueryLocal => "sha-256-query-local",
        }
    }

    /// Whether a column of this ODCS logical type can carry the action; a required one cannot become null.
    pub fn fits(self, logical_type: &str, required: bool) -> bool {
        match self {
            // There is no one value of an object, a list or a map.
            Self::MaskToFixedValue => !matches!(logical_type, "object" | "array" | "map"),
            Self::ReplaceWithNull => !required,
            Self::MaskAlphanum | Self::ShowFirst4 | Self::ShowLast4 => logical_type == "string",
            Self::TruncateToYear | Self::TruncateToMonth => matches!(logical_type, "date" | "timestamp"),
            Self::Sha256Global | Self::Sha256QueryLocal => matches!(logical_type, "string" | "integer"),
        }
    }

    /// The action that reveals nothing of a column.
    pub fn hiding(required: bool) -> Self {
        if required { Self::MaskToFixedValue } else { Self::ReplaceWithNull }
    }

    /// Whether what `self` shows can be computed from what `other` shows.
    fn reveals_no_more_than(self, other: Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::ReplaceWithNull | Self::MaskToFixedValue, _)
                    | (Self::Sha256QueryLocal, Self::Sha256Global)
                    | (Self::TruncateToYear, Self::TruncateToMonth)
                    | (Self::MaskAlphanum, Self::ShowFirst4 | Self::ShowLast4)
            )
    }

    /// The action for a column that two policies mask: the stricter, where one reveals no more than the other; where
    /// neither does (`sha-256-global` keeps equality, `mask-alphanum` keeps length), what both reveal at most.
    pub fn stricter(self, other: Self, required: bool) -> Self {
        match (self.reveals_no_more_than(other), other.reveals_no_more_than(self)) {
            // Both hide everything: one answer, in either order.
            (true, true) if self != other => Self::hiding(required),
            (true, _) => self,
            (_, true) => other,
            _ if matches!((self, other), (Self::ShowFirst4, Self::ShowLast4) | (Self::ShowLast4, Self::ShowFirst4)) => {
                Self::MaskAlphanum
            }
            _ => Self::hiding(required),
        }
    }
}

impl fmt::Display for MaskAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an action of Iceberg's Read Restrictions")]
pub struct NoSuchAction;

impl FromStr for MaskAction {
    type Err = NoSuchAction;

    fn from_str(name: &str) -> Result<Self, NoSuchAction> {
        Self::ALL.into_iter().find(|action| action.name() == name).ok_or(NoSuchAction)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn action() -> impl Strategy<Value = MaskAction> {
        select(MaskAction::ALL.to_vec())
    }

    #[test]
    fn names_are_read_back() {
        for action in MaskAction::ALL {
            assert_eq!(action.name().parse(), Ok(action));
        }
        assert_eq!("mask-to-default".parse::<MaskAction>(), Err(NoSuchAction));
    }

    #[test]
    fn two_masks_become_the_stricter() {
        let check = |a: &str, b: &str, expected: &str| {
            let (a, b): (MaskAction, MaskAction) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.stricter(b, false).name(), expected, "{a} and {b}");
        };
        check("sha-256-global", "sha-256-query-local", "sha-256-query-local");
        check("truncate-to-year", "truncate-to-month", "truncate-to-year");
        check("show-first-4", "show-last-4", "mask-alphanum");
        check("show-first-4", "mask-alphanum", "mask-alphanum");
        check("sha-256-global", "mask-alphanum", "replace-with-null");
        check("replace-with-null", "mask-to-fixed-value", "replace-with-null");
        check("show-last-4", "mask-to-fixed-value", "mask-to-fixed-value");
    }

    proptest! {
        #[test]
        fn the_stricter_of_two_reveals_no_more_than_either(a in action(), b in action(), required: bool) {
            let both = a.stricter(b, required);
            prop_assert!(both.reveals_no_more_than(a) && both.reveals_no_more_than(b));
            prop_assert_eq!(both, b.stricter(a, required));
            prop_assert_eq!(a.stricter(a, required), a);
        }
    }

    #[test]
    fn what_fits_twice_still_fits() {
        for of in ["string", "integer", "number", "date", "timestamp", "boolean", "object"] {
            for (a, b, required) in MaskAction::ALL
                .into_iter()
                .flat_map(|a| MaskAction::ALL.map(|b| (a, b)))
                .flat_map(|(a, b)| [(a, b, true), (a, b, false)])
                .filter(|(a, b, required)| a.fits(of, *required) && b.fits(of, *required))
            {
                assert!(a.stricter(b, required).fits(of, required), "{a} and {b} on {of}");
            }
        }
    }
}
