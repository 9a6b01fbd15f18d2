//! What a subscriber of the mesh has received so far, for the demo to wait on and to show.
//!
//! In: every change, contract and quality event since the mesh began. Out: counts by product, last verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_bus::Start;
use mesh_proto::cloudevents::types;
use mesh_proto::v1::{ProductChanged, Verdict};
use mesh_runtime::tasks::TaskHandle;
use mesh_runtime::{Tasks, part};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::commands::watch::{WATCHED, line};
use crate::error::CliError;
use crate::mesh_client::{Found, MeshClient};

/// Shown as they come; contract events and verdicts are shown as steps of their own.
const PRINTED: &[&str] = &[types::PRODUCT_CHANGED, types::INCIDENT_OPENED, types::INCIDENT_RESOLVED];

/// What happened to one product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) snapshots: u64,
    pub(super) rows: i64,
    pub(super) dead_letters: i64,
    /// Source offsets that its snapshots cover.
    pub(super) events: i64,
    pub(super) last_snapshot: i64,
}

#[derive(Debug, Default)]
struct State {
    products: BTreeMap<String, Progress>,
    /// Ids of what was announced: an event that comes twice counts once.
    announced: BTreeSet<String>,
    verdicts: BTreeMap<String, Verdict>,
}

/// Follows the mesh's events in the background, until it is dropped.
#[derive(Debug)]
pub(super) struct Subscriber {
    _follower: TaskHandle,
    state: Arc<Mutex<State>>,
    news: watch::Receiver<u64>,
    logs: PathBuf,
}

impl Subscriber {
    /// Follows from the mesh's first event on, and hands what is worth a line to `tell`.
    pub(super) async fn follow(
        client: &MeshClient,
        logs: PathBuf,
        tell: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, CliError> {
        let mut events = client.follow(WATCHED, Start::Beginning).await?;
        let state = Arc::new(Mutex::new(State::default()));
        let (count, news) = watch::channel(0);
        let taken = state.clone();
        let follow = async move {
            while let Some(next) = events.next().await {
                let found = match next {
                    Ok(found) => found,
                    Err(error) => return tracing::error!(code = error.code(), "the mesh's events stopped: {error}"),
                };
                if PRINTED.contains(&found.event.event_type.as_str()) {
                    tell(&line(&found));
                }
                taken.lock().unwrap_or_else(PoisonError::into_inner).take(&found);
                count.send_modify(|count| *count += 1);
            }
        };
        let follower = Tasks::detached().start_once(part::task("demo"), |_| follow);
        Ok(Self { _follower: follower, state, news, logs })
    }

    pub(super) fn product(&self, name: &str) -> Progress {
        self.lock().products.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn verdicts_of(&self, product: &str) -> Vec<Verdict> {
        self.lock().verdicts.values().filter(|verdict| verdict.product == product).cloned().collect()
    }

    /// Waits until `done`, which is checked after each event.
    pub(super) async fn until(&self, step: &str, seconds: u64, done: impl Fn(&Self) -> bool) -> Result<(), CliError> {
        let mut news = self.news.clone();
        let wait = async {
            while !done(self) {
                if news.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        timeout(Duration::from_secs(seconds), wait).await.map_err(|_| CliError::DemoStalled {
            step: step.to_owned(),
            seconds,
            logs: self.logs.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, found: &Found) {
        match found.event.event_type.as_str() {
            types::PRODUCT_CHANGED => {
                if let Ok(changed) = found.event.decode::<ProductChanged>()
                    && self.announced.insert(found.event.id.clone())
                {
                    self.products.entry(changed.product.clone()).or_default().take(&changed);
                }
            }
            types::VERDICT => {
                if let Ok(verdict) = found.event.decode::<Verdict>() {
                    self.verdicts.insert(verdict.check_id.clone(), verdict);
                }
            }
            _ => {}
        }
    }
}

impl Progress {
    fn take(&mut self, changed: &ProductChanged) {
        self.snapshots += 1;
        self.rows = changed.total_rows;
        self.dead_letters += changed.dead_letters;
        self.events += changed.source.iter().map(|range| range.end - range.start).sum::<i64>();
        self.last_snapshot = changed.snapshot_id;
    }
}
