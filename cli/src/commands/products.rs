//! `mesh products`: what products there are.

use serde::Serialize;

use crate::args::Output;
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::mesh_client::{Admitted, MeshClient};
use crate::print::{Listing, Row};

#[derive(Debug, Serialize)]
struct Entry {
    product: String,
    version: String,
    status: String,
    owner: Option<String>,
    table: String,
    topic: String,
    revision: i64,
    description: Option<String>,
}

impl Row for Entry {
    fn cells(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let Self { product, version, status, owner, table, topic, description, .. } = self;
        vec![
            product.clone(),
            version.clone(),
            status.clone(),
            text(owner),
            table.clone(),
            topic.clone(),
            text(description),
        ]
    }
}

impl From<&Admitted> for Entry {
    fn from(admitted: &Admitted) -> Self {
        let Admitted { record, contract } = admitted;
        Self {
            product: contract.product().to_string(),
            version: record.version.clone(),
            status: record.status.clone(),
            owner: contract.owner().map(str::to_owned),
            table: contract.table().to_string(),
            topic: contract.topic().to_owned(),
            revision: record.revision,
            description: contract.contract().description.purpose.clone(),
        }
    }
}

pub(crate) async fn run(home: &Home, output: Output) -> Result<Exit, CliError> {
    let contracts = MeshClient::open(home).await?.contracts().await?;
    let headers = &["product", "version", "status", "owner", "table", "topic", "purpose"];
    Listing { headers, rows: contracts.iter().map(Entry::from).collect() }.print(output)?;
    Ok(Exit::Done)
}
