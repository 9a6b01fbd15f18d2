//! A worker of the property: the real steps of a session, on a log in memory.

use super::lake::{Lake, source};
use super::*;

/// One process that believes to have the table.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) progress: Option<TableProgress>,
    /// The next offset of each partition that it reads.
    pub(super) read: BTreeMap<i32, i64>,
    pub(super) at: At,
}

/// Between which two steps of a commit a worker is.
#[derive(Default)]
#[allow(clippy::large_enum_variant)]
pub(super) enum At {
    #[default]
    Reading,
    Closed(ClosedCommit),
    Committed(i32),
}

impl Worker {
    /// The next step of this worker's life. `Err`: its session ended with an error.
    pub(super) async fn step(
        &mut self,
        lake: &Lake,
        log: &Log,
        take: &[usize],
        seen: &mut Seen,
    ) -> Result<(), IngestError> {
        let Some(progress) = self.progress.as_mut() else {
            let partitions = i32::try_from(log.len()).unwrap();
            let progress = TableProgress::open(&lake.catalog, &lake.active, source(), partitions).await?;
            self.read = progress.positions().next();
            self.progress = Some(progress);
            return Ok(());
        };
        match std::mem::take(&mut self.at) {
            At::Reading if take.iter().any(|count| *count > 0) => read(progress, &mut self.read, log, take).await?,
            At::Reading => self.at = progress.close().await?.map_or(At::Reading, At::Closed),
            At::Closed(closed) => {
                let schema_id = closed.summary.schema_id;
                match progress.commit(closed).await? {
                    CommitVerdict::Stands => {
                        seen.commits += 1;
                        self.at = At::Committed(schema_id);
                    }
                    CommitVerdict::Fenced(_) => {
                        seen.fenced += 1;
                        self.progress = None;
                    }
                }
            }
            At::Committed(schema_id) => {
                progress.settle().await?;
                if progress.outdated(schema_id).is_some() {
                    seen.reloads += 1;
                    self.progress = None;
                }
            }
        }
        Ok(())
    }

    /// So many steps without a pause: it opens if it must, reads once, closes, commits, settles.
    pub(super) async fn turn(
        &mut self,
        lake: &Lake,
        log: &Log,
        take: &[usize],
        steps: usize,
        seen: &mut Seen,
    ) -> Result<(), IngestError> {
        let mut take = take;
        for _ in 0..steps {
            let reads = self.progress.is_some() && matches!(self.at, At::Reading);
            self.step(lake, log, take, seen).await?;
            take = if reads { &[] } else { take };
        }
        Ok(())
    }

    /// Whether it has read all of a partition that the log has. One that is not open reads from what the table records.
    pub(super) fn is_at_end(&self, log: &Log, partition: usize) -> bool {
        let position = self.read.get(&i32::try_from(partition).unwrap()).copied().unwrap_or_default();
        log.get(partition).is_none_or(|log| usize::try_from(position).unwrap() >= log.len())
    }

    pub(super) fn crash(&mut self) {
        *self = Self::default();
    }
}

/// Takes up to so many offsets of each partition, as the reader hands them over.
async fn read(
    progress: &mut TableProgress,
    positions: &mut BTreeMap<i32, i64>,
    log: &Log,
    take: &[usize],
) -> Result<(), IngestError> {
    let mut records = SourceBatch::default();
    for (partition, position) in positions.iter_mut() {
        let index = usize::try_from(*partition).unwrap();
        let count = take.get(index).copied().unwrap_or_default();
        let from = usize::try_from(*position).unwrap();
        for kind in log[index].iter().skip(from).take(count) {
            let value: Option<&[u8]> = match kind {
                Kind::Good => Some(b"{\"id\":1}"),
                Kind::Bad => Some(b"{\"id\":null}"),
                Kind::Control => None,
            };
            if value.is_some() {
                records.add((*partition, *position, 1_000 + *position), None, value, []);
            }
            *position += 1;
            records.reach(*partition, *position);
        }
    }
    if records.has_records() {
        let done = transform(&records, progress.plan(), &Schemas::new()).unwrap();
        progress.take(&records, done).await?;
    }
    progress.reach(records.reached())
}

/// Polls a future so often and drops it then, as a process does that is killed.
pub(super) async fn cut<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (std::pin::pin!(future), polls);
    std::future::poll_fn(move |context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}
