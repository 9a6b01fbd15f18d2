//! A batch's way from bytes to rows: decode, resolve, check, enrich.
//!
//! In: a batch of records, the table's plan, the schemas that its values name. Out: batches for the table, refusals, the highest
//! event time. Every record of the batch is in exactly one of the two.

use std::collections::BTreeSet;

use arrow::compute::max;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType};

use crate::pipeline::decode::avro::{self, SchemaId, Schemas};
use crate::pipeline::decode::{DecodedRows, Value, json};
use crate::pipeline::enrich::enrich;
use crate::pipeline::plan::{RecordFormat, TablePlan};
use crate::pipeline::refusal::{Reason, Refusal, Refusals};
use crate::pipeline::resolve::resolve;
use crate::pipeline::source_batch::SourceBatch;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// Rows for the table.
    pub batches: Vec<RecordBatch>,
    /// The other records.
    pub refusals: Refusals,
    /// Highest event time of the rows, in microseconds.
    pub watermark: Option<i64>,
    /// Fields that writers have and the contract lacks.
    pub unknown: Vec<(SchemaId, Vec<String>)>,
}

/// The schema ids that a batch's values name.
pub fn schema_ids(source: &SourceBatch) -> BTreeSet<SchemaId> {
    source.records().filter_map(|(_, record)| avro::schema_id(record.value()?)).collect()
}

/// Takes a batch to rows.
pub fn transform(source: &SourceBatch, plan: &TablePlan, schemas: &Schemas) -> Result<Transformed, ArrowError> {
    let mut out = Transformed::default();
    let mut values: Vec<Value<'_>> = Vec::with_capacity(source.len());
    for (index, record) in source.records() {
        match record.value() {
            Some(value) => values.push((index, value)),
            None => out.refusals.add(index, Refusal::whole(Reason::Tombstone, "the record has no value")),
        }
    }
    match &plan.format {
        RecordFormat::Json(wire) => {
            for rows in json::decode(&values, wire, &mut out.refusals) {
                out.finish(rows, source, plan)?;
            }
        }
        RecordFormat::Avro => {
            for (id, decoded) in avro::decode(&values, schemas, &mut out.refusals) {
                if let Some(first) = decoded.first() {
                    let unknown = plan.target.unknown(&first.batch.schema());
                    if !unknown.is_empty() {
                        out.unknown.push((id, unknown));
                    }
                }
                for rows in decoded {
                    out.finish(rows, source, plan)?;
                }
            }
        }
    }
    Ok(out)
}

impl Transformed {
    fn finish(&mut self, rows: DecodedRows, source: &SourceBatch, plan: &TablePlan) -> Result<(), ArrowError> {
        let Some(rows) = resolve(rows, &plan.target, &mut self.refusals)? else { return Ok(()) };
        let Some(rows) = plan.checks.check(rows, &mut self.refusals)? else { return Ok(()) };
        self.watermark = self.watermark.max(event_time(&rows, plan));
        self.batches.push(enrich(&rows, source, &plan.topic)?);
        Ok(())
    }
}

fn event_time(rows: &DecodedRows, plan: &TablePlan) -> Option<i64> {
    let column = rows.batch.column_by_name(plan.event_time.as_ref()?)?;
    match column.data_type() {
        DataType::Timestamp(..) => max(column.as_primitive_opt::<TimestampMicrosecondType>()?),
        DataType::Date32 => max(column.as_primitive::<Date32Type>()).map(|day| i64::from(day) * 86_400_000_000),
        _ => None,
    }
}
