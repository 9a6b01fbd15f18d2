//! How the parts are put together, started and drained: the door first, then what it feeds.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bus::{Bus, SpanExporter};
use mesh_lakehouse::Catalog;
use mesh_proto::topics;
use mesh_proto::v1::Principal;
use mesh_runtime::telemetry::AnyExporter;
use mesh_runtime::{Context, Metrics, Restart, Service, Shutdown, Supervisor, Tasks, part};

use crate::active_state::ADMIN;
use crate::announce::Announcer;
use crate::config::PublisherConfig;
use crate::door::PublisherListener;
use crate::error::{PublisherError, bus, lakehouse};
use crate::log::{self, Log};
use crate::memory::Memory;
use crate::pipeline::AdmissionPipeline;
use crate::pipeline::provision::Provisioner;
use crate::pipeline::publish::principal_record;
use crate::progress::Progress;
use crate::telemetry::PublisherMetrics;

/// The publisher.
#[derive(Debug)]
pub struct Publisher {
    door: PublisherListener,
    pipeline: AdmissionPipeline,
    announcer: Announcer,
    memory: Supervisor,
    memory_stop: Shutdown,
    tasks: Tasks,
}

impl Service for Publisher {
    const NAME: &'static str = "publisher";
    type Config = PublisherConfig;
    type Error = PublisherError;

    fn validate(config: &PublisherConfig) -> Result<(), PublisherError> {
        config.validate()
    }

    fn span_exporter(config: &PublisherConfig, _metrics: &Metrics) -> Result<Option<AnyExporter>, PublisherError> {
        let exporter = SpanExporter::new(&config.bus, Self::NAME).map_err(bus("export spans"))?;
        Ok(Some(AnyExporter::new(exporter)))
    }

    async fn build(config: PublisherConfig, context: Context) -> Result<Self, PublisherError> {
        let bus = Bus::connect_for(config.bus.clone(), &context.tasks).await.map_err(self::bus("connect to Kafka"))?;
        bus.ensure_control_topics().await.map_err(self::bus("make the control topics"))?;
        let failed = lakehouse("open the catalog");
        let catalog = Catalog::open(config.catalog.clone()).await.map_err(failed)?;
        let (log, memory) = (Log::new(&bus)?, Memory::default());
        let (reader, ends) = log::open(&bus).await?;
        log::load(&bus, &reader, &ends, &memory).await?;
        let memory_stop = Shutdown::new(context.shutdown.deadline());
        let mut supervisor = Supervisor::new(memory_stop.clone(), context.tasks.clone());
        let reader = Arc::new(reader);
        // Without its memory the publisher answers nothing: if reading fails, the process starts anew.
        let followed = memory.clone();
        let follow = move |shutdown: Shutdown| {
            let (reader, memory) = (reader.clone(), followed.clone());
            async move { log::follow(&reader, &memory, &shutdown).await }
        };
        let progress = Progress::default();
        let telemetry = PublisherMetrics::new(&context.metrics);
        let provisioner = Provisioner {
            log: log.clone(),
            memory: memory.clone(),
            catalog: catalog.clone(),
            partitions: config.topics.partitions,
        };
        let door = PublisherListener::bind(&config, provisioner.clone(), progress.clone()).await?;
        let announcer = Announcer::new(log.clone(), memory.clone(), catalog, telemetry.clone(), config.announce.poll);
        let pipeline = AdmissionPipeline {
            log: log.clone(),
            memory: memory.clone(),
            provisioner,
            patience: config.provision.patience,
            progress,
            telemetry,
        };
        supervisor.spawn(part::task("memory"), Restart::Never, follow);
        bootstrap(&config, &log, &memory).await?;
        Ok(Self { door, pipeline, announcer, memory: supervisor, memory_stop, tasks: context.tasks })
    }

    fn http(&self) -> Option<SocketAddr> {
        Some(self.door.address())
    }

    /// The writers drain first: each waits for its own record to be read back, so the memory follows them to the end.
    async fn run(self, shutdown: Shutdown) -> Result<(), PublisherError> {
        let Self { door, pipeline, announcer, memory, memory_stop, tasks } = self;
        let writers = writers(door, pipeline, announcer, shutdown, tasks);
        let following = memory.run();
        tokio::pin!(following);
        tokio::select! {
            failed = &mut following => failed?,
            drained = writers.run() => {
                drained?;
                memory_stop.request();
                following.await?;
            }
        }
        Ok(())
    }
}

fn writers(
    door: PublisherListener,
    pipeline: AdmissionPipeline,
    announcer: Announcer,
    shutdown: Shutdown,
    tasks: Tasks,
) -> Supervisor {
    let mut writers = Supervisor::new(shutdown, tasks);
    writers.spawn_once(part::LISTENER, move |shutdown| door.serve(shutdown));
    writers.spawn(part::task("pipeline"), Restart::default(), move |shutdown| pipeline.clone().run(shutdown));
    writers.spawn(part::task("announcer"), Restart::default(), move |shutdown| announcer.clone().run(shutdown));
    writers
}

/// The first admin of a mesh that has none.
async fn bootstrap(config: &PublisherConfig, log: &Log, memory: &Memory) -> Result<(), PublisherError> {
    let Some(hash) = &config.bootstrap.admin_key_sha256 else { return Ok(()) };
    let governed = memory
        .active_state()
        .principals
        .values()
        .any(|principal| mesh_policy::authority::is_platform_admin(&principal.roles));
    if governed {
        return Ok(());
    }
    let principal = Principal {
        name: ADMIN.to_owned(),
        key_sha256: hash.to_ascii_lowercase(),
        roles: vec![ADMIN.to_owned()],
        revision: -1,
        ..Principal::default()
    };
    let offset = principal_record(log, &principal).await?;
    memory.has_read(topics::PRINCIPALS, offset).await;
    tracing::info!(principal = ADMIN, "made the first admin");
    Ok(())
}
