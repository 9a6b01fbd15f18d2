//! EXACTLY-ONCE as a property: two workers that both believe to have a table, and everything that happens around them.
//!
//! A model of the log is in memory; catalog, commits, files and the steps of a commit are the real ones. Each case is a
//! sequence of random steps: records, control records and new partitions come; a worker opens, reads, closes, commits,
//! settles, or is stopped for as long as the other one works; it crashes between two steps or within one; the table is
//! rolled back, given a new start, or committed to by another engine. After each step the table holds the good records of
//! [start, recorded), each once, and no dead letter is lost or doubled; at the end a worker brings both up to the log's
//! end, or the table has stopped with a code.
//!
//! `MESH_SEED` replays a case, `MESH_ONCE_SECONDS` sets how long new ones are tried (if not set: 14, with `MESH_LONG` 300).
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod lake;
mod scripts;
mod seen;
mod worker;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mesh_testkit::Seed;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::lake::{Lake, Place, Which, next};
use self::seen::Seen;
use self::worker::{Worker, cut};
use super::*;
use crate::pipeline::decode::avro::Schemas;
use crate::pipeline::transform::transform;

const STEPS: usize = 30;
/// How many cases run side by side: each waits for the disk most of its time.
const AT_ONCE: usize = 6;
const SECONDS: u64 = 14;
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
    /// The versions of both tables that were looked at last.
    checked: Option<[String; 2]>,
}

impl Case {
    async fn new(random: &mut StdRng) -> Self {
        Self {
            lake: Lake::new().await,
            log: vec![Vec::new(), Vec::new()],
            workers: Default::default(),
            dead_letters_may_roll_back: random.random_bool(0.3),
            dead_letters_rolled_back: false,
            checked: None,
        }
    }

    async fn step(&mut self, random: &mut StdRng, seen: &mut Seen) {
        match random.random_range(0..100) {
            0..3 => self.produce(random.random_range(0..self.log.len()), random),
            3..5 if self.log.len() < 4 => self.log.push(Vec::new()),
            5..12 => {
                let done = self.lake.roll_back(Which::Rows, random.random_range(0..3)).await;
                seen.rollbacks += usize::from(done);
            }
            12..14 if self.dead_letters_may_roll_back => {
                let done = self.lake.roll_back(Which::DeadLetters, random.random_range(0..2)).await;
                self.dead_letters_rolled_back |= done;
            }
            14..17 => seen.foreign += usize::from(self.lake.foreign(Which::Rows).await),
            17..18 => seen.foreign += usize::from(self.lake.foreign(Which::DeadLetters).await),
            18..20 => {
                let (partition, skip) = (random.random_range(0..self.log.len()), random.random_range(0..3));
                seen.rebases += usize::from(self.rebase(partition, skip).await);
            }
            20..22 => self.workers[random.random_range(0..2)].crash(),
            22..26 => self.crash_within(random, seen).await,
            26..30 => self.both(random, seen).await,
            _ => {
                let worker = random.random_range(0..2);
                let take = self.take(worker, random);
                // Mostly a whole commit. What is shorter stops the worker between two steps until its next turn.
                let steps = if random.random_bool(0.6) { 5 } else { random.random_range(1..5) };
                self.turn(worker, &take, steps, seen).await;
            }
        }
    }

    /// How many offsets a worker reads of each partition. Mostly of one, and mostly of its own: two workers whose commits
    /// carry different ones do not fence each other by their offsets. There is mostly something to read.
    fn take(&mut self, worker: usize, random: &mut StdRng) -> Vec<usize> {
        let count = self.log.len();
        let mut take = vec![0; count];
        if random.random_bool(0.15) {
            take.fill_with(|| random.random_range(0..4));
        } else {
            let only = if random.random_bool(0.6) { worker } else { random.random_range(0..count) };
            take[only] = random.random_range(1..4);
        }
        for (partition, take) in take.iter().enumerate() {
            if *take > 0 && self.workers[worker].is_at_end(&self.log, partition) && random.random_bool(0.9) {
                self.produce(partition, random);
            }
        }
        take
    }

    async fn turn(&mut self, worker: usize, take: &[usize], steps: usize, seen: &mut Seen) {
        if self.workers[worker].turn(&self.lake, &self.log, take, steps, seen).await.is_err() {
            self.workers[worker].crash();
        }
    }

    async fn rebase(&mut self, partition: usize, skip: i64) -> bool {
        let end = i64::try_from(self.log[partition].len()).unwrap();
        self.lake.rebase(i32::try_from(partition).unwrap(), skip, end).await.is_ok()
    }

    async fn crash_within(&mut self, random: &mut StdRng, seen: &mut Seen) {
        seen.crashes += 1;
        let worker = random.random_range(0..2);
        let take = self.take(worker, random);
        let turn = self.workers[worker].turn(&self.lake, &self.log, &take, 5, seen);
        cut(random.random_range(1..40), turn).await;
        self.workers[worker].crash();
    }

    /// Both workers at once.
    async fn both(&mut self, random: &mut StdRng, seen: &mut Seen) {
        let (take, other_take) = (self.take(0, random), self.take(1, random));
        let [one, two] = &mut self.workers;
        let (mut seen_by_one, mut seen_by_two) = (Seen::default(), Seen::default());
        let turn = one.turn(&self.lake, &self.log, &take, 5, &mut seen_by_one);
        let other_turn = two.turn(&self.lake, &self.log, &other_take, 5, &mut seen_by_two);
        let (ended, other_ended) = tokio::join!(turn, other_turn);
        ended.unwrap_or_else(|_| one.crash());
        other_ended.unwrap_or_else(|_| two.crash());
        seen.add(&seen_by_one);
        seen.add(&seen_by_two);
    }

    fn produce(&mut self, partition: usize, random: &mut StdRng) {
        for _ in 0..random.random_range(1..4) {
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
        let (table, dead_letters) = (self.lake.load(Which::Rows).await, self.lake.load(Which::DeadLetters).await);
        let versions = [&table, &dead_letters].map(|table| table.metadata_location().to_owned());
        if !whole && self.checked.as_ref() == Some(&versions) {
            return Ok(());
        }
        let recorded = table.recorded().await?;
        let (next, left_out) = (next(&recorded.offsets, self.log.len()), self.lake.left_out(&table));
        let mut rows = self.lake.places(&table).await;
        rows.sort_unstable();
        assert_eq!(rows, self.places(Kind::Good, &next, &left_out), "rows, for {next:?}");
        let stored = self.lake.places(&dead_letters).await;
        let mut dead: BTreeSet<Place> = stored.iter().copied().collect();
        assert_eq!(dead.len(), stored.len(), "a dead letter twice: {stored:?}");
        if whole || !self.dead_letters_rolled_back {
            dead.extend(if whole { Vec::new() } else { self.lake.pending(&recorded.summary) });
            let lost: Vec<Place> =
                self.places(Kind::Bad, &next, &left_out).into_iter().filter(|place| !dead.contains(place)).collect();
            assert!(lost.is_empty(), "dead letters lost: {lost:?} of {next:?}");
        }
        self.checked = Some(versions);
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

/// Names the case that fails.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MESH_SEED={} replays this case", self.0);
        }
    }
}

/// One case, and what it tried.
async fn case(seed: u64) -> Seen {
    let _running = Running(seed);
    let (mut random, mut seen) = (StdRng::seed_from_u64(seed), Seen { cases: 1, ..Seen::default() });
    let mut case = Case::new(&mut random).await;
    for _ in 0..STEPS {
        case.step(&mut random, &mut seen).await;
        case.check(false).await.expect("no rollback goes back to before the first offsets");
    }
    match case.finish(&mut seen).await {
        Err(IngestError::DeadLettersBehind { .. }) if case.dead_letters_rolled_back => seen.stopped += 1,
        Err(error) => panic!("stopped without a reason: {error}"),
        Ok(()) => {}
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_dead_letters_are_the_records_of_the_log_each_once() -> anyhow::Result<()> {
    let usual = if std::env::var_os("MESH_LONG").is_some() { LONG_SECONDS } else { SECONDS };
    let seconds = std::env::var("MESH_ONCE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let first: u64 = Seed::from_env_or_random()?.to_string().parse()?;
    let (since, mut seen, mut running) = (Instant::now(), Seen::default(), JoinSet::new());
    for seed in (0..).map(|number| first.wrapping_add(number)) {
        let runtime = Handle::current();
        running.spawn_blocking(move || runtime.block_on(case(seed)));
        let over = since.elapsed() >= Duration::from_secs(seconds);
        while running.len() >= AT_ONCE || (over && !running.is_empty()) {
            match running.join_next().await {
                Some(Ok(by_case)) => seen.add(&by_case),
                Some(Err(failed)) => {
                    eprintln!("after {} cases in {:?}", seen.cases, since.elapsed());
                    while running.join_next().await.is_some() {}
                    std::panic::resume_unwind(failed.into_panic());
                }
                None => {}
            }
        }
        if over {
            break;
        }
    }
    eprintln!("{seen:?}");
    let tried = [seen.commits, seen.fenced, seen.reloads, seen.crashes, seen.rollbacks, seen.rebases, seen.foreign];
    assert!(seen.cases < 10 || tried.iter().all(|count| *count > 0), "something was never tried: {seen:?}");
    // Most faults need several commits of one session, and one of another between them.
    assert!(seen.cases < 10 || seen.commits > 5 * seen.cases, "too few commits: {seen:?}");
    assert!(seen.stopped * 2 < seen.cases.max(10), "most tables stopped: {seen:?}");
    Ok(())
}
