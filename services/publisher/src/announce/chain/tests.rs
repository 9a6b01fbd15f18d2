use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

/// Links written as `id<parent`; the sequence number is the id. The last one is the head, and the log is lost.
fn history(links: &[&str]) -> History {
    let links: Vec<Link> = links.iter().map(|text| link(text)).collect();
    History {
        head: links.last().map(|link| link.id),
        log: Vec::new(),
        snapshots: links.into_iter().map(|link| (link.id, link)).collect(),
    }
}

fn link(text: &str) -> Link {
    let (id, parent) = text.split_once('<').map_or((text, None), |(id, parent)| (id, Some(parent)));
    let id = id.parse().unwrap();
    Link { id, parent: parent.map(|parent| parent.parse().unwrap()), sequence: id }
}

fn check(last: Option<i64>, links: &[&str], expected: &[Announcement]) {
    assert_eq!(told(last.map(|id| LastAnnounced { id, sequence: id, since: None }), &history(links)), expected);
}

fn told(last: Option<LastAnnounced>, history: &History) -> Vec<Announcement> {
    steps(last, history).into_iter().map(|(step, _)| step).collect()
}

/// As `check`, with where `main` went: the first move at 0, the next at 1. The last announced is named by its move.
fn check_log(last: Option<usize>, links: &[&str], log: &[i64], expected: &[Announcement]) {
    let mut history = history(links);
    history.log = log.iter().zip(0..).map(|(to, at)| HeadMove { to: Some(*to), at }).collect();
    history.head = log.last().copied();
    let last = last.map(|at| LastAnnounced { id: log[at], sequence: log[at], since: Some(at as i64) });
    let steps = steps(last, &history);
    assert_eq!(steps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), expected);
    let reached = steps.last().map_or(last, |(_, reached)| *reached);
    let end = LastAnnounced { id: log[log.len() - 1], sequence: log[log.len() - 1], since: Some(log.len() as i64 - 1) };
    assert_eq!(reached, Some(end));
}

use Announcement::{Gap, Snapshot};

fn rewound(from: i64, to: Option<i64>, at: i64) -> Announcement {
    Announcement::Rewound { from, to, at }
}

#[test]
fn nothing_new_says_nothing() {
    check(Some(2), &["1", "2<1"], &[]);
    check(None, &[], &[]);
}

#[test]
fn new_snapshots_are_said_in_order() {
    check(Some(1), &["1", "2<1", "3<2"], &[Snapshot(2), Snapshot(3)]);
}

#[test]
fn first_sight_says_the_whole_chain() {
    check(None, &["1", "2<1"], &[Snapshot(1), Snapshot(2)]);
}

#[test]
fn first_sight_of_a_cut_chain_begins_with_a_gap() {
    check(None, &["3<2", "4<3"], &[Gap { last: None, first_known: 3 }, Snapshot(3), Snapshot(4)]);
}

#[test]
fn expiry_of_what_was_said_is_no_gap() {
    check(Some(2), &["3<2", "4<3"], &[Snapshot(3), Snapshot(4)]);
}

#[test]
fn expiry_of_what_was_not_said_is_a_gap() {
    check(Some(1), &["3<2", "4<3"], &[Gap { last: Some(1), first_known: 3 }, Snapshot(3), Snapshot(4)]);
}

#[test]
fn a_tag_that_keeps_the_last_said_does_not_hide_the_gap() {
    check(Some(1), &["1", "3<2"], &[Gap { last: Some(1), first_known: 3 }, Snapshot(3)]);
}

#[test]
fn a_rollback_is_a_rewind() {
    let mut rolled_back = history(&["1", "2<1", "3<2"]);
    rolled_back.head = Some(1);
    let said = Some(LastAnnounced { id: 3, sequence: 3, since: None });
    assert_eq!(told(said, &rolled_back), [rewound(3, Some(1), 0)]);
}

#[test]
fn what_follows_a_rollback_is_said_after_the_rewind() {
    check(Some(3), &["1", "2<1", "3<2", "4<2"], &[rewound(3, Some(2), 0), Snapshot(4)]);
}

#[test]
fn a_rollback_whose_leavings_are_expired_is_still_a_rewind() {
    check(Some(3), &["1", "2<1", "4<2"], &[rewound(3, Some(2), 0), Snapshot(4)]);
}

#[test]
fn a_main_that_begins_anew_is_a_rewind_to_nothing() {
    check(Some(2), &["1", "2<1", "3"], &[rewound(2, None, 0), Snapshot(3)]);
    check(Some(2), &[], &[rewound(2, None, 0)]);
}

#[test]
fn what_was_rolled_back_before_anybody_looked_is_said_and_taken_back() {
    let links = &["1", "2<1", "3<2", "4<1", "5<4"];
    check_log(Some(0), links, &[1, 2, 3, 1], &[Snapshot(2), Snapshot(3), rewound(3, Some(1), 3)]);
    check_log(Some(3), links, &[1, 2, 3, 1], &[]);
    let all = &[Snapshot(2), Snapshot(3), rewound(3, Some(1), 3), Snapshot(4), Snapshot(5)];
    check_log(Some(0), links, &[1, 2, 3, 1, 4, 5], all);
    check_log(None, links, &[1, 2, 3, 1, 4, 5], &[&[Snapshot(1)], &all[..]].concat());
    check_log(Some(2), links, &[1, 2, 3, 1, 4, 5], &all[2..]);
    check_log(Some(3), links, &[1, 2, 3, 1, 4, 5], &all[3..]);
}

#[test]
fn what_is_main_again_is_said_again() {
    let links = &["1", "2<1", "3<2"];
    let expected = &[rewound(3, Some(1), 3), Snapshot(2), Snapshot(3)];
    check_log(Some(2), links, &[1, 2, 3, 1, 3], expected);
}

#[test]
fn commits_made_together_are_said_though_the_log_has_the_last_only() {
    check_log(Some(0), &["1", "2<1", "3<2", "4<3"], &[1, 4], &[Snapshot(2), Snapshot(3), Snapshot(4)]);
}

#[test]
fn a_circle_of_parents_ends() {
    check(None, &["1<2", "2<1"], &[Gap { last: None, first_known: 1 }, Snapshot(1), Snapshot(2)]);
}

#[derive(Debug, Clone)]
enum Deed {
    Commit,
    /// `main` back to its ancestor this many steps before.
    RollBack(usize),
    /// `main` to any snapshot that is there.
    Jump(usize),
    /// Forgets all ancestors of `main` but this many, and all that was rolled back.
    Expire(usize),
    Look,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => Just(Deed::Commit),
        1 => (1usize..4).prop_map(Deed::RollBack),
        1 => (0usize..60).prop_map(Deed::Jump),
        1 => (1usize..6).prop_map(Deed::Expire),
        3 => Just(Deed::Look),
    ];
    proptest::collection::vec(deed, 0..60)
}

/// A table with nothing forgotten beside the table as its metadata shows it.
#[derive(Default)]
struct Model {
    truth: BTreeMap<i64, Link>,
    seen: History,
    /// Every snapshot that was ever expired.
    expired: BTreeSet<i64>,
    /// `main` went back since somebody looked.
    went_back: bool,
    clock: i64,
}

impl Model {
    fn moves(&mut self, to: i64) {
        self.clock += 1;
        self.seen.head = Some(to);
        self.seen.log.push(HeadMove { to: Some(to), at: self.clock });
    }

    fn past(&self, from: Option<i64>) -> Vec<i64> {
        std::iter::successors(from, |id| self.truth[id].parent).collect()
    }

    fn does(&mut self, deed: &Deed) {
        match *deed {
            Deed::Commit => {
                let id = self.truth.len() as i64 + 1;
                let link = Link { id, parent: self.seen.head, sequence: id };
                self.truth.insert(id, link);
                self.seen.snapshots.insert(id, link);
                self.moves(id);
            }
            Deed::RollBack(by) => {
                let there = self.past(self.seen.head).get(by).copied();
                if let Some(there) = there.filter(|id| self.seen.snapshots.contains_key(id)) {
                    self.moves(there);
                    self.went_back = true;
                }
            }
            Deed::Jump(nth) => {
                let there = self.seen.snapshots.len().max(1);
                let to = self.seen.snapshots.keys().copied().nth(nth % there).filter(|to| Some(*to) != self.seen.head);
                if let Some(to) = to {
                    self.went_back |= !self.past(Some(to)).contains(&self.seen.head.unwrap());
                    self.moves(to);
                }
            }
            Deed::Expire(keep) => {
                let kept: BTreeSet<i64> = self.past(self.seen.head).into_iter().take(keep).collect();
                self.expired.extend(self.seen.snapshots.keys().filter(|id| !kept.contains(id)));
                self.seen.snapshots.retain(|id, _| kept.contains(id));
                // As Iceberg has it: what lies before a move to something expired goes with it.
                let gone = self.seen.log.iter().rposition(|moved| !kept.contains(&moved.to.unwrap()));
                self.seen.log.drain(..gone.map_or(0, |at| at + 1));
            }
            Deed::Look => {}
        }
    }
}

impl Past for History {
    fn head(&self) -> Option<i64> {
        self.head
    }

    fn link(&self, id: i64) -> Option<Link> {
        self.snapshots.get(&id).copied()
    }

    fn newest_moves(&self) -> impl Iterator<Item = HeadMove> {
        self.log.iter().rev().copied()
    }

    fn whole(&self) -> History {
        self.clone()
    }
}

/// Counts the snapshots and moves that are looked at.
struct Counting<'a> {
    of: &'a History,
    looks: std::cell::Cell<usize>,
}

impl Counting<'_> {
    fn count<T>(&self, looks: usize, of: T) -> T {
        self.looks.set(self.looks.get() + looks);
        of
    }
}

impl Past for Counting<'_> {
    fn head(&self) -> Option<i64> {
        self.of.head
    }

    fn link(&self, id: i64) -> Option<Link> {
        self.count(1, self.of.link(id))
    }

    fn newest_moves(&self) -> impl Iterator<Item = HeadMove> {
        self.of.newest_moves().inspect(|_| self.count(1, ()))
    }

    fn whole(&self) -> History {
        self.count(self.of.snapshots.len() + self.of.log.len(), self.of.whole())
    }
}

#[test]
fn a_commit_costs_the_same_after_a_thousand() {
    let mut model = Model::default();
    let mut last = None;
    for commit in 0..1_000usize {
        let together = 1 + commit % 3;
        (0..together).for_each(|_| model.does(&Deed::Commit));
        let past = Counting { of: &model.seen, looks: Default::default() };
        let steps = news(last, &past);
        assert_eq!(steps.len(), together);
        assert!(commit == 0 || past.looks.get() <= 2 * together + 1, "{} looks at commit {commit}", past.looks.get());
        last = steps.last().map(|(_, reached)| *reached);
    }
}

/// A subscriber that believes what it is told, and notes what it was told twice without a rewind between.
#[derive(Default)]
struct Subscriber {
    head: Option<i64>,
    told: BTreeSet<i64>,
    /// Told and perhaps taken back.
    ever: BTreeSet<i64>,
    last: Option<LastAnnounced>,
}

impl Subscriber {
    fn hears(&mut self, model: &Model) -> Result<Vec<Announcement>, TestCaseError> {
        let steps = steps(self.last, &model.seen);
        if let Some(last) = self.last {
            let short = news(Some(Some(last)), &model.seen);
            let told = |steps: &[(Announcement, _)]| steps.iter().map(|(step, _)| *step).collect::<Vec<_>>();
            prop_assert_eq!(told(&short), told(&steps));
            prop_assert_eq!(short.last().map(|(_, end)| *end), steps.last().map(|(_, end)| *end));
        }
        let mut hole = false;
        for (step, reached) in &steps {
            match *step {
                Announcement::Snapshot(id) => {
                    let parent = model.truth[&id].parent;
                    prop_assert!(hole || parent == self.head, "{id} follows {parent:?}, not {:?}", self.head);
                    prop_assert!(self.told.insert(id), "{id} was said twice");
                    self.ever.insert(id);
                    (self.head, hole) = (Some(id), false);
                }
                Announcement::Gap { last, first_known } => {
                    prop_assert_eq!(last, self.head);
                    self.told.extend(model.past(model.truth[&first_known].parent));
                    hole = true;
                }
                Announcement::Rewound { from, to, .. } => {
                    prop_assert_eq!(Some(from), self.head);
                    // Where the past is expired, this is all that is said of it.
                    self.told = model.past(to).into_iter().collect();
                    self.head = to;
                }
            }
            prop_assert_eq!(reached.map(|said| said.id), self.head);
            self.last = *reached;
        }
        Ok(steps.into_iter().map(|(step, _)| step).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens between looks: the subscriber ends at the head, in order, each snapshot once.
    #[test]
    fn the_subscriber_arrives_where_main_is(deeds in deeds()) {
        let (mut model, mut subscriber) = (Model::default(), Subscriber::default());
        for deed in deeds.iter().chain([&Deed::Look]) {
            model.does(deed);
            if matches!(deed, Deed::Look) {
                subscriber.hears(&model)?;
                prop_assert_eq!(subscriber.head, model.seen.head);
                prop_assert_eq!(steps(subscriber.last, &model.seen), vec![]);
            }
        }
        if model.expired.is_empty() {
            prop_assert_eq!(subscriber.ever, model.truth.keys().copied().collect::<BTreeSet<_>>(), "something was never said");
        }
    }

    /// A rewind is said exactly if `main` went back; a gap exactly if something unsaid is gone.
    #[test]
    fn rewinds_and_gaps_are_true(deeds in deeds()) {
        let (mut model, mut subscriber) = (Model::default(), Subscriber::default());
        for deed in &deeds {
            model.does(deed);
            if !matches!(deed, Deed::Look) {
                continue;
            }
            let (head, unsaid) = (subscriber.head, subscriber.told.clone());
            let said = subscriber.hears(&model)?;
            let past = model.past(model.seen.head);
            let left = head.is_some_and(|head| !past.contains(&head));
            let lost = past.iter().any(|id| model.expired.contains(id) && !unsaid.contains(id));
            let rewound = said.iter().any(|step| matches!(step, Announcement::Rewound { .. }));
            let gap = said.iter().any(|step| matches!(step, Announcement::Gap { .. }));
            let went_back = std::mem::take(&mut model.went_back);
            if model.expired.is_empty() {
                prop_assert_eq!((rewound, gap), (went_back, false));
            } else {
                // Where both happened and the evidence is expired, one of the two is said.
                prop_assert!(!rewound || went_back, "a rewind that was none: {:?}", said);
                prop_assert!(!gap || lost || went_back, "a gap that was none: {:?}", said);
                prop_assert!(rewound || gap || !(lost || left), "silence: {:?}", said);
            }
        }
    }
}
