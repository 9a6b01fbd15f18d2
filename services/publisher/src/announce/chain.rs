//! What is to be announced of a table's `main` since the last announcement: pure, so that every history can be tried.
//!
//! In: the snapshot last announced, and the snapshots and the log that the metadata still holds. Out: steps in order.
//! Never: a snapshot of `main` passed over in silence, or announced out of order (ANNOUNCED).
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

/// `main` came to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadMove {
    /// None where `main` was dropped.
    pub to: Option<i64>,
    /// Milliseconds, by the table's own log.
    pub at: i64,
}

/// All snapshots that a table's metadata holds, where `main` went among them, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pub head: Option<i64>,
    pub log: Vec<HeadMove>,
    pub snapshots: BTreeMap<i64, Link>,
}

/// The last announced snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAnnounced {
    pub id: i64,
    pub sequence: i64,
    /// When `main` came to it, as far as that is known: it may come to one snapshot more than once.
    pub since: Option<i64>,
}

/// Where snapshots and moves are looked up, so that a common case looks at few of them.
pub trait Past {
    fn head(&self) -> Option<i64>;
    fn link(&self, id: i64) -> Option<Link>;
    /// Where `main` went, the newest first.
    fn newest_moves(&self) -> impl Iterator<Item = HeadMove>;
    /// All of it.
    fn whole(&self) -> History;
}

/// What is to be announced of a table. `known` is none for one that was never announced, and holds none for one whose
/// `main` ended with the last announcement.
pub fn news(known: Option<Option<LastAnnounced>>, past: &impl Past) -> Vec<(Announcement, Option<LastAnnounced>)> {
    match known {
        Some(Some(last)) => continuation(last, past).unwrap_or_else(|| steps(Some(last), &past.whole())),
        // All of the log was announced up to the end of `main`: only where it begins again is news.
        Some(None) => steps(None, &History { log: Vec::new(), ..past.whole() }),
        None => steps(None, &past.whole()),
    }
}

/// The steps where `main` only went on from the last announced, which is the common case: found by looking at what is
/// new, however long the history is. None where more happened: then [`steps`] looks at all of it.
fn continuation(last: LastAnnounced, past: &impl Past) -> Option<Vec<(Announcement, Option<LastAnnounced>)>> {
    let mut moves = Vec::new();
    let is_last = |moved: &HeadMove| moved.to == Some(last.id) && last.since.is_none_or(|since| since == moved.at);
    let mut chain = Vec::new();
    let mut next = past.head();
    while next != Some(last.id) {
        let link = past.link(next?)?;
        if link.sequence <= last.sequence {
            return None;
        }
        chain.push(link);
        next = link.parent;
    }
    chain.reverse();
    for moved in past.newest_moves() {
        if is_last(&moved) {
            moves.reverse();
            return follows(&moves, &chain).then(|| continued(&chain, &moves));
        }
        if moves.len() == chain.len() {
            return None;
        }
        moves.push(moved);
    }
    None
}

/// Whether `main` moved along the chain, perhaps over several commits at once, up to its end.
fn follows(moves: &[HeadMove], chain: &[Link]) -> bool {
    let mut chain_ids = chain.iter().map(|link| link.id);
    moves.iter().all(|moved| chain_ids.any(|id| moved.to == Some(id)))
        && moves.last().and_then(|moved| moved.to) == chain.last().map(|link| link.id)
}

fn continued(chain: &[Link], moves: &[HeadMove]) -> Vec<(Announcement, Option<LastAnnounced>)> {
    let mut moves = moves.iter().peekable();
    let mut steps = Vec::with_capacity(chain.len());
    for link in chain {
        let since = moves.next_if(|moved| moved.to == Some(link.id)).map(|moved| moved.at);
        let reached = LastAnnounced { id: link.id, sequence: link.sequence, since };
        steps.push((Announcement::Snapshot(link.id), Some(reached)));
    }
    steps
}

/// One thing to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// `main` no longer descends from the last announced; `to` is where it was left, if that is still known.
    Rewound { from: i64, to: Option<i64>, at: i64 },
    /// Snapshots before `first_known` expired unannounced; `last` is none where nothing was ever announced.
    Gap { last: Option<i64>, first_known: i64 },
    /// The snapshot is new.
    Snapshot(i64),
}

/// What is to be announced, in order, each with the snapshot that is the last announced by then; nothing if the head is
/// it. Every move of `main` counts, so that what was rolled back between two looks is announced and taken back.
pub fn steps(last: Option<LastAnnounced>, history: &History) -> Vec<(Announcement, Option<LastAnnounced>)> {
    let mut all: Vec<(Announcement, Option<LastAnnounced>)> = Vec::new();
    for moved in history.moves(last) {
        let before = all.last().map_or(last, |(_, reached)| *reached);
        let steps = history.until(before, moved).into_iter();
        all.extend(steps.scan(before, |last, step| {
            *last = history.reached(*last, step, moved);
            Some((step, *last))
        }));
    }
    all
}

fn announce(links: &[Link]) -> Vec<Announcement> {
    links.iter().map(|link| Announcement::Snapshot(link.id)).collect()
}

/// First sight: the whole chain, behind a gap if its beginning is expired already.
fn from_the_start(chain: &[Link]) -> Vec<Announcement> {
    let hole = chain.first().filter(|first| first.parent.is_some());
    let mut steps: Vec<Announcement> =
        hole.map(|first| Announcement::Gap { last: None, first_known: first.id }).into_iter().collect();
    steps.extend(announce(chain));
    steps
}

/// The last announced is expired; if the oldest one left is its child, nothing was missed.
fn after_a_hole(last: LastAnnounced, chain: &[Link]) -> Vec<Announcement> {
    let hole = chain.first().filter(|first| first.parent != Some(last.id));
    let gap = hole.map(|first| Announcement::Gap { last: Some(last.id), first_known: first.id });
    let mut steps: Vec<Announcement> = gap.into_iter().collect();
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
    /// Where `main` went after it came to the last announced. Of a run of commits only the last: its ancestry holds the
    /// others.
    fn moves(&self, last: Option<LastAnnounced>) -> Vec<HeadMove> {
        let there: Vec<(HeadMove, Link)> = self.log[self.after(last)..]
            .iter()
            .filter_map(|moved| Some((*moved, *self.snapshots.get(&moved.to?)?)))
            .collect();
        let announced = last.map(|last| (last.id, last.sequence));
        let before = std::iter::once(announced).chain(there.iter().map(|(_, link)| Some((link.id, link.sequence))));
        let jumps: Vec<bool> = before.zip(&there).map(|(before, (_, link))| !self.follows(*link, before)).collect();
        let around = |at: usize| jumps[at] || jumps.get(at + 1) == Some(&true);
        let mut moves: Vec<HeadMove> = (0..there.len()).filter(|at| around(*at)).map(|at| there[at].0).collect();
        moves.push(HeadMove { to: self.head, at: self.log.last().map_or(0, |moved| moved.at) });
        moves
    }

    /// Whether a snapshot descends from the one before it in the log, over those that were committed with it.
    fn follows(&self, link: Link, before: Option<(i64, i64)>) -> bool {
        before.is_none_or(|(id, sequence)| {
            let mut between = self.ancestry(link.parent).take_while(|link| link.sequence >= sequence);
            link.parent == Some(id) || between.any(|link| link.id == id)
        })
    }

    /// The place in the log after the last announced. Where the log was cut, the head alone is looked at.
    fn after(&self, last: Option<LastAnnounced>) -> usize {
        let Some(last) = last else { return 0 };
        let is_last = |moved: &HeadMove| moved.to == Some(last.id) && last.since.is_none_or(|since| since == moved.at);
        self.log.iter().rposition(is_last).map_or(self.log.len(), |at| at + 1)
    }

    /// What is to be announced so that a subscriber of the last announced knows that `main` moved there.
    fn until(&self, last: Option<LastAnnounced>, moved: HeadMove) -> Vec<Announcement> {
        let chain = self.chain(moved.to);
        let Some(last) = last else { return from_the_start(&chain) };
        if let Some(place) = chain.iter().position(|link| link.id == last.id) {
            return announce(&chain[place + 1..]);
        }
        match self.left(last, &chain) {
            Left::Ahead => after_a_hole(last, &chain),
            Left::At(place) => {
                let to = place.map(|place| chain[place].id);
                let mut steps = vec![Announcement::Rewound { from: last.id, to, at: moved.at }];
                steps.extend(announce(&chain[place.map_or(0, |place| place + 1)..]));
                steps
            }
        }
    }

    /// The last announced, after a step on the way of a move.
    fn reached(&self, last: Option<LastAnnounced>, step: Announcement, moved: HeadMove) -> Option<LastAnnounced> {
        let id = match step {
            Announcement::Gap { .. } => return last,
            Announcement::Snapshot(id) => id,
            Announcement::Rewound { to, .. } => to?,
        };
        let logged = || self.log.iter().rfind(|of| of.to == Some(id)).map(|of| of.at);
        let since = if moved.to == Some(id) { Some(moved.at) } else { logged() };
        self.snapshots.get(&id).map(|link| LastAnnounced { id, sequence: link.sequence, since })
    }

    /// A snapshot's past from the oldest still there.
    fn chain(&self, to: Option<i64>) -> Vec<Link> {
        let mut chain: Vec<Link> = self.ancestry(to).collect();
        chain.reverse();
        chain
    }

    /// A snapshot and its ancestors, as far as they are there. Ends even on metadata whose parents run in a circle.
    fn ancestry(&self, from: Option<i64>) -> impl Iterator<Item = Link> {
        let find = |id: Option<i64>| id.and_then(|id| self.snapshots.get(&id)).copied();
        std::iter::successors(find(from), move |link| find(link.parent)).take(self.snapshots.len())
    }

    fn left(&self, last: LastAnnounced, chain: &[Link]) -> Left {
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
