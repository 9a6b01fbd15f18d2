//! Bytes become columns, one message per decoder call.
//!
//! In: the values of a batch, each with its index. Out: record batches, each row with its record's index, and a refusal
//! for every value that is not exactly one record.
//! Must never happen: a poison message that moves, doubles or swallows its neighbours' rows. arrow-avro reads on
//! into the next record after a truncated one, takes two records of one message for two rows, and fails on bad text only
//! when the batch is finished. So a decoder that failed in any way is thrown away, the values before the offender are
//! decoded again, and a batch that cannot be finished is halved until the offender stands alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;

use crate::pipeline::refusal::{Reason, Refusal, Refusals};
use crate::pipeline::resolve::{Bad, without};

pub mod avro;
pub mod json;

/// A value and its record's index in the batch.
pub type Value<'a> = (u32, &'a [u8]);

/// Rows in some schema, and which record each one came from.
#[derive(Debug, Clone)]
pub struct DecodedRows {
    /// The rows.
    pub batch: RecordBatch,
    /// The record's index in the batch, row by row.
    pub records: Vec<u32>,
}

/// What a decoder made of its messages: a row for each, and the rows that are refused for one of their values.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) batch: RecordBatch,
    pub(crate) bad: Bad,
}

/// A decoder that takes one message at a time. After any error it is in no state to be used.
pub(crate) trait RowDecoder: Sized {
    /// Takes a message; it must be exactly one row.
    fn push(&mut self, value: &[u8]) -> Result<(), Refusal>;
    /// The rows so far.
    fn finish(self) -> Result<Decoded, Refusal>;
}

/// Decodes values with decoders made by `new` for a number of rows.
pub(crate) fn decode_all<D: RowDecoder>(
    values: &[Value<'_>],
    new: &impl Fn(usize) -> Result<D, Refusal>,
    rows: &mut Vec<DecodedRows>,
    refusals: &mut Refusals,
) {
    let mut rest = values;
    while !rest.is_empty() {
        match feed(rest, new) {
            Fed::All(decoded) => {
                let records = rest.iter().map(|(record, _)| *record).collect();
                let all = DecodedRows { batch: decoded.batch, records };
                match without(all, decoded.bad, refusals) {
                    Ok(kept) => rows.extend(kept),
                    Err(error) => {
                        let refusal = Refusal::whole(Reason::Undecodable, error.to_string());
                        rest.iter().for_each(|(record, _)| refusals.add(*record, refusal.clone()));
                    }
                }
                return;
            }
            Fed::Offender(at, refusal) => {
                decode_all(&rest[..at], new, rows, refusals);
                refusals.add(rest[at].0, refusal);
                rest = &rest[at + 1..];
            }
            Fed::Unfinished(refusal) if rest.len() == 1 => {
                refusals.add(rest[0].0, refusal);
                return;
            }
            Fed::Unfinished(_) => {
                let (left, right) = rest.split_at(rest.len() / 2);
                decode_all(left, new, rows, refusals);
                rest = right;
            }
        }
    }
}

enum Fed {
    /// Every value is a row.
    All(Decoded),
    /// This value is no row; nothing is known of those after it.
    Offender(usize, Refusal),
    /// One of the values spoiled the batch.
    Unfinished(Refusal),
}

fn feed<D: RowDecoder>(values: &[Value<'_>], new: &impl Fn(usize) -> Result<D, Refusal>) -> Fed {
    let mut decoder = match guarded(|| new(values.len())) {
        Ok(decoder) => decoder,
        Err(refusal) => return Fed::Unfinished(refusal),
    };
    for (at, (_, value)) in values.iter().enumerate() {
        if let Err(refusal) = guarded(|| decoder.push(value)) {
            return Fed::Offender(at, refusal);
        }
    }
    match guarded(|| decoder.finish()) {
        Ok(decoded) if decoded.batch.num_rows() == values.len() => Fed::All(decoded),
        Ok(decoded) => Fed::Unfinished(Refusal::whole(
            Reason::Undecodable,
            format!("{} messages gave {} rows", values.len(), decoded.batch.num_rows()),
        )),
        Err(refusal) => Fed::Unfinished(refusal),
    }
}

/// A decoder's panic on hostile bytes costs the record, not the table.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Refusal::whole(Reason::Undecodable, "the decoder gave up on these bytes")))
}

#[cfg(test)]
mod tests;
