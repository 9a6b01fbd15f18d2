//! The mesh as its control topics tell it: what this command line reads without asking a service.
//!
//! In: `mesh.contracts` and the event topics. Out: active contracts, typed; events, whole or as they come.

use mesh_bus::{Bus, Received, Start, TopicReader, View};
use mesh_contract::ProductContract;
use mesh_lakehouse::{Catalog, CatalogConfig, Table};
use mesh_proto::cloudevents::Event;
use mesh_proto::topics;
use mesh_proto::v1::{ActiveContract, TableRef};
use mesh_runtime::tasks::caught;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{CliError, below, pure};
use crate::home::{Home, MeshFile};

/// An active contract, and its document typed.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) record: ActiveContract,
    pub(crate) contract: ProductContract,
}

/// One event and where it lies.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) event: Event,
}

/// A connection to the mesh's Kafka and catalog.
#[derive(Debug, Clone)]
pub(crate) struct MeshClient {
    bus: Bus,
    endpoints: MeshFile,
}

impl MeshClient {
    pub(crate) async fn open(home: &Home) -> Result<Self, CliError> {
        let endpoints = home.endpoints()?;
        let bus = Bus::connect(endpoints.bus.clone()).await.map_err(|source| CliError::Unreachable {
            what: "bus",
            url: endpoints.bus.bootstrap.clone(),
            source: Box::new(source),
        })?;
        Ok(Self { bus, endpoints })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn endpoints(&self) -> &MeshFile {
        &self.endpoints
    }

    /// Every active contract, by product and then by major version.
    pub(crate) async fn contracts(&self) -> Result<Vec<Admitted>, CliError> {
        let view: View<ActiveContract> =
            self.bus.view(topics::CONTRACTS, |contract: &ActiveContract| contract.revision).await.map_err(below)?;
        view.loaded().await.map_err(below)?;
        let mut admitted = view
            .snapshot()
            .into_values()
            .map(|record| {
                let contract = ProductContract::parse(&record.contract_id, &record.document).map_err(pure)?;
                Ok(Admitted { record: (*record).clone(), contract })
            })
            .collect::<Result<Vec<_>, CliError>>()?;
        admitted.sort_by_key(|a| (a.contract.product().clone(), a.contract.major()));
        Ok(admitted)
    }

    /// The newest active contract of a product.
    pub(crate) async fn product(&self, name: &str) -> Result<Admitted, CliError> {
        let mut admitted = self.contracts().await?;
        let newest = admitted.iter().rposition(|admitted| admitted.contract.product().to_string() == name);
        match newest {
            Some(at) => Ok(admitted.swap_remove(at)),
            None => {
                let mut known: Vec<_> = admitted.iter().map(|a| a.contract.product().to_string()).collect();
                known.dedup();
                let hint = match known.is_empty() {
                    true => "there are no products yet, `mesh apply` brings contracts".to_owned(),
                    false => format!("there are {}", known.join(", ")),
                };
                Err(CliError::UnknownProduct { name: name.to_owned(), hint })
            }
        }
    }

    /// A table of the mesh's catalog.
    pub(crate) async fn table(&self, table: &TableRef) -> Result<Table, CliError> {
        let catalog = &self.endpoints.catalog;
        let (uri, warehouse, name) = (catalog.uri.clone(), catalog.warehouse.clone(), catalog.name.clone());
        let catalog = Catalog::open(CatalogConfig { uri, warehouse, name }).await.map_err(below)?;
        let name = mesh_contract::TableName::new(&table.namespace, &table.name);
        catalog.load(&mesh_lakehouse::schema::ident(&name)).await.map_err(below)
    }

    /// Hands every event that these topics hold now to `take`, topic by topic.
    pub(crate) async fn read_all(&self, topics: &[&str], mut take: impl FnMut(Found)) -> Result<(), CliError> {
        for topic in topics {
            let mut reader = self.bus.read_topic(topic, Start::Beginning).await.map_err(below)?;
            while let Some(received) = reader.next_until_caught_up().await.map_err(below)? {
                found(received).into_iter().for_each(&mut take);
            }
        }
        Ok(())
    }

    /// Events of these topics as they come; each topic keeps its own order.
    pub(crate) async fn follow(&self, topics: &[&str], start: Start) -> Result<Events, CliError> {
        let (sender, events) = mpsc::channel(256);
        let mut readers = JoinSet::new();
        for topic in topics {
            let mut reader = self.bus.read_topic(topic, start).await.map_err(below)?;
            let sender = sender.clone();
            readers.spawn(async move {
                // A reader that panicked is an error like another: the other topics alone are not the whole.
                if let Err(panicked) = caught("reader", read_on(&mut reader, &sender)).await {
                    let _ = sender.send(Err(below(panicked))).await;
                }
            });
        }
        Ok(Events { events, _readers: readers })
    }
}

/// Hands on a topic's events until reading fails, or until they have no receiver any more.
async fn read_on(reader: &mut TopicReader, events: &mpsc::Sender<Result<Found, CliError>>) {
    loop {
        let next = reader.next().await.map_err(below);
        let failed = next.is_err();
        let next = match next.map(found) {
            Ok(Some(event)) => Ok(event),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        if events.send(next).await.is_err() || failed {
            return;
        }
    }
}

/// Events as they come, until this is dropped.
#[derive(Debug)]
pub(crate) struct Events {
    events: mpsc::Receiver<Result<Found, CliError>>,
    /// Dropped, it ends them all.
    _readers: JoinSet<()>,
}

impl Events {
    /// The next event, or why there will be no more. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Found, CliError>> {
        self.events.recv().await
    }
}

/// A record as an event. What is no event is reported once, with its place, and passed over: a watcher must not stop at it.
fn found(received: Received) -> Option<Found> {
    let Received { topic, partition, offset, event, has_value, .. } = received;
    match event {
        Ok(event) => Some(Found { topic, partition, offset, event }),
        Err(error) => {
            if has_value {
                tracing::warn!(code = error.code(), %topic, partition, offset, "{error}");
            }
            None
        }
    }
}
