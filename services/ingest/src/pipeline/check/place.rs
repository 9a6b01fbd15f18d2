//! Where a constraint's values are in a batch, and which row each one belongs to.
//!
//! In: a column path and a batch. Out: the values at that path, flat, whether their parents are there, and their rows.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType};
use mesh_contract::constraints::{ColumnPath, PathStep};

/// A column path, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: ColumnPath,
}

/// The values at a place.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) values: ArrayRef,
    /// Where a value's parent is there; `None` when all are. An absent parent's child is not missing.
    pub(crate) live: Option<NullBuffer>,
    /// The row of each value; `None` when they are the rows themselves.
    rows: Option<Vec<u32>>,
}

impl Found {
    pub(crate) fn row(&self, at: usize) -> usize {
        self.rows.as_ref().map_or(at, |rows| rows[at] as usize)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Place {
    pub(crate) fn new(path: &ColumnPath) -> Self {
        Self { path: path.clone() }
    }

    /// The values; `None` when the path names a column that the table does not have (yet).
    pub(crate) fn find(&self, batch: &RecordBatch) -> Result<Option<Found>, ArrowError> {
        let mut steps = self.path.0.iter();
        let Some(PathStep::Field(name)) = steps.next() else { return Ok(None) };
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        let mut found = Found { values: column.clone(), live: None, rows: None };
        for step in steps {
            found = match found.enter(step)? {
                Some(found) => found,
                None => return Ok(None),
            };
        }
        Ok(Some(found))
    }
}

impl Found {
    fn enter(self, step: &PathStep) -> Result<Option<Self>, ArrowError> {
        match (step, self.values.data_type()) {
            (PathStep::Field(name), DataType::Struct(_)) => {
                let parent = self.values.as_struct();
                let live = NullBuffer::union(self.live.as_ref(), parent.nulls());
                Ok(parent.column_by_name(name).map(|child| Self { values: child.clone(), live, rows: self.rows }))
            }
            (PathStep::Element, DataType::List(_)) => {
                let list = self.values.as_list::<i32>();
                let values = list.values().clone();
                Ok(Some(self.flatten(&list.offsets().clone(), &values)))
            }
            (PathStep::Key | PathStep::Value, DataType::Map(..)) => {
                let map = self.values.as_map();
                let (offsets, keys, values) = (map.offsets().clone(), map.keys().clone(), map.values().clone());
                Ok(Some(self.flatten(&offsets, if *step == PathStep::Key { &keys } else { &values })))
            }
            (step, found) => Err(ArrowError::SchemaError(format!("the path step {step:?} does not lead into {found}"))),
        }
    }

    /// The children of every list, null ones have none.
    fn flatten(&self, offsets: &[i32], children: &ArrayRef) -> Self {
        let bounds = |at: i32| usize::try_from(at).unwrap_or_default();
        let first = bounds(offsets[0]);
        let last = bounds(offsets[offsets.len() - 1]);
        let mut rows = Vec::with_capacity(last - first);
        for (parent, ends) in offsets.windows(2).enumerate() {
            let row = u32::try_from(self.row(parent)).unwrap_or(u32::MAX);
            rows.extend(std::iter::repeat_n(row, bounds(ends[1]) - bounds(ends[0])));
        }
        Self { values: children.slice(first, last - first), live: None, rows: Some(rows) }
    }
}
