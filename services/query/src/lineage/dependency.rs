//! How one column depends on another, in OpenLineage's terms.

use std::collections::{BTreeMap, BTreeSet};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnSource {
    /// The table as the plan names it.
    pub table: String,
    pub column: String,
}

/// How a source column gets into an answer: its value (direct), or its influence on which rows there are (indirect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DependencyKind {
    Identity,
    Transformation,
    Aggregation,
    Join,
    GroupBy,
    Filter,
    Sort,
    Window,
    Conditional,
}

impl DependencyKind {
    /// Whether values get through.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::Identity | Self::Transformation | Self::Aggregation)
    }

    /// OpenLineage's subtype.
    pub fn subtype(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::Transformation => "TRANSFORMATION",
            Self::Aggregation => "AGGREGATION",
            Self::Join => "JOIN",
            Self::GroupBy => "GROUP_BY",
            Self::Filter => "FILTER",
            Self::Sort => "SORT",
            Self::Window => "WINDOW",
            Self::Conditional => "CONDITIONAL",
        }
    }

    /// A value that came by `self` and then goes through `outer`.
    fn through(self, outer: Self) -> Self {
        match (self.is_direct(), outer.is_direct()) {
            // A condition within what chooses, groups or orders rows does just that.
            (false, false) if self == Self::Conditional => outer,
            // Influence stays what it was.
            (false, _) => self,
            (true, false) => outer,
            (true, true) => self.max(outer),
        }
    }
}

/// What one column, or the choice of rows, depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies(BTreeMap<ColumnSource, BTreeSet<DependencyKind>>);

impl Dependencies {
    /// A table's own column.
    pub(super) fn of_column(table: &str, column: &str) -> Self {
        let source = ColumnSource { table: table.to_owned(), column: column.to_owned() };
        Self(BTreeMap::from([(source, BTreeSet::from([DependencyKind::Identity]))]))
    }

    /// The same after `outer`.
    pub(super) fn through(self, outer: DependencyKind) -> Self {
        let through = |kinds: BTreeSet<DependencyKind>| kinds.into_iter().map(|kind| kind.through(outer)).collect();
        Self(self.0.into_iter().map(|(source, kinds)| (source, through(kinds))).collect())
    }

    /// Adds what `other` depends on; true if that was news.
    pub(super) fn add(&mut self, other: Self) -> bool {
        let mut news = false;
        for (source, kinds) in other.0 {
            let known = self.0.entry(source).or_default();
            for kind in kinds {
                news |= known.insert(kind);
            }
        }
        news
    }

    /// Only what influences without a value.
    pub(super) fn indirect_only(&self) -> Self {
        let indirect =
            |kinds: &BTreeSet<DependencyKind>| kinds.iter().copied().filter(|kind| !kind.is_direct()).collect();
        let kept = self.0.iter().map(|(source, kinds)| (source.clone(), indirect(kinds)));
        Self(kept.filter(|(_, kinds): &(_, BTreeSet<DependencyKind>)| !kinds.is_empty()).collect())
    }

    /// Each source with the ways it gets here, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ColumnSource, &BTreeSet<DependencyKind>)> {
        self.0.iter()
    }

    /// Whether nothing is depended on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
