//! Rows of one partition together: partition values by Iceberg's transforms, groups by their bytes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::take_record_batch;
use arrow::row::{Row, RowConverter, SortField};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StructArray, UInt32Array};
use iceberg::TableIdent;
use iceberg::arrow::{PartitionValueCalculator, arrow_struct_to_literal};
use iceberg::spec::{Literal, PartitionSpec, Schema, Struct};

use crate::error::{Cause, LakehouseError, Result};

/// Splits batches by a partition spec.
pub(super) struct Partitioner {
    calculator: PartitionValueCalculator,
}

impl std::fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitioner").field("type", self.calculator.partition_type()).finish()
    }
}

impl Partitioner {
    pub(super) fn new(table: &TableIdent, spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let calculator = PartitionValueCalculator::try_new(spec, schema);
        Ok(Self {
            calculator: calculator.map_err(|e| LakehouseError::invalid(table, "write by its partition spec", e))?,
        })
    }

    /// The batch's rows by partition value.
    pub(super) fn split(&self, table: &TableIdent, batch: &RecordBatch) -> Result<Vec<(Struct, RecordBatch)>> {
        self.groups(batch).map_err(|source| LakehouseError::Rows { table: table.clone(), source })
    }

    fn groups(&self, batch: &RecordBatch) -> Result<Vec<(Struct, RecordBatch)>, Cause> {
        let values = self.calculator.calculate(batch)?;
        let values = values.as_struct();
        let fields = values.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(values.columns())?;
        let first = rows.row(0);
        // Time-ordered sources mostly stay within one partition.
        if rows.iter().all(|row| row == first) {
            return Ok(vec![(self.value(values, 0)?, batch.clone())]);
        }
        let mut groups: HashMap<Row<'_>, Vec<u32>> = HashMap::new();
        for (index, row) in (0u32..).zip(rows.iter()) {
            groups.entry(row).or_default().push(index);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable_by_key(|rows| rows.first().copied());
        let part = |rows: Vec<u32>| {
            let first = rows.first().map_or(0, |row| *row as usize);
            Ok((self.value(values, first)?, take_record_batch(batch, &UInt32Array::from(rows))?))
        };
        groups.into_iter().map(part).collect()
    }

    /// One row's partition value.
    fn value(&self, values: &StructArray, row: usize) -> Result<Struct, Cause> {
        let one: ArrayRef = Arc::new(values.slice(row, 1));
        let literals = arrow_struct_to_literal(&one, self.calculator.partition_type())?;
        match literals.into_iter().next().flatten() {
            Some(Literal::Struct(value)) => Ok(value),
            _ => Err("a partition value is no struct".into()),
        }
    }
}
