//! Lineage by columns: of an answer from OpenLineage's `columnLineage` facet, of a product from its contract.
//!
//! In: `mesh.lineage`, the contracts. Out: output column, source column, direct or indirect with subtype, masked or
//! not, and the topic field that the source column is.

use mesh_contract::Product;
use serde::Serialize;
use serde_json::Value;

use super::{once_there, run_events};
use crate::args::Output;
use crate::error::CliError;
use crate::exit::Exit;
use crate::mesh_client::{Admitted, MeshClient};
use crate::print::{self, Listing, Row};

/// One arrow between columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Arrow {
    output: String,
    source: String,
    kind: String,
    subtype: String,
    masked: bool,
    /// `topic:field`, where the source column is fed by a topic.
    topic_field: String,
}

impl Row for Arrow {
    fn cells(&self) -> Vec<String> {
        let masked = if self.masked { "masked" } else { "" };
        let texts = [&self.output, &self.source, &self.kind, &self.subtype];
        texts.into_iter().cloned().chain([masked.to_owned(), self.topic_field.clone()]).collect()
    }
}

const HEADERS: &[&str] = &["output", "source", "kind", "subtype", "masked", "topic field"];

pub(super) async fn run(client: &MeshClient, subject: &str, output: Output) -> Result<Exit, CliError> {
    let rows = match subject.parse::<Product>() {
        Ok(product) => of_product(&client.product(&product.to_string()).await?),
        Err(_) => of_query(client, subject).await?,
    };
    Listing { headers: HEADERS, rows }.print(output)?;
    Ok(Exit::Done)
}

pub(super) async fn table_of_query(client: &MeshClient, query_id: &str) -> Result<String, CliError> {
    let rows = of_query(client, query_id).await?;
    Ok(print::grid(HEADERS.iter().map(|h| (*h).to_owned()), rows.iter().map(Row::cells)))
}

async fn of_query(client: &MeshClient, query_id: &str) -> Result<Vec<Arrow>, CliError> {
    let facet = once_there(query_id, async || Ok(facet(&run_events(client).await?, query_id))).await?;
    let contracts = client.contracts().await?;
    Ok(arrows(&facet, &contracts))
}

/// What the newest run event of a query that knows its columns says of them.
fn facet(events: &[Value], query_id: &str) -> Option<Value> {
    let of_this = |event: &&Value| event["run"]["runId"] == query_id;
    let facet =
        events.iter().filter(of_this).rev().find_map(|event| {
            event["outputs"].as_array()?.iter().find_map(|output| output["facets"].get("columnLineage"))
        });
    facet.cloned()
}

/// The facet's arrows: those of single columns, then those that the whole output depends on.
fn arrows(facet: &Value, contracts: &[Admitted]) -> Vec<Arrow> {
    let fields = facet["fields"].as_object().into_iter().flatten();
    let of_fields = fields.flat_map(|(output, field)| inputs(output, &field["inputFields"], contracts));
    of_fields.chain(inputs("(every row)", &facet["dataset"], contracts)).collect()
}

fn inputs(output: &str, inputs: &Value, contracts: &[Admitted]) -> Vec<Arrow> {
    let inputs = inputs.as_array().into_iter().flatten();
    let arrows = inputs.flat_map(|input| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (table, column) = (text(&input["name"]), text(&input["field"]));
        let topic_field = topic_field(contracts, &table, &column);
        let transformations = input["transformations"].as_array().cloned().unwrap_or_default();
        transformations.into_iter().map(move |how| Arrow {
            output: output.to_owned(),
            source: format!("{table}.{column}"),
            kind: text(&how["type"]).to_lowercase(),
            subtype: text(&how["subtype"]).to_lowercase(),
            masked: how["masking"] == true,
            topic_field: topic_field.clone(),
        })
    });
    arrows.collect()
}

fn topic_field(contracts: &[Admitted], table: &str, column: &str) -> String {
    let of_table = contracts.iter().find(|admitted| admitted.contract.table().to_string() == table);
    let field = of_table.and_then(|admitted| {
        let original = &admitted.contract.column(column)?.original;
        Some(format!("{}:{original}", admitted.contract.topic()))
    });
    field.unwrap_or_default()
}

/// A product's columns are its topic's fields, unchanged.
fn of_product(admitted: &Admitted) -> Vec<Arrow> {
    let (table, topic) = (admitted.contract.table(), admitted.contract.topic());
    let columns = admitted.contract.columns().iter().map(|column| Arrow {
        output: format!("{table}.{}", column.name),
        source: format!("{topic}:{}", column.original),
        kind: "direct".to_owned(),
        subtype: "identity".to_owned(),
        masked: false,
        topic_field: format!("{topic}:{}", column.original),
    });
    columns.collect()
}
