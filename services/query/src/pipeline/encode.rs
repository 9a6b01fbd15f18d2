//! In: rows. Out: the bytes of the answer, batch by batch, as the reader takes them. Never: a whole answer in memory,
//! an answer that was cut short and looks whole (JSON ends with an `error`; CSV and Arrow break off the connection).

use arrow::array::{Array, ArrayRef, RecordBatch, downcast_temporal_array, make_array};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_ipc::writer::StreamWriter;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{ArrowError, Schema};
use axum::body::Body;
use bytes::Bytes;

use super::account::Account;
use super::execute::QueryRows;
use super::plan::Planned;
use crate::error::QueryError;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFormat {
    Json,
    Csv,
    Arrow,
}

impl AnswerFormat {
    /// The first format that `Accept` names; JSON if it does not mind.
    pub fn of_accept(accept: Option<&str>) -> Result<Self, QueryError> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Ok(Self::Json) };
        let named = accept.split(',').map(|part| part.split(';').next().unwrap_or_default().trim());
        let known = named.filter_map(|media| match media {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "text/csv" | "text/*" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        });
        known.into_iter().next().ok_or_else(|| QueryError::NotAcceptable { accept: accept.to_owned() })
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Answer {
    pub format: AnswerFormat,
    pub body: Body,
}

/// Whether an answer of this plan can be written so.
pub fn check(format: AnswerFormat, planned: &Planned) -> Result<(), QueryError> {
    let nested = planned.plan.schema().fields().iter().find(|field| field.data_type().is_nested());
    if let (AnswerFormat::Csv, Some(field)) = (format, nested) {
        return Err(QueryError::NestedCsv { column: field.name().clone() });
    }
    tried(format, planned.plan.schema().as_arrow()).map_err(|source| encode(format, source))
}

/// Writes a row of nulls: which types a format has no form for shows in its first row.
fn tried(format: AnswerFormat, schema: &Schema) -> Result<(), ArrowError> {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let nulls = fields.iter().map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
    let schema = std::sync::Arc::new(Schema::new(fields));
    if schema.fields().is_empty() {
        return Ok(());
    }
    let row = RecordBatch::try_new(std::sync::Arc::clone(&schema), nulls)?;
    Encoder::new(format, &schema)?.batch(&row).map(drop)
}

/// The answer's body; the account is closed with its last byte, or when the reader goes away.
pub async fn answer(format: AnswerFormat, rows: QueryRows, account: Account) -> Result<Answer, QueryError> {
    let encoder = match Encoder::new(format, &rows.schema()) {
        Ok(encoder) => encoder,
        Err(source) => {
            let error = encode(format, source);
            account.failed(&error).await;
            return Err(error);
        }
    };
    let state = Some(Writing { format, rows, encoder, account, begun: false });
    let body = futures::stream::unfold(state, |state| async move {
        let (next, state) = state?.step().await;
        Some((next, state))
    });
    Ok(Answer { format, body: Body::from_stream(body) })
}

fn encode(format: AnswerFormat, source: ArrowError) -> QueryError {
    QueryError::Encode { format: format.content_type(), source }
}

struct Writing {
    format: AnswerFormat,
    rows: QueryRows,
    encoder: Encoder,
    account: Account,
    begun: bool,
}

/// Why the connection is broken off.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
struct BrokenOff(String);

type Step = Result<Bytes, BrokenOff>;

impl Writing {
    async fn step(mut self) -> (Step, Option<Self>) {
        if !self.begun {
            self.begun = true;
            let bytes = self.encoder.begin();
            return self.goes_on(bytes);
        }
        match self.rows.next().await {
            Ok(Some(batch)) => match self.encoder.batch(&batch) {
                Ok(bytes) => {
                    self.account.count(batch.num_rows(), bytes.len());
                    self.goes_on(bytes)
                }
                Err(source) => {
                    let error = encode(self.format, source);
                    self.breaks_off(error).await
                }
            },
            Ok(None) => self.ends().await,
            Err(error) => self.breaks_off(error).await,
        }
    }

    fn goes_on(self, bytes: Bytes) -> (Step, Option<Self>) {
        (Ok(bytes), Some(self))
    }

    async fn ends(mut self) -> (Step, Option<Self>) {
        match self.encoder.end() {
            Ok(bytes) => {
                self.account.done().await;
                (Ok(bytes), None)
            }
            Err(source) => {
                let error = encode(self.format, source);
                self.breaks_off(error).await
            }
        }
    }

    async fn breaks_off(self, error: QueryError) -> (Step, Option<Self>) {
        let last = self.encoder.broken(&error);
        self.account.failed(&error).await;
        (last.ok_or_else(|| BrokenOff(format!("[{}] {error}", error.code()))), None)
    }
}

enum Encoder {
    Json { head: String, first: bool },
    Csv { header: bool, schema: Schema },
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(format: AnswerFormat, schema: &Schema) -> Result<Self, ArrowError> {
        Ok(match format {
            AnswerFormat::Json => {
                let column = |f: &std::sync::Arc<arrow_schema::Field>| serde_json::json!({"name": f.name(), "type": f.data_type().to_string()});
                let columns: Vec<_> = schema.fields().iter().map(column).collect();
                Self::Json {
                    head: format!("{{\"columns\":{},\"rows\":[", serde_json::Value::Array(columns)),
                    first: true,
                }
            }
            AnswerFormat::Csv => Self::Csv { header: true, schema: schema.clone() },
            AnswerFormat::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
        })
    }

    fn begin(&mut self) -> Bytes {
        match self {
            Self::Json { head, .. } => Bytes::from(std::mem::take(head)),
            Self::Csv { .. } => Bytes::new(),
            Self::Arrow(writer) => Bytes::from(std::mem::take(writer.get_mut())),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        match self {
            Self::Json { first, .. } => json_rows(batch, std::mem::replace(first, false)),
            Self::Csv { header, .. } => csv_rows(batch, std::mem::replace(header, false)),
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(Bytes::from(std::mem::take(writer.get_mut())))
            }
        }
    }

    fn end(&mut self) -> Result<Bytes, ArrowError> {
        match self {
            Self::Json { .. } => Ok(Bytes::from_static(b"]}")),
            // No rows, but a header all the same.
            Self::Csv { header: true, schema } => csv_rows(&RecordBatch::new_empty(schema.clone().into()), true),
            Self::Csv { .. } => Ok(Bytes::new()),
            Self::Arrow(writer) => {
                writer.finish()?;
                Ok(Bytes::from(std::mem::take(writer.get_mut())))
            }
        }
    }

    /// A last word about what went wrong, where the format has room for one.
    fn broken(&self, error: &QueryError) -> Option<Bytes> {
        let Self::Json { .. } = self else { return None };
        let error = serde_json::json!({"code": error.code(), "message": error.to_string()});
        Some(Bytes::from(format!("],\"error\":{error}}}")))
    }
}

fn json_rows(batch: &RecordBatch, first: bool) -> Result<Bytes, ArrowError> {
    batch.columns().iter().try_for_each(in_the_calendar)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let mut rows = writer.into_inner();
    while rows.last() == Some(&b'\n') {
        rows.pop();
    }
    // Line breaks within strings are escaped, so each is the end of a row.
    rows.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b',');
    if !first && !rows.is_empty() {
        rows.insert(0, b',');
    }
    Ok(Bytes::from(rows))
}

/// Dates and times that no calendar holds: arrow-json would write its error into the text, quotes and all. A type's
/// calendar has no gaps, so its first and last value tell of all.
fn in_the_calendar(array: &ArrayRef) -> Result<(), ArrowError> {
    downcast_temporal_array!(
        array => {
            let format = FormatOptions::new();
            let shown = ArrayFormatter::try_new(array, &format)?;
            let there = || (0..array.len()).filter(|row| array.is_valid(*row));
            let ends = [there().min_by_key(|row| array.value(*row)), there().max_by_key(|row| array.value(*row))];
            ends.into_iter().flatten().try_for_each(|row| shown.value(row).try_to_string().map(drop))
        }
        _ => array.to_data().child_data().iter().try_for_each(|inside| in_the_calendar(&make_array(inside.clone()))),
    )
}

fn csv_rows(batch: &RecordBatch, header: bool) -> Result<Bytes, ArrowError> {
    let mut out = Vec::new();
    arrow_csv::WriterBuilder::new().with_header(header).build(&mut out).write(batch)?;
    Ok(Bytes::from(out))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn batch(values: Vec<Option<i64>>, texts: Vec<&str>) -> RecordBatch {
        let field = |name, of| arrow_schema::Field::new(name, of, true);
        let fields = vec![field("a", arrow_schema::DataType::Int64), field("b", arrow_schema::DataType::Utf8)];
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(Int64Array::from(values)), Arc::new(StringArray::from(texts))];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn written(format: AnswerFormat, batches: &[RecordBatch]) -> Vec<u8> {
        let schema = batch(vec![], vec![]).schema();
        let mut encoder = Encoder::new(format, &schema).unwrap();
        let mut all = encoder.begin().to_vec();
        batches.iter().for_each(|batch| all.extend(encoder.batch(batch).unwrap()));
        all.extend(encoder.end().unwrap());
        all
    }

    #[test]
    fn json_has_columns_and_rows() {
        let batches = [batch(vec![Some(1), None], vec!["x\ny", "\""]), batch(vec![Some(3)], vec!["z"])];
        let json: serde_json::Value = serde_json::from_slice(&written(AnswerFormat::Json, &batches)).unwrap();
        let expected = serde_json::json!({
            "columns": [{"name": "a", "type": "Int64"}, {"name": "b", "type": "Utf8"}],
            "rows": [{"a": 1, "b": "x\ny"}, {"a": null, "b": "\""}, {"a": 3, "b": "z"}],
        });
        assert_eq!(json, expected);
        let empty: serde_json::Value = serde_json::from_slice(&written(AnswerFormat::Json, &[])).unwrap();
        assert_eq!(empty["rows"], serde_json::json!([]));
    }

    /// No calendar has these: an error, where arrow-json writes text that is no JSON.
    #[test]
    fn moments_beyond_the_calendar_are_an_error() {
        use arrow::array::{ListArray, StructArray, TimestampMicrosecondArray};
        let check = |micros: Vec<Option<i64>>, fits: bool| {
            let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("+00:00"));
            let field = Arc::new(arrow_schema::Field::new("at", moments.data_type().clone(), true));
            let offsets = arrow::buffer::OffsetBuffer::from_lengths([moments.len()]);
            let list: ArrayRef = Arc::new(ListArray::new(Arc::clone(&field), offsets, Arc::clone(&moments), None));
            let within: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::clone(&moments))]));
            for column in [moments, within, list] {
                let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
                assert_eq!(json_rows(&batch, true).is_ok(), fits, "{batch:?}");
            }
        };
        check(vec![Some(0), None, Some(-62_135_596_800_000_000)], true);
        check(vec![Some(i64::MAX), Some(0)], false);
        check(vec![None, Some(i64::MIN)], false);
        check(vec![None], true);
    }

    #[test]
    fn csv_has_one_header() {
        let batches = [batch(vec![Some(1)], vec!["x"]), batch(vec![None], vec!["y,z"])];
        assert_eq!(written(AnswerFormat::Csv, &batches), b"a,b\n1,x\n,\"y,z\"\n");
        assert_eq!(written(AnswerFormat::Csv, &[]), b"a,b\n");
    }

    #[test]
    fn arrow_is_read_back() {
        let batches = [batch(vec![Some(1)], vec!["x"]), batch(vec![None], vec!["y"])];
        let reader = arrow_ipc::reader::StreamReader::try_new(
            std::io::Cursor::new(written(AnswerFormat::Arrow, &batches)),
            None,
        )
        .unwrap();
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), batches);
    }

    #[test]
    fn the_first_known_media_type_counts() {
        let check = |accept, expected: AnswerFormat| assert_eq!(AnswerFormat::of_accept(accept).unwrap(), expected);
        check(None, AnswerFormat::Json);
        check(Some("*/*"), AnswerFormat::Json);
        check(Some("text/html, text/csv;q=0.9, application/json"), AnswerFormat::Csv);
        check(Some("application/vnd.apache.arrow.stream"), AnswerFormat::Arrow);
        assert_eq!(AnswerFormat::of_accept(Some("image/png")).unwrap_err().code(), "MESH-QUERY-0015");
    }

    #[test]
    fn a_broken_json_answer_says_so() {
        let mut encoder = Encoder::new(AnswerFormat::Json, &batch(vec![], vec![]).schema()).unwrap();
        let mut all = encoder.begin().to_vec();
        all.extend(encoder.broken(&QueryError::Memory { megabytes: 1 }).unwrap());
        let json: serde_json::Value = serde_json::from_slice(&all).unwrap();
        assert_eq!(json["error"]["code"], "MESH-QUERY-0010");
    }
}
