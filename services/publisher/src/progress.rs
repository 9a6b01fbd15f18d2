//! Whether the pipeline makes progress: what it works on, since when, and the last failure. The endpoint looks here before
//! it takes in more. Lost in a crash, which does no harm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the pipeline is doing; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Option<Work>>>);

#[derive(Debug, Clone)]
struct Work {
    revision: i64,
    since: Instant,
    failure: Option<String>,
}

impl Progress {
    /// Takes note of a submission that is taken up, perhaps not for the first time.
    pub(crate) fn begins(&self, revision: i64) {
        self.change(|work| match work {
            Some(same) if same.revision == revision => {}
            other => *other = Some(Work { revision, since: Instant::now(), failure: None }),
        });
    }

    /// Takes note of what went wrong with it; it will be tried again.
    pub(crate) fn fails(&self, why: &str) {
        self.change(|work| {
            if let Some(work) = work {
                work.failure = Some(why.to_owned());
            }
        });
    }

    /// Takes note that it has its verdicts.
    pub(crate) fn ends(&self) {
        self.change(|work| *work = None);
    }

    /// What holds the pipeline up: a failure, or a submission that takes longer than any should.
    pub fn held_up(&self, longest: Duration) -> Option<String> {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let took = work.since.elapsed();
        let why = match work.failure {
            Some(failure) => failure,
            None if took > longest => "no failure so far".to_owned(),
            None => return None,
        };
        Some(format!("submission {} has been in the works for {} s: {why}", work.revision, took.as_secs()))
    }

    fn change(&self, change: impl FnOnce(&mut Option<Work>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_or_takes_too_long_holds_up() {
        let progress = Progress::default();
        let held_up = |longest| progress.held_up(Duration::from_secs(longest)).is_some();
        assert!(!held_up(0), "nothing is in the works");
        progress.begins(7);
        assert_eq!((held_up(60), held_up(0)), (false, true));
        progress.fails("the catalog is locked");
        progress.begins(7);
        assert!(held_up(60), "a second try forgets nothing");
        progress.begins(8);
        assert!(!held_up(60));
        progress.ends();
        assert!(!held_up(0));
    }
}
