//! What the cases of the property tried.

/// What was seen over all cases: a property that tries nothing holds nothing.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) cases: usize,
    pub(super) commits: usize,
    pub(super) fenced: usize,
    pub(super) reloads: usize,
    pub(super) crashes: usize,
    pub(super) rollbacks: usize,
    pub(super) rebases: usize,
    pub(super) foreign: usize,
    pub(super) stopped: usize,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.commits += other.commits;
        self.fenced += other.fenced;
        self.reloads += other.reloads;
        self.crashes += other.crashes;
        self.rollbacks += other.rollbacks;
        self.rebases += other.rebases;
        self.foreign += other.foreign;
        self.stopped += other.stopped;
    }
}
