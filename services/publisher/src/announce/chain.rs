//! What to say about a table's `main` since it was last spoken of: pure, so that every history can be tried.
//!
//! In: the snapshot last announced, and the snapshots that the metadata still holds. Out: steps in order.
//! Must never happen: a snapshot of `main` passed over in silence, or said out of order (ANNOUNCED).
//!
//! Sequence numbers only grow within a table, over rollbacks too. So of two snapshots whose common past is expired,
//! the lower number was committed first, and that decides whether the past was cut off (a gap) or left (a rewind).

use std::collections::BTreeMap;

/// One snapshot, as far as its place in history goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub id: i64,
    pub parent: Option<i64>,
    pub sequence: i64,
}

/// All snapshots that a table's metadata holds, and the head of `main`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pub head: Option<i64>,
    pub snapshots: BTreeMap<i64, Link>,
}

/// The last announced snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub id: i64,
    pub sequence: i64,
}

/// One thing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `main` no longer descends from the last announced; `to` is where it was left, if that is still known.
    Rewound { from: i64, to: Option<i64> },
    /// Snapshots before `first_known` are gone that nobody was told of; `last` is none where nothing was ever said.
    Gap { last: Option<i64>, first_known: i64 },
    /// The snapshot is new.
    Snapshot(i64),
}

/// What to say, in order; nothing if the head is the last announced.
pub fn steps(last: Option<Said>, history: &History) -> Vec<Step> {
    let chain = history.chain();
    let Some(last) = last else { return from_the_start(&chain) };
    if let Some(place) = chain.iter().position(|link| link.id == last.id) {
        return announce(&chain[place + 1..]);
    }
    match history.left(last, &chain) {
        Left::Ahead => after_a_hole(last, &chain),
        Left::At(place) => {
            let mut steps = vec![Step::Rewound { from: last.id, to: place.map(|place| chain[place].id) }];
            steps.extend(announce(&chain[place.map_or(0, |place| place + 1)..]));
            steps
        }
    }
}

fn announce(links: &[Link]) -> Vec<Step> {
    links.iter().map(|link| Step::Snapshot(link.id)).collect()
}

/// First sight: the whole chain, behind a gap if its beginning is gone already.
fn from_the_start(chain: &[Link]) -> Vec<Step> {
    let hole = chain.first().filter(|first| first.parent.is_some());
    let mut steps: Vec<Step> = hole.map(|first| Step::Gap { last: None, first_known: first.id }).into_iter().collect();
    steps.extend(announce(chain));
    steps
}

/// The last announced is expired; if the oldest one left is its child, nothing was missed.
fn after_a_hole(last: Said, chain: &[Link]) -> Vec<Step> {
    let hole = chain.first().filter(|first| first.parent != Some(last.id));
    let gap = hole.map(|first| Step::Gap { last: Some(last.id), first_known: first.id });
    let mut steps: Vec<Step> = gap.into_iter().collect();
    steps.extend(announce(chain));
    steps
}

/// Where the last announced snapshot left `main`, it not being on the chain.
enum Left {
    /// It did not: it lies before what expiry left of the chain.
    Ahead,
    /// After this place of the chain; `None` is before its first.
    At(Option<usize>),
}

impl History {
    /// `main` from the oldest snapshot still there to the head.
    fn chain(&self) -> Vec<Link> {
        let mut chain: Vec<Link> = self.ancestry(self.head).collect();
        chain.reverse();
        chain
    }

    /// A snapshot and its ancestors, as far as they are there. Ends even on metadata whose parents run in a circle.
    fn ancestry(&self, from: Option<i64>) -> impl Iterator<Item = Link> {
        let find = |id: Option<i64>| id.and_then(|id| self.snapshots.get(&id)).copied();
        std::iter::successors(find(from), move |link| find(link.parent)).take(self.snapshots.len())
    }

    fn left(&self, last: Said, chain: &[Link]) -> Left {
        let Some(oldest) = chain.first() else { return Left::At(None) };
        if oldest.parent.is_some() && last.sequence < oldest.sequence {
            return Left::Ahead;
        }
        let fork = self.ancestry(Some(last.id)).find_map(|link| chain.iter().position(|of| of.id == link.id));
        // Its own past may be expired: the fork is then at the latest before the first that was committed after it.
        Left::At(fork.or_else(|| chain.iter().rposition(|link| link.sequence < last.sequence)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
