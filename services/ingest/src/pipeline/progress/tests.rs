//! EXACTLY-ONCE as a property: two workers that both believe to have a table, and everything that happens around them.
//!
//! A model of the log is in memory; catalog, commits, files and the steps of a commit are the real ones. Each case is a
//! sequence of random steps: records, control records and new partitions come; a worker opens, reads, closes, commits,
//! settles, or is stopped for as long as the other one works; it crashes between two steps or within one; the table is
//! rolled back, given a new start, or committed to by another engine. After each step the table holds the good records of
//! [start, recorded), each once, and no dead letter is lost or doubled; at the end a worker brings both up to the log's
//! end, or the table has stopped with a code.
//!
//! `MESH_SEED` replays a case, `MESH_ONCE_SECONDS` sets how long new ones are tried (if not set: 20, with `MESH_LONG` 300).
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod lake;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mesh_testkit::Seed;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use self::lake::{Lake, Place, Which, next, source};
use super::*;
use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::transform::transform;

const STEPS: usize = 60;
const SECONDS: u64 = 20;
const LONG_SECONDS: u64 = 300;

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    /// Neither a row nor a dead letter: a control record, or one of an aborted transaction.
    Control,
}

/// The log: per partition what stands at each offset.
type Log = Vec<Vec<Kind>>;

/// One process that believes to have the table.
#[derive(Default)]
struct Worker {
    progress: Option<TableProgress>,
    /// The next offset of each partition that it reads.
    read: BTreeMap<i32, i64>,
    at: At,
}

/// Between which two steps of a commit a worker is.
#[derive(Default)]
#[allow(clippy::large_enum_variant)]
enum At {
    #[default]
    Reading,
    Closed(ClosedCommit),
    Committed(i32),
}

/// What was seen over all cases: a property that tries nothing holds nothing.
#[derive(Debug, Default)]
struct Seen {
    cases: usize,
    commits: usize,
    fenced: usize,
    reloads: usize,
    crashes: usize,
    rollbacks: usize,
    rebases: usize,
    foreign: usize,
    stopped: usize,
}

impl Worker {
    /// The next step of this worker's life. `Err`: its session ended with an error.
    async fn step(&mut self, lake: &Lake, log: &Log, take: &[usize], seen: &mut Seen) -> Result<(), IngestError> {
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

    fn crash(&mut self) {
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
async fn cut<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
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

/// Everything of one case.
struct Case {
    lake: Lake,
    log: Log,
    workers: [Worker; 2],
    /// Whether another engine may roll the dead-letter table back. A table that has stopped tries nothing more, so only
    /// some cases have that.
    dead_letters_may_roll_back: bool,
    /// It did: the table may stop, it may not go on without them.
    dead_letters_rolled_back: bool,
}

impl Case {
    async fn step(&mut self, random: &mut StdRng, seen: &mut Seen) {
        let worker = random.random_range(0..2);
        // Mostly one partition: two workers whose commits carry different ones do not fence each other by their offsets.
        let only = random.random_bool(0.7).then(|| random.random_range(0..self.log.len()));
        let mut count =
            |partition| if only.is_none_or(|only| only == partition) { random.random_range(0..4) } else { 0 };
        let take: Vec<usize> = (0..self.log.len()).map(&mut count).collect();
        let take = if random.random_bool(0.4) { vec![0; take.len()] } else { take };
        match random.random_range(0..100) {
            0..20 => self.produce(random),
            20..22 if self.log.len() < 4 => self.log.push(Vec::new()),
            22..28 => seen.rollbacks += usize::from(self.lake.roll_back(Which::Rows, random.random_range(0..3)).await),
            28..30 if self.dead_letters_may_roll_back => {
                let done = self.lake.roll_back(Which::DeadLetters, random.random_range(0..2)).await;
                self.dead_letters_rolled_back |= done;
            }
            30..34 => seen.foreign += usize::from(self.lake.foreign(Which::Rows).await),
            34..35 => seen.foreign += usize::from(self.lake.foreign(Which::DeadLetters).await),
            35..37 => {
                let partition = random.random_range(0..self.log.len());
                let end = i64::try_from(self.log[partition].len()).unwrap();
                let partition = i32::try_from(partition).unwrap();
                seen.rebases += usize::from(self.lake.rebase(partition, random.random_range(0..3), end).await.is_ok());
            }
            37..40 => self.workers[worker].crash(),
            40..47 => {
                seen.crashes += 1;
                let step = self.workers[worker].step(&self.lake, &self.log, &take, seen);
                cut(random.random_range(1..12), step).await;
                self.workers[worker].crash();
            }
            47..50 => {
                let [one, two] = &mut self.workers;
                let (mut seen_by_one, mut seen_by_two) = Default::default();
                let one_step = one.step(&self.lake, &self.log, &take, &mut seen_by_one);
                let two_step = two.step(&self.lake, &self.log, &take, &mut seen_by_two);
                let (ended, other_ended) = tokio::join!(one_step, two_step);
                ended.unwrap_or_else(|_| one.crash());
                other_ended.unwrap_or_else(|_| two.crash());
                seen.commits += seen_by_one.commits + seen_by_two.commits;
                seen.fenced += seen_by_one.fenced + seen_by_two.fenced;
            }
            _ => {
                if self.workers[worker].step(&self.lake, &self.log, &take, seen).await.is_err() {
                    self.workers[worker].crash();
                }
            }
        }
    }

    fn produce(&mut self, random: &mut StdRng) {
        let partition = random.random_range(0..self.log.len());
        for _ in 0..random.random_range(1..6) {
            self.log[partition].push(match random.random_range(0..10) {
                0..5 => Kind::Good,
                5..8 => Kind::Bad,
                _ => Kind::Control,
            });
        }
    }

    /// The places of a kind among the records that the table must have.
    fn places(&self, kind: Kind, next: &[i64], left_out: &BTreeSet<Place>) -> Vec<Place> {
        let mut places = Vec::new();
        for (partition, (log, next)) in (0..).zip(self.log.iter().zip(next)) {
            let records = (0i64..).zip(log).take_while(|(offset, _)| offset < next);
            places.extend(records.filter(|(_, found)| **found == kind).map(|(offset, _)| (partition, offset)));
        }
        places.retain(|place| !left_out.contains(place));
        places
    }

    /// What must hold after each step; `whole`: nothing is pending any more. An error if the table has stopped.
    async fn check(&mut self, whole: bool) -> Result<(), IngestError> {
        let table = self.lake.load(Which::Rows).await;
        let recorded = table.recorded().await?;
        let (next, left_out) = (next(&recorded.offsets, self.log.len()), self.lake.left_out(&table));
        let mut rows = self.lake.places(&table).await;
        rows.sort_unstable();
        assert_eq!(rows, self.places(Kind::Good, &next, &left_out), "rows, for {next:?}");
        let dead_letters = self.lake.load(Which::DeadLetters).await;
        let stored = self.lake.places(&dead_letters).await;
        let mut dead: BTreeSet<Place> = stored.iter().copied().collect();
        assert_eq!(dead.len(), stored.len(), "a dead letter twice: {stored:?}");
        if whole || !self.dead_letters_rolled_back {
            dead.extend(if whole { Vec::new() } else { self.lake.pending(&recorded.summary) });
            let lost: Vec<Place> =
                self.places(Kind::Bad, &next, &left_out).into_iter().filter(|place| !dead.contains(place)).collect();
            assert!(lost.is_empty(), "dead letters lost: {lost:?} of {next:?}");
        }
        Ok(())
    }

    /// One more worker brings the tables up to the log's end; an error if the table has stopped.
    async fn finish(&mut self, seen: &mut Seen) -> Result<(), IngestError> {
        self.workers = Default::default();
        let everything = vec![usize::MAX; self.log.len()];
        for _ in 0..20 {
            let mut worker = Worker::default();
            worker.step(&self.lake, &self.log, &[], seen).await?;
            worker.step(&self.lake, &self.log, &everything, seen).await?;
            for _ in 0..3 {
                worker.step(&self.lake, &self.log, &[], seen).await?;
            }
            let recorded = self.lake.load(Which::Rows).await.recorded().await?;
            let ends: Vec<i64> = self.log.iter().map(|log| i64::try_from(log.len()).unwrap()).collect();
            if next(&recorded.offsets, self.log.len()) == ends {
                return self.check(true).await;
            }
        }
        panic!("the table does not come to the log's end")
    }
}

/// One case; an error is a table that stopped.
async fn case(seed: u64, seen: &mut Seen) -> Result<(), IngestError> {
    let mut random = StdRng::seed_from_u64(seed);
    let (log, workers) = (vec![Vec::new(), Vec::new()], Default::default());
    let mut case = Case {
        lake: Lake::new().await,
        log,
        workers,
        dead_letters_may_roll_back: random.random_bool(0.3),
        dead_letters_rolled_back: false,
    };
    for _ in 0..STEPS {
        case.step(&mut random, seen).await;
        case.check(false).await.expect("no rollback goes back to before the first offsets");
    }
    let finished = case.finish(seen).await;
    match &finished {
        Err(IngestError::DeadLettersBehind { .. }) if case.dead_letters_rolled_back => finished,
        Err(error) => panic!("stopped without a reason: {error}"),
        Ok(()) => finished,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_dead_letters_are_the_records_of_the_log_each_once() -> anyhow::Result<()> {
    let usual = if std::env::var_os("MESH_LONG").is_some() { LONG_SECONDS } else { SECONDS };
    let seconds = std::env::var("MESH_ONCE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let first: u64 = Seed::from_env_or_random()?.to_string().parse()?;
    let (since, mut seen) = (Instant::now(), Seen::default());
    while since.elapsed() < Duration::from_secs(seconds) {
        let seed = first.wrapping_add(seen.cases as u64);
        eprintln!("MESH_SEED={seed}");
        seen.stopped += usize::from(case(seed, &mut seen).await.is_err());
        seen.cases += 1;
    }
    eprintln!("{seen:?}");
    let tried = [seen.commits, seen.fenced, seen.reloads, seen.crashes, seen.rollbacks, seen.rebases, seen.foreign];
    assert!(seen.cases < 10 || tried.iter().all(|count| *count > 0), "something was never tried: {seen:?}");
    assert!(seen.stopped * 2 < seen.cases.max(10), "most tables stopped: {seen:?}");
    Ok(())
}
